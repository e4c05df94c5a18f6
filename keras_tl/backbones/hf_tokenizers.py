"""The tokenizer of a Hugging Face folder, read from whichever of its files there are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_tl.backbones.byte_pair import BytePairTokenizer
from keras_tl.backbones.tokenizers import Tokenizer, WordPieceTokenizer
from keras_tl.errors import InputError


def word_piece(folder: Path) -> Callable[..., Tokenizer]:
    """What makes a BERT's tokenizer, of `max_tokens`, `windows` and how texts are read."""
    settings = optional_json(folder / "tokenizer_config.json")
    whole = optional_json(folder / "tokenizer.json")
    normalizer = _object(whole.get("normalizer"), "a normalizer")
    if not settings.get("tokenize_chinese_chars", True):
        raise InputError(
            "a tokenizer that splits Chinese characters",
            "tokenize_chinese_chars: false",
            "Use another encoder.",
        )
    lowercase = settings.get("do_lower_case", normalizer.get("lowercase", True))
    strip = settings.get("strip_accents", normalizer.get("strip_accents"))
    special = {**optional_json(folder / "special_tokens_map.json"), **settings}
    vocabulary = _vocabulary(folder, whole)

    def make(max_tokens: int, windows: int, **reading: Any) -> Tokenizer:
        return WordPieceTokenizer(
            vocabulary,
            max_tokens,
            windows,
            lowercase=lowercase,
            strip_accents=lowercase if strip is None else strip,
            unknown=_content(special.get("unk_token", "[UNK]")),
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
    """What makes a RoBERTa's tokenizer, of `max_tokens`, `windows` and how texts are read."""
    model = _object(optional_json(folder / "tokenizer.json").get("model"), "a model")
    if model:
        pairs, ids = _merges(model.get("merges")), model.get("vocab")
    else:
        ids = read_json(folder / "vocab.json")
        lines = read_text(folder / "merges.txt").splitlines()
        pairs = [line for line in lines if line and not line.startswith("#version")]
    vocabulary, merges = _by_id(ids), "\n".join(pairs)

    def make(max_tokens: int, windows: int, **reading: Any) -> Tokenizer:
        return BytePairTokenizer(
            vocabulary, max_tokens, windows, merges=merges, name="tokenizer", **reading
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
    return _by_id(model.get("vocab"))


def _object(value: Any, what: str) -> dict[str, Any]:
    """A part of tokenizer.json; one that is not there is empty."""
    if value is None or isinstance(value, dict):
        return value or {}
    raise InputError(f"{what} in tokenizer.json", type(value).__name__, "Copy the file again.")


def _by_id(ids: Any) -> str:
    """The tokens of a vocabulary in the order of their ids, one a line."""
    fits = isinstance(ids, dict) and all(isinstance(number, int) for number in ids.values())
    if not fits:
        fix = "Copy the tokenizer's files again."
        raise InputError("a vocabulary of tokens and their numbers", type(ids).__name__, fix)
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
