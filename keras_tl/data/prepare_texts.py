"""From texts to three splits that are ready to train on."""

import functools
from dataclasses import dataclass
from typing import ClassVar

from keras_tl.data.audit.findings import Audit
from keras_tl.data.audit.text_judging import (
    CountTokens,
    SeenTexts,
    judge_texts,
    look_through_texts,
)
from keras_tl.data.pipeline import Samples, Tokenize
from keras_tl.data.prepared import Prepared, divide
from keras_tl.data.source import Source
from keras_tl.data.text_input import TextInput
from keras_tl.data.texts import inspect_texts


@dataclass(frozen=True)
class TextData(Prepared):
    """Texts, inspected and divided.

    Attributes:
        source: All texts in which something can be seen, and what was passed over.
        text_input: How they become tokens.
        tokenize: What makes tokens of them.
        seen: What was seen of all texts; None where they were not looked through.
        audit: What is, or might be, wrong with them, judged by `seen`; None likewise.
    """

    source: Source
    text_input: TextInput
    tokenize: Tokenize | None = None
    seen: SeenTexts | None = None
    audit: Audit | None = None
    nouns: ClassVar[str] = "texts"

    @property
    def input_size(self) -> int:
        """How many tokens are read of a text."""
        return self.text_input.max_tokens * self.text_input.windows

    @property
    def windows(self) -> int:
        """The most windows that a text is cut into."""
        return self.text_input.windows

    def samples(self, split: str) -> Samples:
        """The texts of one split, "train", "val" or "test"."""
        return Samples(self.source.split(split), self.text_input, tokenize=self.tokenize)


def prepare_texts(
    source: Source,
    text_input: TextInput | None = None,
    *,
    tokenize: Tokenize | None = None,
    val_fraction: float = 0.15,
    test_fraction: float = 0.15,
    seed: int = 0,
    max_bad_fraction: float = 0.1,
    audit: bool = True,
    strict: bool = False,
    count_tokens: CountTokens | None = None,
) -> TextData:
    """Leaves out texts in which nothing can be seen, looks the others through, divides them.

    Args:
        source: Texts, see `keras_tl.data.texts`.
        text_input: How they become tokens; None is the default.
        tokenize: What makes tokens of them, see `Samples`.
        val_fraction: See `assign_splits`.
        test_fraction: See `assign_splits`.
        seed: Decides the splits.
        max_bad_fraction: See `inspect_texts`.
        audit: Whether to look through the texts, see `look_through_texts`: near-duplicates then
            stay on one side of a split that is made here, and findings are logged.
        strict: Whether to refuse data in which something serious is found.
        count_tokens: Counts the tokens of texts, so that the audit can say how many are cut.

    Returns:
        The splits.

    Raises:
        InputError: The data cannot be used.
        AuditError: It is strict, and something serious was found.
    """
    text_input = text_input or TextInput()
    source = inspect_texts(source, max_bad_fraction=max_bad_fraction)
    seen = look_through_texts(source, count_tokens) if audit or strict else None
    shares = {"val_fraction": val_fraction, "test_fraction": test_fraction}
    judged = functools.partial(judge_texts, text_input=text_input)
    source, found = divide(source, seen, judged, seed=seed, strict=strict, **shares)
    return TextData(source, text_input, tokenize, seen, found)
