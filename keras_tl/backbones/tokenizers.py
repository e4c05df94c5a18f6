"""Strings to token ids, as a layer, so that an exported model takes the strings users have."""

import functools
from typing import Any

import keras
import tensorflow as tf

from keras_tl.backbones.bag_of_words import as_rows, count_words, rows_of
from keras_tl.backbones.markup import MARKUP, NEWEST, RULES, without_markup
from keras_tl.errors import InputError, did_you_mean, in_one_line

INSTALL = "Run: pip install 'keras_tl[text]'"
# What BERT's tokenizers leave out before anything else: control and format characters, private
# ones, U+FFFD; tab and line ends are blanks.
_CONTROL = r"[\x00-\x08\x0B\x0C\x0E-\x1F\x7F-\x{9F}\p{Cf}\p{Co}\x{FFFD}]"
# Longer words are unknown; a character has up to 4 bytes.
_LONGEST_WORD = 100
WORD_LIMITS = {"characters": 4 * _LONGEST_WORD, "bytes": _LONGEST_WORD}
_IDEOGRAPHS = r"\x{3400}-\x{4DBF}\x{4E00}-\x{9FFF}"
# Characters that words end at, except ASCII's blanks.
_BETWEEN_WORDS = (
    r"[\p{Z}\p{P}$+<=>^`|~"
    + _IDEOGRAPHS
    + r"\x{F900}-\x{FAFF}\x{20000}-\x{2A6DF}\x{2A700}-\x{2CEAF}\x{2F800}-\x{2FA1F}]"
)
# Cheap to look for: without a match, no word is longer than the limit.
_MAY_BE_LONGER = (
    r"(?s).*[^\x00-\x2F\x3A-\x40\x5B-\x60\x7B-\x7F\x{3001}\x{3002}\x{FF0C}"
    + _IDEOGRAPHS
    + rf"]{{{_LONGEST_WORD + 1}}}.*"
)
# A private-use character: these are removed from texts before, so no vocabulary has it.
_NO_WORD = "\ue000"
# What is kept of a text that is too long: its beginning, or its beginning and its end.
TRUNCATIONS = ("head", "head-tail")


