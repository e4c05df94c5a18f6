"""Options of the commands that have many, as rows."""

import argparse
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from keras_tl.place_options import place_options

# Option of `train`, type, placeholder for its value in the help, help text.
TRAIN_OPTIONS: tuple[tuple[str, Any, str, str], ...] = (
    (
        "--backbone",
        str,
        "NAME",
        "pretrained backbone, see keras-tl backbones; EfficientNetLite0, for texts MiniLM, if not "
        "given",
    ),
    (
        "--weights",
        str,
        "W",
        "imagenet (for texts the encoder's own), none, or, for images, a .weights.h5, .keras or "
        ".h5 file",
    ),
    ("--image-size", int, "N", "height and width in pixels; the backbone's own if not given"),
    ("--resize", str, "MODE", "squash, crop, pad or shorter-crop"),
    ("--task", str, "TASK", "auto, single-label, multi-label or regression"),
    ("--epochs", int, "N", "epochs of the new head alone"),
    ("--learning-rate", float, "R", "highest learning rate of the head"),
    ("--plan", str, "NAME", "auto, feature-extraction, full, lp-ft or gradual"),
    (
        "--fine-tune",
        str,
        "HOW",
        "auto (where a probe says it pays), a number of blocks, all, none, lora or bitfit",
    ),
    ("--lora-rank", int, "N", "rank of the adapters of --fine-tune lora"),
    (
        "--fine-tune-epochs",
        int,
        "N",
        "epochs of the fine-tuning; 12, for texts 3 to 24, if not given",
    ),
    (
        "--fine-tune-learning-rate",
        float,
        "R",
        "highest learning rate of the fine-tuning; 2e-4, for texts 5e-5 (MiniLM: 3e-4), for lora "
        "and bitfit 1e-3, if not given",
    ),
    ("--optimizer", str, "NAME", "adamw, adam, sgd or rmsprop"),
    ("--schedule", str, "NAME", "constant, step, cosine or one-cycle"),
    ("--layer-decay", float, "D", "factor of the rate from each block to the one before; try 0.8"),
    ("--weight-decay", float, "W", "decoupled weight decay"),
    ("--l2-sp", float, "A", "pull pretrained weights to where they started; try 0.1"),
    ("--averaging", str, "HOW", "none, ema or swa: end a phase with a mean of its weights"),
    ("--label-smoothing", float, "S", "share of a target spread over all classes"),
    ("--dropout", float, "P", "dropout before the last layer"),
    ("--patience", int, "N", "stop a phase after so many epochs without a lower val loss"),
    (
        "--augment",
        str,
        "HOW",
        "none, light (for images if not given), strong, dihedral (flips and quarter turns), "
        "randaugment or trivial",
    ),
    ("--mixup", float, "A", "blend samples of a batch, by shares from Beta(A, A); try 0.2"),
    ("--cutmix", float, "P", "paste a box of another image into this share of the views"),
    ("--focal-gamma", float, "G", "focal loss: what is known already counts less; try 2"),
    ("--sampling", str, "HOW", "shuffled, or balanced: all classes equally often"),
    (
        "--head-start",
        str,
        "HOW",
        "fitted: of few items the head starts at a logistic regression; given: at random",
    ),
    (
        "--class-weight-beta",
        float,
        "B",
        "rare classes count more, by their effective number of images; try 0.999",
    ),
    ("--batch-size", int, "N", "items in a batch, over all devices"),
    ("--micro-batches", int, "N", "compute a batch in so many parts, to need less memory"),
    ("--clip-norm", float, "C", "clip each gradient to this norm"),
    ("--val-fraction", float, "F", "share of the items that choose the best epoch"),
    ("--test-fraction", float, "F", "share of the items that the final figures come from"),
    ("--views", int, "K", "random views of each image; 4 with light, else 8"),
    (
        "--feature-dtype",
        str,
        "T",
        "auto, float16 or float32: how frozen outputs are kept",
    ),
    ("--engine", str, "NAME", "auto or tensorflow: what computes the frozen part"),
    ("--seed", int, "S", "seed of everything random"),
    ("--precision", str, "P", "float32, mixed_bfloat16 or mixed_float16"),
    ("--max-bad-fraction", float, "F", "share of unreadable images or texts that stops a run"),
    ("--max-tokens", int, "N", "texts: tokens that are read, in each window"),
    (
        "--windows",
        int,
        "K",
        "texts: windows of a long text, over which is averaged; 1 to 4 by need",
    ),
    (
        "--truncate",
        str,
        "HOW",
        "texts: of one that is longer than that read its head, or head-tail: beginning and end; "
        "auto is head-tail",
    ),
    (
        "--markup",
        str,
        "HOW",
        "texts: keep or drop HTML tags; auto drops them where a text in a hundred has some",
    ),
    (
        "--bag-of-words",
        int,
        "N",
        "texts: buckets in which the words of whole texts are counted, beside the encoder's "
        "features; 0 for none; 4096 if not given",
    ),
    (
        "--pooling",
        str,
        "HOW",
        "texts: mean or cls of an encoder's last block, or layers, the means of all its blocks; "
        "auto is layers",
    ),
)
COLUMN_OPTIONS: tuple[tuple[str, Any, str, str], ...] = (
    ("--path-column", str, "NAME", "CSV: column of image paths"),
    ("--text-column", str, "NAME", "column of texts, or several as TITLE,BODY: the data are texts"),
    ("--id-column", str, "NAME", "texts: column of ids; lines are named if not given"),
    ("--encoding", str, "NAME", "texts: encoding of the file or the files"),
    ("--label-column", str, "NAME", "CSV: column of labels, or several separated by commas"),
    ("--split-column", str, "NAME", "CSV: column of splits"),
    ("--group-column", str, "NAME", "CSV: column of groups never divided between splits"),
)
# Options of `train` that decide pixels and splits: `compare` has them too.
SHARED_OPTIONS = (
    "--weights",
    "--image-size",
    "--resize",
    "--task",
    "--augment",
    "--val-fraction",
    "--test-fraction",
    "--feature-dtype",
    "--engine",
    "--max-bad-fraction",
    "--max-tokens",
    "--windows",
    "--truncate",
    "--markup",
)
# Options of `train` that define a model, apart from its training.
MODEL_OPTIONS = (
    "--backbone",
    "--weights",
    "--image-size",
    "--resize",
    "--engine",
    "--max-tokens",
    "--windows",
    "--truncate",
    "--markup",
)
# Options that change an audit. Not --resize: images are looked at before they are resized.
AUDIT_OPTIONS = (*(name for name in MODEL_OPTIONS if name != "--resize"), "--task", "--seed")
COMPARE_OPTIONS: tuple[tuple[str, Any, str, str], ...] = (
    (
        "--backbones",
        str,
        "A,B,C",
        "pretrained backbones, see keras-tl backbones; a few if left out",
    ),
    ("--out", str, "FILE", "write all figures to a JSON file"),
    ("--shots", str, "K,L,M", "with --few-shot: images of each class"),
    ("--seeds", str, "S,T,U", "with --few-shot: seeds of the choice of these images"),
    ("--folds", int, "N", "folds of the cross-validation"),
    ("--images", int, "N", "look at so many images at most"),
    ("--seed", int, "S", "seed of the splits and the folds"),
    *(row for row in TRAIN_OPTIONS if row[0] in SHARED_OPTIONS),
)


