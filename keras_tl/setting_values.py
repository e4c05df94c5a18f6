"""The values that settings may have, and what is said of others."""

from contextlib import suppress

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
# Smallest and largest allowed value; the largest is not included where it is 1.
RANGES = {
    "epochs": (0, 10**6),
    "fine_tune_epochs": (0, 10**6),
    "batch_size": (1, 10**6),
    "micro_batches": (1, 10**4),
    "clip_norm": (1e-9, 10**9),
    "image_size": (1, 10**5),
    "patience": (1, 10**6),
    "views": (2, 10**6),
    "max_tokens": (4, 10**5),
    "windows": (1, 1000),
    "bag_of_words": (0, 2**16),
    "weight_decay": (0.0, 10.0),
    "l2_sp": (0.0, 10.0),
    "label_smoothing": (0.0, 1.0),
    "focal_gamma": (0.0, 10.0),
    "mixup": (0.0, 10.0),
    "class_weight_beta": (0.0, 1.0),
    "dropout": (0.0, 1.0),
    "val_fraction": (0.0, 1.0),
    "test_fraction": (0.0, 1.0),
    "lora_rank": (1, 10**6),
    "seed": (0, 2**32 - 1),
}


def choice(name: str, value: str, choices: tuple[str, ...], more: str = "") -> None:
    """Refuses a setting that is none of its values; `more` says what else it may be."""
    if value not in choices:
        listed = f"{', '.join(choices)} {more}".strip()
        hint = did_you_mean(value, choices, f"Choose {listed}.")
        raise InputError(f"{name} to be one of {listed}", repr(value), hint)


def in_utf8(name: str, value: str) -> None:
    """Refuses a text that no file can hold, or that no file can be called."""
    with suppress(UnicodeEncodeError):
        if b"\0" not in value.encode():
            return
    fix = "Choose another one, or rename it."
    raise InputError(f"{name} in characters of UTF-8 other than NUL", repr(value), fix)


def within(name: str, value: float | None, low: float, high: float) -> None:
    """Refuses a setting that is out of its range; see `RANGES`. None is in any."""
    if value is None or (low <= value <= high and (value < high or high != 1)):
        return
    end = "below 1" if high == 1 else f"at most {high:g}"
    raise InputError(f"{name} of at least {low:g} and {end}", str(value), "Mend the value.")
