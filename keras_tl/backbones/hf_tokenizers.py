"""The tokenizer of a Hugging Face folder, read from whichever of its files there are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_tl.backbones.byte_pair import BytePairTokenizer
from keras_tl.backbones.tokenizers import Tokenizer, WordPieceTokenizer
from keras_tl.errors import InputError

ROBERTA_SPECIALS = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>"}


def word_piece(folder: Path) -> Callable[..., Tokenizer]:
    """A maker of BERT's tokenizers, from `max_tokens`, `windows` and how texts are read."""
    settings = optional_json(folder / "tokenizer_config.json")
    whole = optional_json(folder / "tokenizer.json")
    for name in ("normalizer", "pre_tokenizer"):
        # With BERT's own, a tokenizer that has none would make other tokens.
        if name in whole and whole[name] is None:
            fix = "Save it with transformers' BertTokenizerFast."
            raise InputError(f"a {name} in {folder / 'tokenizer.json'}", "none", fix)
    normalizer = _object(whole.get("normalizer"), "a normalizer")
    splits = _object(whole.get("pre_tokenizer"), "a pre-tokenizer")
    model = _object(whole.get("model"), "a model")
    _check_class(folder, settings, ("Bert", "DistilBert"))
    for what, part, key, usual in (
        ("a tokenizer", settings, "word_tokenizer_type", "basic"),
        ("a tokenizer", settings, "subword_tokenizer_type", "wordpiece"),
        ("a tokenizer", settings, "do_basic_tokenize", True),
        ("a tokenizer that splits Chinese characters", settings, "tokenize_chinese_chars", True),
        ("a normalizer", normalizer, "type", "BertNormalizer"),
        ("a normalizer that splits Chinese characters", normalizer, "handle_chinese_chars", True),
        ("a pre-tokenizer", splits, "type", "BertPreTokenizer"),
        ("a normalizer", normalizer, "clean_text", True),
        ("a model", model, "continuing_subword_prefix", "##"),
        ("a model", model, "max_input_chars_per_word", 100),
    ):
        _check_usual(what, part, key, usual)
    lowercase = settings.get("do_lower_case", normalizer.get("lowercase", True))
    strip = settings.get("strip_accents", normalizer.get("strip_accents"))
    special = {**optional_json(folder / "special_tokens_map.json"), **settings}
    unknown = _content(special.get("unk_token", "[UNK]"))
    _check_usual("a model", model, "unk_token", unknown)
    vocabulary = _vocabulary(folder, whole)

    def make(max_tokens: int, windows: int, **reading: Any) -> Tokenizer:
        return WordPieceTokenizer(
            vocabulary,
            max_tokens,
            windows,
            lowercase=lowercase,
            strip_accents=lowercase if strip is None else strip,
            unknown=unknown,
            specials=(
                _content(special.get("cls_token", "[CLS]")),
                _content(special.get("sep_token", "[SEP]")),
                _content(special.get("pad_token", "[PAD]")),
            ),
            name="tokenizer",
            **reading,
        )

    return make


def byte_pair(folder: Path) -> Callable[..., Tokenizer]:
    """A maker of RoBERTa's tokenizers, from `max_tokens`, `windows` and how texts are read."""
    settings = optional_json(folder / "tokenizer_config.json")
    whole = optional_json(folder / "tokenizer.json")
    model = _object(whole.get("model"), "a model")
    splits = _object(whole.get("pre_tokenizer"), "a pre-tokenizer")
    _check_class(folder, settings, ("Roberta",))
    for what, part, key, usual in (
        ("a tokenizer", {"normalizer": whole.get("normalizer")}, "normalizer", None),
        ("a pre-tokenizer", splits, "type", "ByteLevel"),
        ("a pre-tokenizer", splits, "use_regex", True),
        ("a model", model, "type", "BPE"),
        ("a model", model, "continuing_subword_prefix", ""),
        ("a model", model, "end_of_word_suffix", ""),
    ):
        _check_usual(what, part, key, usual)
    prefix_space = settings.get("add_prefix_space", splits.get("add_prefix_space", False))
    if model:
        pairs, ids = _merges(model.get("merges")), _with_added(model.get("vocab"), whole)
    else:
        ids = read_json(folder / "vocab.json")
        lines = read_text(folder / "merges.txt").splitlines()
        pairs = [line for line in lines if line and not line.startswith("#version")]
    vocabulary, merges = _by_id(ids), "\n".join(pairs)
    named = {**ROBERTA_SPECIALS, **optional_json(folder / "special_tokens_map.json"), **settings}
    cls, sep, pad = (_content(named[key]) for key in ROBERTA_SPECIALS)

    def make(max_tokens: int, windows: int, **reading: Any) -> Tokenizer:
        return BytePairTokenizer(
            vocabulary,
            max_tokens,
            windows,
            merges=merges,
            prefix_space=bool(prefix_space),
            specials=(cls, sep, pad),
            name="tokenizer",
            **reading,
        )

    return make


