"""What a model sees of a text: how many tokens, in how many windows, of how many texts."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from keras_tl.errors import InputError, did_you_mean

# The first and the last token of a window are the encoder's own, and so is one between two texts.
OWN_TOKENS = 2
LARGEST_MAX_TOKENS, LARGEST_WINDOWS, LARGEST_BAG = 2**16, 64, 2**16
TRUNCATIONS, MARKUP = ("head", "head-tail"), ("keep", "drop")

# Raised whenever the same text would become other tokens.
TOKENIZER_VERSION = 1


@dataclass(frozen=True)
class Reading:
    """How much of texts is read: int64 `[texts]` each, the encoder's own tokens not counted.

    Attributes:
        written: How many tokens they have.
        read: How many of them are read.
        readable: How many could be read, given enough windows.
        windows: The fewest windows that read all of `readable`.
    """

    written: np.ndarray
    read: np.ndarray
    readable: np.ndarray
    windows: np.ndarray

    def is_whole(self, windows: int) -> np.ndarray:
        """Which texts are read whole in this many windows: bool `[texts]`."""
        return (self.windows <= windows) & (self.readable == self.written)


@dataclass(frozen=True)
class TextInput:
    """How texts become the tokens that a model is fed.

    One value of this is shared by training, evaluation, prediction and the exported model.

    Attributes:
        max_tokens: How many tokens a window has, those at its ends included; what is beyond is
            cut off, or goes into the next window.
        windows: The most windows that a long text is cut into.
        texts: 1, or 2 for pairs of texts (a title and a body).
        truncate: What is read of a text that is longer than all windows: "head", its beginning,
            or "head-tail", as much of its beginning as of its end.
        markup: "keep", or "drop" where HTML tags are not read.
        bag_of_words: Number of buckets that count the words of whole texts; 0 counts none.
        tokenizer_version: The version of the tokenizer that these settings were made for.

    Raises:
        InputError: A setting is out of range.
    """

    max_tokens: int = 128
    windows: int = 1
    texts: int = 1
    truncate: str = "head"
    markup: str = "keep"
    bag_of_words: int = 0
    tokenizer_version: int = TOKENIZER_VERSION

    def __post_init__(self) -> None:
        if self.texts not in (1, 2):
            raise InputError("1 text, or 2 for pairs", repr(self.texts), "Join the others.")
        least = OWN_TOKENS + 2 * self.texts - 1
        for name, value, low, high, usual in (
            ("max_tokens", self.max_tokens, least, LARGEST_MAX_TOKENS, 128),
            ("windows", self.windows, 1, LARGEST_WINDOWS, 1),
            ("bag_of_words", self.bag_of_words, 0, LARGEST_BAG, 4096),
        ):
            if not low <= value <= high:
                raise InputError(f"{name} from {low} to {high}", repr(value), f"Try {usual}.")
        for name, choice, known in (
            ("truncate", self.truncate, TRUNCATIONS),
            ("markup", self.markup, MARKUP),
        ):
            if choice not in known:
                hint = did_you_mean(choice, known, f"Try {known[0]}.")
                raise InputError(f"{name} to be {' or '.join(known)}", repr(choice), hint)
        if self.tokenizer_version != TOKENIZER_VERSION:
            raise InputError(
                f"tokenizer version {TOKENIZER_VERSION}",
                repr(self.tokenizer_version),
                "The model was made with another version of keras_tl: use that one.",
            )

    @property
    def tokenized_by(self) -> dict[str, Any]:
        """The settings that a tokenizer and an encoder are built with."""
        sizes = asdict(self)
        del sizes["tokenizer_version"]
        return sizes

    def reading(self, tokens: np.ndarray) -> Reading:
        """How much of texts is read.

        Args:
            tokens: int64 `[texts, 4]`, the columns of `Reading`, if the tokenizer measured them;
                else `[texts]`, how many each text has: the two texts of a pair then share one
                window.
        """
        if tokens.ndim == 2:
            return Reading(*tokens.T)
        windows = np.maximum(-(-tokens // (self.room // self.windows)), 1)
        return Reading(tokens, np.minimum(tokens, self.room), tokens, windows)

    @property
    def room(self) -> int:
        """The most tokens of a text that all windows hold, the encoder's own not counted.

        For a pair, the first text takes up a part of each window: see `reading`.
        """
        return self.windows * (self.max_tokens - OWN_TOKENS - (self.texts - 1))