class Tokenizer(keras.layers.Layer):
    """Turns strings into the tokens of an encoder; runs on the host and has no weights.

    A text is `[start] pieces [end]`, a pair `[start] first [end] second [end]`. A text that is too
    long for a window goes on in the next one, up to the last; what is left then is cut off: its
    end, or its middle. Of a pair the first text stands in every window, and the second goes on; in
    one window the longer of the two is shortened first, as `transformers` does by default. Windows
    without a text are padding. Special tokens are never read from a text: "[SEP]" in it is five
    characters.

    Reference: Sun et al., "How to Fine-Tune BERT for Text Classification?", CCL 2019, section 5.3.1
    (what to keep of long texts).

    Args:
        vocabulary: The tokens in the order of their ids, one a line.
        max_tokens: Tokens in a window, special ones included.
        windows: How many windows there are.
        specials: The start, end and padding tokens.
        ends_between: How many end tokens stand between the texts of a pair.
        segments: Whether the second text of a pair has segment id 1; else all have 0.
        truncate: What is kept of a text that is too long for all windows: "head", its beginning,
            or "head-tail", as much of its beginning as of its end.
        markup: "keep", or "drop" to read no HTML tags, see `keras_tl.backbones.markup`.
        bag_of_words: Number of buckets that count the words of whole texts, see
            `keras_tl.backbones.bag_of_words`; 0 counts none.
        markup_rules: Which of `keras_tl.backbones.markup.RULES` say what markup is.
        **kwargs: Of `keras.layers.Layer`.

    Raises:
        InputError: A special token is not in the vocabulary, a token is there twice, the windows
            are too short, or an unknown `truncate`, `markup` or `markup_rules`.
    """

    # See `keras_tl.backbones.host`.
    on_host = True

    def __init__(
        self,
        vocabulary: str,
        max_tokens: int = 128,
        windows: int = 1,
        *,
        specials: tuple[str, str, str] = ("[CLS]", "[SEP]", "[PAD]"),
        ends_between: int = 1,
        segments: bool = True,
        truncate: str = "head",
        markup: str = "keep",
        bag_of_words: int = 0,
        markup_rules: int = NEWEST,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        _check_reading(truncate, markup, markup_rules)
        least = 2 + ends_between
        if max_tokens < least:
            fix = "128 is usual."
            raise InputError(f"at least {least} tokens in a window", str(max_tokens), fix)
        self.vocabulary = vocabulary
        self.max_tokens = max_tokens
        self.windows = windows
        self.specials = tuple(specials)
        self.ends_between = ends_between
        self.segments = segments
        self.truncate = truncate
        self.markup, self.markup_rules = markup, markup_rules
        self.bag_of_words = bag_of_words
        tokens = vocabulary.split("\n")
        known = {token: number for number, token in enumerate(tokens)}
        if len(known) < len(tokens):
            twice = next(token for number, token in enumerate(tokens) if known[token] != number)
            fix = "Check the vocabulary's file."
            raise InputError("each token once in the vocabulary", f"{twice!r} twice", fix)
        missing = [token for token in specials if token not in known]
        if missing:
            raise InputError(
                "a vocabulary with the special tokens",
                f"one without {', '.join(map(repr, missing))}",
                "Check the vocabulary's file.",
            )
        self.start, self.end, self.pad = (known[token] for token in specials)

    def pieces(self, strings: tf.Tensor) -> tf.RaggedTensor:
        """Splits strings (`[batch]`) into token ids, int32 `[batch, (any number)]`."""
        raise NotImplementedError

    # Whether `measure` can be called; see `keras_tl.backbones.host`.
    counts = True

    def measure(self, text: tf.Tensor) -> tf.Tensor:
        """Says how much of texts is read, and in how many windows more would be.

        Args:
            text: Strings `[batch]`, or `[batch, 2]` for pairs.

        Returns:
            int32 `[batch, 4]`, special tokens not counted: how many tokens are written, how many
            are read, how many would be with any number of windows (of a pair's first text, never
            what one window has no room for), and the least number of windows that reads these.
        """
        first, second = self._texts(self._without_markup(text))
        goes_on = _lengths(second)
        written, shown, before = goes_on, tf.zeros_like(goes_on), tf.ones_like(goes_on)
        if first is not None:
            _, before = self._head(first, goes_on)
            written, shown = goes_on + _lengths(first), before - 1 - self.ends_between
        stretch = self.max_tokens - 1 - before
        read = shown + tf.minimum(goes_on, self.windows * stretch)
        # Where a window has room for one token only, the first text's may take it.
        readable = shown + tf.where(stretch > 0, goes_on, 0)
        windows = tf.where(stretch > 0, -(-goes_on // tf.maximum(stretch, 1)), 1)
        return tf.stack([written, read, readable, tf.maximum(windows, 1)], axis=1)

    def call(self, text: tf.Tensor) -> tf.Tensor:
        """Tokenizes.

        Args:
            text: Strings in UTF-8, `[batch]`, or `[batch, 2]` for pairs.

        Returns:
            int32 `[batch, 2, windows * max_tokens]`: token ids and segment ids; behind these two
            rows, where words are counted, as many as their counts need.
        """
        text = self._without_markup(text)
        first, second = self._texts(text)
        if first is None:
            head = tf.fill([tf.shape(text)[0], self.max_tokens], self.start)
            # Number of tokens in a window before the text that goes on.
            before = tf.ones_like(_lengths(second))
        else:
            head, before = self._head(first, _lengths(second))
        tokens = self._windows(head, before, second, is_pair=first is not None)
        if not self.bag_of_words:
            return tokens
        counts = as_rows(count_words(text, self.bag_of_words), tokens.shape[2])
        return tf.concat([tokens, counts], axis=1)

    def _texts(self, text: tf.Tensor) -> tuple[tf.RaggedTensor | None, tf.RaggedTensor]:
        """The pieces of the text that stands in every window, and of the one that goes on."""
        if text.shape.rank == 1:
            return None, self.pieces(text)
        return self.pieces(text[:, 0]), self.pieces(text[:, 1])

    def _head(self, first: tf.RaggedTensor, others: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """What stands before the second text: `[batch, max_tokens]`, and how much of it counts."""
        room = self.max_tokens - 2 - self.ends_between
        lengths = _lengths(first)
        # Both too long: half each, an odd place to the longer one.
        half = (room + tf.cast(lengths > others, tf.int32)) // 2
        lengths = tf.minimum(lengths, tf.maximum(room - others, half))
        ids = self._shortened(first, lengths).to_tensor(self.pad, shape=[None, self.max_tokens - 1])
        ids = tf.pad(ids, [[0, 0], [1, 0]], constant_values=self.start)
        ids = tf.where(tf.range(self.max_tokens) > lengths[:, None], self.end, ids)
        return ids, 1 + lengths + self.ends_between

    def _windows(
        self, head: tf.Tensor, before: tf.Tensor, text: tf.RaggedTensor, is_pair: bool
    ) -> tf.Tensor:
        """Lays a text out behind the head of each window."""
        length = self.windows * self.max_tokens
        text = self._shortened(text, self.windows * (self.max_tokens - 1 - before))
        ids = text.to_tensor(self.pad, shape=[None, length])
        # [batch, windows, max_tokens] from here on.
        before = before[:, None, None]
        stretch = self.max_tokens - 1 - before
        starts = tf.range(self.windows)[None, :, None] * stretch
        counts = tf.clip_by_value(_lengths(text)[:, None, None] - starts, 0, stretch)
        place = tf.range(self.max_tokens)[None, None, :] - before
        body = tf.gather(ids, tf.clip_by_value(starts + place, 0, length - 1), batch_dims=1)
        tokens = tf.where(place < 0, head[:, None, :], tf.where(place == counts, self.end, body))
        used = (place <= counts) & ((counts > 0) | (starts == 0))
        tokens = tf.where(used, tokens, self.pad)
        second = used & (place >= 0) if is_pair and self.segments else tf.zeros_like(used)
        both = tf.stack([tokens, tf.cast(second, tf.int32)], axis=1)
        return tf.reshape(both, [-1, 2, length])

    def _shortened(self, text: tf.RaggedTensor, room: tf.Tensor) -> tf.RaggedTensor:
        """Leaves out the middle of texts longer than `room` (`[batch]`), if `truncate` says so.

        Else they stay as they are: what exceeds the room is not laid out.
        """
        if self.truncate == "head":
            return text
        lengths = _lengths(text)
        rows = text.value_rowids()
        place = tf.range(tf.size(rows)) - tf.cast(tf.gather(text.row_starts(), rows), tf.int32)
        tail = tf.where(lengths > room, room // 2, 0)
        head = tf.minimum(lengths, room) - tail
        kept = (place < tf.gather(head, rows)) | (place >= tf.gather(lengths - tail, rows))
        return tf.ragged.boolean_mask(text, text.with_values(kept))

    def compute_output_spec(self, text: keras.KerasTensor) -> keras.KerasTensor:
        """The tokens' shape and dtype."""
        length = self.windows * self.max_tokens
        shape = (text.shape[0], 2 + rows_of(self.bag_of_words, length), length)
        return keras.KerasTensor(shape, "int32", name="tokens")

    def get_config(self) -> dict[str, Any]:
        """The layer's settings, the vocabulary among them."""
        # Left out where it was not there before, so that the keys of what was stored stay.
        is_later = self.markup == "drop" and self.markup_rules > 1
        return {
            **super().get_config(),
            **({"markup_rules": self.markup_rules} if is_later else {}),
            "vocabulary": self.vocabulary,
            "max_tokens": self.max_tokens,
            "windows": self.windows,
            "specials": self.specials,
            "ends_between": self.ends_between,
            "segments": self.segments,
            "truncate": self.truncate,
            "markup": self.markup,
            "bag_of_words": self.bag_of_words,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Tokenizer":
        """Makes the layer from its settings; older ones do not say which rules markup has."""
        return cls(**{"markup_rules": 1, **config})

    def _without_markup(self, text: tf.Tensor) -> tf.Tensor:
        return text if self.markup == "keep" else without_markup(text, self.markup_rules)


@keras.saving.register_keras_serializable(package="keras_tl")
class WordPieceTokenizer(Tokenizer):
    """BERT's tokenizer: words at blanks and punctuation, then the longest known pieces.

    Gives the ids of `transformers`' BertTokenizer, with these exceptions:

    - The capital sigma at a word's end becomes the final small one, as Unicode has it.
    - Special tokens that are written out in a text are no special tokens here.

    Reference: Wu et al., "Google's Neural Machine Translation System", 2016; Song et al., "Fast
    WordPiece Tokenization", EMNLP 2021.

    Args:
        vocabulary: See `Tokenizer`.
        max_tokens: See `Tokenizer`.
        windows: See `Tokenizer`.
        lowercase: Whether texts are made lower-case first.
        strip_accents: Whether accents are taken off first.
        unknown: The token for words that cannot be made of the vocabulary's pieces.
        word_limit: Whether words of more than 100 "characters" or 100 "bytes" are unknown; models
            saved before there was a choice have the latter.
        **kwargs: See `Tokenizer`.

    Raises:
        InputError: See `Tokenizer`; an unknown `word_limit`; or the package tensorflow-text is not
            installed.
    """

    def __init__(
        self,
        vocabulary: str,
        max_tokens: int = 128,
        windows: int = 1,
        *,
        lowercase: bool = True,
        strip_accents: bool = True,
        unknown: str = "[UNK]",
        word_limit: str = "characters",
        **kwargs: Any,
    ):
        super().__init__(vocabulary, max_tokens, windows, **kwargs)
        if f"\n{unknown}\n" not in f"\n{vocabulary}\n":
            fix = "Check the vocabulary's file."
            expected = "a vocabulary with a token for what is unknown"
            raise InputError(expected, f"no {unknown!r}", fix)
        self.lowercase = lowercase
        self.strip_accents = strip_accents
        self.unknown = unknown
        if word_limit not in WORD_LIMITS:
            hint = did_you_mean(word_limit, WORD_LIMITS, "Leave it out.")
            raise InputError("a limit of words in characters or bytes", repr(word_limit), hint)
        self.word_limit = word_limit
        self._word_pieces = _word_pieces(vocabulary, unknown, WORD_LIMITS[word_limit])

    def pieces(self, strings: tf.Tensor) -> tf.RaggedTensor:
        """See `Tokenizer.pieces`."""
        from tensorflow_text import normalize_utf8

        strings = tf.strings.unicode_transcode(strings, "UTF-8", "UTF-8")
        strings = tf.strings.regex_replace(strings, _CONTROL, "")
        if self.strip_accents:
            strings = tf.strings.regex_replace(normalize_utf8(strings, "NFD"), r"\p{Mn}", "")
        if self.lowercase:
            strings = tf.strings.lower(strings, encoding="utf-8")
        if self.word_limit == "characters":
            may_be = tf.reduce_any(tf.strings.regex_full_match(strings, _MAY_BE_LONGER))
            strings = tf.cond(may_be, lambda: _without_longer(strings), lambda: strings)
        return self._word_pieces.tokenize(strings)

    def get_config(self) -> dict[str, Any]:
        """The layer's settings, the vocabulary among them."""
        # "bytes" is left out, so that the keys of what was stored before do not change.
        later = {} if self.word_limit == "bytes" else {"word_limit": self.word_limit}
        return {
            **super().get_config(),
            "lowercase": self.lowercase,
            "strip_accents": self.strip_accents,
            "unknown": self.unknown,
            **later,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WordPieceTokenizer":
        """Makes the layer from its settings; older ones have no `word_limit`, which was "bytes"."""
        return cls(**{"word_limit": "bytes", "markup_rules": 1, **config})


def _check_reading(truncate: str, markup: str, markup_rules: int) -> None:
    for what, value, choices in (
        ("a kind of truncation", truncate, TRUNCATIONS),
        ("a treatment of markup", markup, MARKUP),
    ):
        if value not in choices:
            hint = did_you_mean(value, choices, f"Choose one of {', '.join(choices)}.")
            raise InputError(what, repr(value), hint)
    if markup_rules not in RULES:
        fix = "The model was made with a newer version of keras_tl: use that one."
        raise InputError(f"rules of markup up to {NEWEST}", str(markup_rules), fix)


def _without_longer(strings: tf.Tensor) -> tf.Tensor:
    """Replaces words of too many characters by something that is no word."""
    apart = tf.strings.regex_replace(strings, _BETWEEN_WORDS, r" \0 ")
    return tf.strings.regex_replace(apart, rf"\S{{{_LONGEST_WORD + 1},}}", _NO_WORD)


@functools.lru_cache(maxsize=4)
def _word_pieces(vocabulary: str, unknown: str, most_bytes: int) -> Any:
    """The compiled vocabulary; copies of a model share it."""
    try:
        from tensorflow_text import FastWordpieceTokenizer
    except ModuleNotFoundError as error:
        raise InputError(
            "the package tensorflow-text", "an environment without it", INSTALL
        ) from error
    # Outside any graph that is being traced.
    try:
        with tf.init_scope():
            return FastWordpieceTokenizer(
                vocabulary.split("\n"),
                max_bytes_per_word=most_bytes,
                token_out_type=tf.int32,
                unknown_token=unknown,
            )
    except RuntimeError as error:
        reason = in_one_line(error)
        fix = "Check the vocabulary's file."
        raise InputError("a vocabulary that can be searched", reason, fix) from error


def _lengths(pieces: tf.RaggedTensor) -> tf.Tensor:
    return tf.cast(pieces.row_lengths(), tf.int32)
