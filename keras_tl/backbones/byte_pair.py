"""RoBERTa's tokenizer: byte pairs."""

import functools
from typing import Any

import keras
import tensorflow as tf

from keras_tl.backbones.tokenizers import INSTALL, Tokenizer
from keras_tl.errors import InputError

# Longer pieces are merged in parts of this many bytes: the work grows with the longest part.
LONGEST_PIECE = 256
UNKNOWN = "<unk>"
# Unicode's white space, which RE2's \s does not cover.
_BLANK = r"\t-\r\x{85}\pZ"
# In the place of GPT-2's lookahead, which RE2 lacks: the last of a run of blanks goes with the word
# after it; between such words remain the other blanks, and those at the end.
_WORD = rf"[{_BLANK}]?[^{_BLANK}]+"
_PIECE = (
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+"
    rf"| ?[^{_BLANK}\p{{L}}\p{{N}}]+|[{_BLANK}]+"
)
_FIX = "Copy the tokenizer's files again."


@keras.saving.register_keras_serializable(package="keras_tl")
class BytePairTokenizer(Tokenizer):
    """Words with the blank before them, made of bytes by the merges of a vocabulary.

    Gives the ids of `tokenizers`' ByteLevel and BPE, as RoBERTa is published with them, with these
    exceptions:

    - A piece of more than 256 bytes (a word, or a run of blanks) is merged in parts of 256.
    - A byte that is not in the vocabulary is "<unk>"; there it may be left out.
    - Special tokens that are written out in a text are no special tokens here.
    - NUL characters are left out.
    - Letters and digits are those of RE2's version of Unicode.

    Reference: Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", ACL
    2016; Radford et al., "Language Models are Unsupervised Multitask Learners", 2019 (bytes).

    Args:
        vocabulary: See `keras_tl.backbones.tokenizers.Tokenizer`.
        max_tokens: See there.
        windows: See there.
        merges: Pairs of pieces with a blank between them, the first to be merged first, one a
            line.
        prefix_space: Whether a text is read as if a blank stood before it.
        specials: See there; by default RoBERTa's.
        ends_between: See there; RoBERTa has two.
        segments: See there; RoBERTa has none.
        **kwargs: Of `keras.layers.Layer`.

    Raises:
        InputError: See `Tokenizer`; a merge is no pair of pieces, is there twice, or its pieces or
            what they make are not in the vocabulary; a byte is not, nor "<unk>"; or the package
            tensorflow-text is not installed.
    """

    def __init__(
        self,
        vocabulary: str,
        max_tokens: int = 128,
        windows: int = 1,
        *,
        merges: str,
        prefix_space: bool = False,
        specials: tuple[str, str, str] = ("<s>", "</s>", "<pad>"),
        ends_between: int = 2,
        segments: bool = False,
        **kwargs: Any,
    ):
        super().__init__(
            vocabulary,
            max_tokens,
            windows,
            specials=specials,
            ends_between=ends_between,
            segments=segments,
            **kwargs,
        )
        self.merges = merges
        self.prefix_space = prefix_space
        self._byte_pairs = _byte_pairs(vocabulary, merges)

    def pieces(self, strings: tf.Tensor) -> tf.RaggedTensor:
        """See `Tokenizer.pieces`."""
        strings = tf.strings.unicode_transcode(strings, "UTF-8", "UTF-8")
        # tensorflow-text would stop reading there.
        strings = tf.strings.regex_replace(strings, r"\x00", "")
        if self.prefix_space:
            strings = tf.strings.regex_replace(strings, r"\A([^ ])", r" \1")
        return self._byte_pairs.tokenize(strings)

    def get_config(self) -> dict[str, Any]:
        """The layer's settings, the vocabulary and the merges among them."""
        return {**super().get_config(), "merges": self.merges, "prefix_space": self.prefix_space}