def _content(token: str | dict[str, Any]) -> str:
    """A special token, which some files keep with its settings."""
    content = token.get("content") if isinstance(token, dict) else token
    if not isinstance(content, str):
        fix = "Copy the tokenizer's files again."
        raise InputError("a special token as text", repr(token), fix)
    return content


def _vocabulary(folder: Path, whole: dict[str, Any]) -> str:
    """The tokens in the order of their ids, one a line."""
    path = folder / "vocab.txt"
    if path.is_file():
        return read_text(path).rstrip("\n")
    model = _object(whole.get("model"), "a model")
    if model.get("type") != "WordPiece":
        raise InputError(
            f"a WordPiece vocabulary in {folder} (vocab.txt or tokenizer.json)",
            str(model.get("type", "none")),
            "Copy the tokenizer's files into the folder.",
        )
    return _by_id(_with_added(model.get("vocab"), whole))


def _object(value: Any, what: str) -> dict[str, Any]:
    """A part of tokenizer.json; {} if it is missing."""
    if value is None or isinstance(value, dict):
        return value or {}
    raise InputError(f"{what} in tokenizer.json", type(value).__name__, "Copy the file again.")


def _check_class(folder: Path, settings: dict[str, Any], kinds: tuple[str, ...]) -> None:
    """Refuses tokenizers that have a class of their own."""
    # The general class (older and newer name) is known: tokenizer.json says what it does.
    known = ["PreTrainedTokenizerFast", "TokenizersBackend"]
    known += [f"{kind}Tokenizer{fast}" for kind in kinds for fast in ("", "Fast")]
    name = settings.get("tokenizer_class")
    name = name or optional_json(folder / "config.json").get("tokenizer_class")
    if name is not None and name not in known:
        expected = f"a tokenizer_class of {' or '.join(known[2:])}"
        raise InputError(expected, repr(name)[:80], "Use another encoder.")


def _check_usual(what: str, part: dict[str, Any], key: str, usual: Any) -> None:
    """Refuses a part of a tokenizer with a setting that is not supported; null counts as unset."""
    found = part.get(key)
    if found is not None and found != usual:
        expected = f"{what} with {key}: {json.dumps(usual)}"
        raise InputError(expected, json.dumps(found)[:80], "Use another encoder.")


def _with_added(ids: Any, whole: dict[str, Any]) -> Any:
    """A vocabulary, and what tokenizer.json adds to it behind its end."""
    added = whole.get("added_tokens") or []
    if not isinstance(ids, dict) or not isinstance(added, list):
        return ids
    fits = [token for token in added if isinstance(token, dict) and "id" in token]
    return {_content(token): token["id"] for token in fits} | ids


def _by_id(ids: Any) -> str:
    """The tokens of a vocabulary in the order of their ids, one a line."""
    fix = "Copy the tokenizer's files again."
    fits = isinstance(ids, dict) and all(type(number) is int for number in ids.values())
    if not fits:
        raise InputError("a vocabulary of tokens and their numbers", type(ids).__name__, fix)
    if sorted(ids.values()) != list(range(len(ids))):
        received = f"{len(ids)} tokens with other numbers"
        raise InputError(f"tokens numbered from 0 to {len(ids) - 1}, each once", received, fix)
    if any("\n" in token for token in ids):
        raise InputError("tokens of one line", repr(next(t for t in ids if "\n" in t))[:80], fix)
    return "\n".join(sorted(ids, key=ids.__getitem__))


def _merges(pairs: Any) -> list[str]:
    """Pairs of pieces with a blank between them; newer files keep each pair as a list."""
    lists = pairs if isinstance(pairs, list) else [None]
    parts: list[Any] = [pair.split(" ") if isinstance(pair, str) else pair for pair in lists]
    if not all(isinstance(pair, list) and all(isinstance(p, str) for p in pair) for pair in parts):
        raise InputError("pairs of pieces as merges", "others", "Copy the tokenizer's files again.")
    return [" ".join(pair) for pair in parts]


def optional_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object; empty where there is no such file."""
    return read_json(path) if path.is_file() else {}


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object, or raises `InputError`."""
    text = read_text(path)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"JSON in {path}", str(error), "Copy the file again.") from error
    if not isinstance(found, dict):
        raise InputError(f"a JSON object in {path}", type(found).__name__, "Copy the file again.")
    return found


def read_text(path: Path) -> str:
    """Reads a file in UTF-8, or raises `InputError`."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        fix = "Give the folder of a Hugging Face model."
        raise InputError(f"the file {path}", "no such file", fix) from error
    except UnicodeDecodeError as error:
        raise InputError(f"text in UTF-8 in {path}", str(error), "Copy the file again.") from error