def train_options(command: ArgumentParser) -> None:
    """Adds what `train` takes: the settings of `TrainConfig`, and a file of them."""
    about = "folder of class folders (perhaps below train, val, test), a CSV file, or tfds:NAME"
    command.add_argument("data", metavar="DATA", nargs="?", default=argparse.SUPPRESS, help=about)
    command.add_argument("--out", metavar="RUN", default=argparse.SUPPRESS, help="the run's folder")
    _settings(command, TRAIN_OPTIONS)
    for name, about in (
        ("--class-weights", "let all classes count the same"),
        ("--deterministic", "the same bits each time, also of a run that was stopped; slower"),
        ("--tensorboard", "write TensorBoard logs to RUN/tensorboard"),
        ("--strict", "end before training, with exit code 3, where something serious is found"),
        ("--baseline", "train a small network from scratch too (texts always have a baseline)"),
    ):
        _flag(command, name, about)
    about = "keep what the frozen part of the model gives, instead of computing it at every step"
    _flag(command, "--feature-cache", f"{about} (default: True)")
    _audit(command)
    column_options(command)
    place_options(command)
    about = "settings from a run's config.yaml; options given beside it win"
    command.add_argument("--config", metavar="FILE", default=None, help=about)


def audit_options(command: ArgumentParser) -> None:
    """Adds what `audit` takes."""
    command.add_argument("data", metavar="DATA", help="as for train")
    about = "look for wrong labels, by a pass of a backbone over all items"
    command.add_argument(
        "--labels", action=argparse.BooleanOptionalAction, default=True, help=about
    )
    about = "end with exit code 3 where something serious is found"
    command.add_argument("--strict", action="store_true", help=about)
    command.add_argument("--json", metavar="FILE", default=None, help="write the findings to FILE")
    _settings(command, [row for row in TRAIN_OPTIONS if row[0] in AUDIT_OPTIONS])
    column_options(command)


def compare_options(command: ArgumentParser) -> None:
    """Adds what `compare` takes: the settings of `CompareConfig`."""
    from keras_tl.compare_config import CompareConfig

    command.add_argument("data", metavar="DATA", help="as for train")
    _settings(command, COMPARE_OPTIONS, CompareConfig)
    about = "measure probes of a few images of each class too"
    _flag(command, "--few-shot", about)
    place_options(command)
    _audit(command)
    column_options(command)


def _audit(command: ArgumentParser) -> None:
    about = "look through the items first; else near-duplicates may lie in two splits"
    _flag(command, "--audit", f"{about} (default: True)")