class _BytePairs(tf.Module):
    """Holds the tables and the function that uses them, so that both are exported.

    Args:
        ids: The number of each token.
        merges: Pairs of pieces, by rank.
    """

    def __init__(self, ids: dict[str, int], merges: list[tuple[str, str]]):
        super().__init__()
        self._tokens = len(ids)
        self._bytes = tf.constant(_byte_ids(ids), tf.int64)
        # A table cannot be empty.
        made = [ids[first + second] for first, second in merges] or [0]
        keys = [ids[first] * self._tokens + ids[second] for first, second in merges] or [-1]
        self._made = tf.constant(made, tf.int64)
        self._ranks = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                tf.constant(keys, tf.int64), tf.range(len(keys), dtype=tf.int64)
            ),
            default_value=-1,
        )
        self.tokenize = tf.function(
            self._tokenize, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False
        )

    def _tokenize(self, strings: tf.Tensor) -> tf.RaggedTensor:
        pieces = _pieces(strings)
        different, which = tf.unique(pieces.flat_values)
        ids = tf.gather(self._merged(different), which)
        return tf.RaggedTensor.from_row_splits(
            tf.cast(ids.flat_values, tf.int32), tf.gather(ids.row_splits, pieces.row_splits)
        )

    def _merged(self, pieces: tf.Tensor) -> tf.RaggedTensor:
        """The ids of each piece."""
        split = tf.strings.bytes_split(pieces)
        rows = split.value_rowids()
        place = tf.range(tf.size(rows, tf.int64)) - tf.gather(split.row_starts(), rows)
        # Parts are numbered: nothing is merged across their ends.
        parts = tf.cumsum(tf.cast(place % LONGEST_PIECE == 0, tf.int64)) - 1
        row_of_part = tf.boolean_mask(rows, place % LONGEST_PIECE == 0)
        codes = tf.reshape(tf.io.decode_raw(split.flat_values, tf.uint8), [-1])
        ids = tf.gather(self._bytes, tf.cast(codes, tf.int32))
        ids, parts, _ = tf.while_loop(
            lambda ids, parts, is_more: is_more,
            lambda ids, parts, _: self._merge_once(ids, parts, tf.size(row_of_part)),
            (ids, parts, tf.constant(True)),
            shape_invariants=(tf.TensorShape([None]), tf.TensorShape([None]), tf.TensorShape([])),
        )
        rows = tf.gather(row_of_part, parts)
        return tf.RaggedTensor.from_value_rowids(ids, rows, nrows=split.nrows())

    def _merge_once(
        self, ids: tf.Tensor, parts: tf.Tensor, count: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Merges the pair of the lowest rank in each part; of several such pairs, the first."""
        rank = self._ranks.lookup(ids[:-1] * self._tokens + ids[1:])
        can = (rank >= 0) & (parts[:-1] == parts[1:])
        size = tf.size(ids, tf.int64)
        order = tf.where(can, rank * size + tf.range(tf.size(rank, tf.int64)), tf.int64.max)
        best = tf.math.unsorted_segment_min(order, parts[:-1], count)
        chosen = can & (order == tf.gather(best, parts[:-1]))
        made = tf.gather(self._made, tf.boolean_mask(rank, chosen))
        ids = tf.tensor_scatter_nd_update(ids, tf.where(chosen), made)
        kept = tf.concat([tf.fill([tf.minimum(size, 1)], True), ~chosen], axis=0)
        return tf.boolean_mask(ids, kept), tf.boolean_mask(parts, kept), tf.reduce_any(chosen)


def _pieces(strings: tf.Tensor) -> tf.RaggedTensor:
    """Splits texts by GPT-2's pattern."""
    try:
        from tensorflow_text import regex_split
    except ModuleNotFoundError as error:
        missing = "an environment without it"
        raise InputError("the package tensorflow-text", missing, INSTALL) from error
    words = regex_split(strings, _WORD, _WORD)
    return regex_split(words, _PIECE, _PIECE).merge_dims(1, 2)


def _byte_ids(ids: dict[str, int]) -> list[int]:
    """The id of each byte, by the character that stands for it in vocabularies."""
    shown = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    symbols = [chr(byte if byte in shown else next(others)) for byte in range(0x100)]
    missing = [symbol for symbol in symbols if symbol not in ids]
    if missing and UNKNOWN not in ids:
        expected = f"a vocabulary with all bytes, or {UNKNOWN!r} for others"
        raise InputError(expected, f"one without {missing[0]!r}", _FIX)
    return [ids.get(symbol, ids.get(UNKNOWN, 0)) for symbol in symbols]


@functools.lru_cache(maxsize=4)
def _byte_pairs(vocabulary: str, merges: str) -> _BytePairs:
    """The tables; copies of a model share them."""
    ids = {token: number for number, token in enumerate(vocabulary.split("\n"))}
    pairs = [tuple(line.split(" ")) for line in merges.split("\n")] if merges else []
    seen = set()
    for pair in pairs:
        if len(pair) != 2 or pair in seen or not {*pair, "".join(pair)} <= ids.keys():
            expected = "merges of two pieces each, once, of pieces in the vocabulary"
            raise InputError(expected, repr(" ".join(pair))[:80], _FIX)
        seen.add(pair)
    # Outside any graph that is being traced.
    with tf.init_scope():
        return _BytePairs(ids, [(pair[0], pair[1]) for pair in pairs])
