"""The values that settings may have, and the errors for others."""

import os
from contextlib import suppress
from numbers import Real
from typing import Any, NamedTuple

from keras_tl.errors import InputError, did_you_mean

# The values that settings may have. They are written out here, because what they name is in
# modules that import TensorFlow.
CHOICES = {
    "resize": ("squash", "crop", "pad", "shorter-crop"),
    "task": ("auto", "single-label", "multi-label", "regression"),
    "optimizer": ("adamw", "adam", "sgd", "rmsprop"),
    "plan": ("auto", "feature-extraction", "full", "lp-ft", "gradual"),
    "schedule": ("constant", "step", "cosine", "one-cycle"),
    "averaging": ("none", "ema", "swa"),
    "augment": ("none", "light", "strong", "dihedral", "randaugment", "trivial"),
    "sampling": ("shuffled", "balanced"),
    "head_start": ("fitted", "given"),
    "precision": ("float32", "mixed_bfloat16", "mixed_float16"),
    "feature_dtype": ("auto", "float16", "float32"),
    "engine": ("auto", "tensorflow"),
    "truncate": ("auto", "head", "head-tail"),
    "markup": ("auto", "keep", "drop"),
    "pooling": ("auto", "mean", "cls", "layers"),
}


class Range(NamedTuple):
    """What a number may be."""

    low: float
    high: float
    open_end: str = ""  # "low" or "high" where that end is not allowed itself


SHARE = Range(0.0, 1.0, "high")
RANGES = {
    "epochs": Range(0, 10**6),
    "fine_tune_epochs": Range(0, 10**6),
    "batch_size": Range(1, 10**6),
    "micro_batches": Range(1, 10**4),
    "learning_rate": Range(0.0, 10**6, "low"),
    "fine_tune_learning_rate": Range(0.0, 10**6, "low"),
    "layer_decay": Range(0.0, 1.0, "low"),
    "clip_norm": Range(1e-9, 10**9),
    "image_size": Range(1, 10**5),
    "patience": Range(1, 10**6),
    "views": Range(2, 10**6),
    "max_tokens": Range(4, 10**5),
    "windows": Range(1, 1000),
    "bag_of_words": Range(0, 2**16),
    "weight_decay": Range(0.0, 10.0),
    "l2_sp": Range(0.0, 10.0),
    "label_smoothing": SHARE,
    "focal_gamma": Range(0.0, 10.0),
    "mixup": Range(0.0, 10.0),
    "cutmix": Range(0.0, 1.0),
    "class_weight_beta": SHARE,
    "dropout": SHARE,
    "val_fraction": SHARE,
    "test_fraction": SHARE,
    "lora_rank": Range(1, 10**6),
    "seed": Range(0, 2**32 - 1),
}


def choice(name: str, value: str, choices: tuple[str, ...], more: str = "") -> None:
    """Refuses a value that is not among `choices`; `more` says what else it may be."""
    if value not in choices:
        listed = f"{', '.join(choices)} {more}".strip()
        hint = did_you_mean(value, choices, f"Choose {listed}.")
        raise InputError(f"{name} to be one of {listed}", repr(value), hint)


def as_written(value: Any) -> Any:
    """A setting as a configuration file has it: of a path its text, of NumPy a plain number."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.item() if hasattr(value, "dtype") and getattr(value, "ndim", 1) == 0 else value


def in_utf8(name: str, value: str) -> None:
    """Refuses a text that cannot be written to a file or be the name of one."""
    with suppress(UnicodeEncodeError):
        if b"\0" not in value.encode():
            return
    fix = "Choose another one, or rename it."
    raise InputError(f"{name} in characters of UTF-8 other than NUL", repr(value), fix)


def within(name: str, value: float | None, allowed: Range) -> None:
    """Refuses a setting that is out of its range; None is in any."""
    if not isinstance(value, Real | None):
        raise InputError(f"{name} as one number", repr(value), "Mend the value.")
    low, high, end = allowed
    if value is None or (low <= value <= high and value != {"low": low, "high": high}.get(end)):
        return
    least = f"above {low:g}" if end == "low" else f"of at least {low:g}"
    most = f"below {high:g}" if end == "high" else f"at most {high:g}"
    raise InputError(f"{name} {least} and {most}", str(value), "Mend the value.")