def _flag(command: ArgumentParser, name: str, about: str) -> None:
    """Adds a setting that is on or off, and `--no-NAME`: a file may say the opposite."""
    action = argparse.BooleanOptionalAction
    command.add_argument(name, action=action, default=argparse.SUPPRESS, help=about)


# Options of `train` that a sweep of the learning rate has no use for.
NOT_SWEPT = ("--learning-rate", "--fine-tune-learning-rate", "--schedule", "--averaging")


def lr_find_options(command: ArgumentParser) -> None:
    """Adds what `lr-find` takes: the settings of `TrainConfig` that decide the loss."""
    command.add_argument("data", metavar="DATA", help="as for train")
    about = "the page with the curve"
    command.add_argument("--out", metavar="FILE", default="lr-find.html", help=about)
    about = "train the head as well, then sweep the rate of the fine-tuning"
    command.add_argument("--fine-tuning", action="store_true", help=about)
    command.add_argument("--steps", type=int, metavar="N", default=100, help="steps of a sweep")
    _settings(command, [row for row in TRAIN_OPTIONS if row[0] not in NOT_SWEPT])
    about = "let all classes count the same"
    _flag(command, "--class-weights", about)
    place_options(command)
    _audit(command)
    column_options(command)


def model_input_options(command: ArgumentParser) -> None:
    """Adds the options that choose a backbone and its input."""
    _settings(command, [row for row in TRAIN_OPTIONS if row[0] in MODEL_OPTIONS])


def positive(text: str) -> int:
    """A whole number of 1 or more."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, received {text}")
    return value


def export_options(command: ArgumentParser) -> None:
    """Adds what `export` takes: a run, formats and precisions."""
    command.add_argument("run_folder", metavar="RUN", help="the folder of a finished run")
    about = "litert, onnx, or both separated by a comma"
    command.add_argument("--format", metavar="F", default="litert", help=about)
    about = "float32, float16, int8, or several separated by commas"
    command.add_argument("--precision", metavar="P", default="float32", help=about)
    about = "difference of probabilities allowed; for int8 the accuracy that may be lost, of a "
    about += "regression standard deviations"
    command.add_argument("--tolerance", type=float, metavar="T", default=None, help=about)
    about = "where the one export goes; RUN/FORMAT-PRECISION if not given"
    command.add_argument("--out", metavar="FOLDER", default=None, help=about)


def threshold_options(command: ArgumentParser) -> None:
    """Adds what `threshold` takes: a run, and one rule."""
    command.add_argument("run_folder", metavar="RUN", help="the folder of a finished run")
    rule = command.add_mutually_exclusive_group(required=True)
    for name, about in (
        ("specificity", "of those that are not positive, let this share pass"),
        ("sensitivity", "of those that are positive, find this share"),
        ("precision", "of those called positive, let this share be so"),
    ):
        rule.add_argument(
            f"--{name}", type=float, metavar="S", default=argparse.SUPPRESS, help=about
        )
    about = "the highest F1, or the highest sensitivity + specificity"
    rule.add_argument("--best", choices=("f1", "youden"), default=argparse.SUPPRESS, help=about)
    about = "what a new run has: the most probable class, or 0.5 for each label"
    rule.add_argument("--reset", action="store_true", default=argparse.SUPPRESS, help=about)
    about = "of two classes the one looked for; the rarer one if not given"
    command.add_argument("--positive", metavar="CLASS", default=None, help=about)


def column_options(command: ArgumentParser, *, groups: bool = True) -> None:
    """Adds the names of a table's columns; those of groups where items are divided."""
    _settings(command, [row for row in COLUMN_OPTIONS if groups or row[0] != "--group-column"])
    about = "texts: two columns are a pair, rather than one text with the first above the second"
    _flag(command, "--pair", about)


def as_train_options(config: Any) -> list[str]:
    """The options with which `train` reads, divides and sees what a `CompareConfig` does."""
    rows = (*COLUMN_OPTIONS, *(row for row in TRAIN_OPTIONS if row[0] in SHARED_OPTIONS))
    words = []
    for option in (*(row[0] for row in rows), "--seed"):
        name = option.removeprefix("--").replace("-", "_")
        if (value := getattr(config, name)) != getattr(type(config), name):
            words += [option, str(value)]
    return words + ["--pair"] * config.pair + ["--no-audit"] * (not config.audit)


def _settings(
    command: ArgumentParser, rows: Sequence[tuple[str, Any, str, str]], config: Any = None
) -> None:
    """Adds options of a configuration, absent where not given, so that a file may set them."""
    from keras_tl.config import TrainConfig

    defaults = {field.name: field.default for field in fields(config or TrainConfig)}
    for option, type_, metavar, about in rows:
        default = defaults[option.removeprefix("--").replace("-", "_")]
        shown = about if default is None else f"{about} (default: {default})"
        command.add_argument(
            option, type=type_, metavar=metavar, default=argparse.SUPPRESS, help=shown
        )
