"""Options of the commands that have many, as rows."""

import argparse
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

# Option of `train`, type, what stands for its value in the help, the help.
TRAIN_OPTIONS: tuple[tuple[str, Any, str, str], ...] = (
    ("--backbone", str, "NAME", "pretrained backbone, see keras-tl backbones"),
    ("--weights", str, "W", "imagenet, none, or a .weights.h5, .keras or .h5 file"),
    ("--image-size", int, "N", "height and width in pixels; the backbone's own if not given"),
    ("--resize", str, "MODE", "squash, crop, pad or shorter-crop"),
    ("--task", str, "TASK", "auto, single-label, multi-label or regression"),
    ("--epochs", int, "N", "epochs of the new head alone"),
    ("--learning-rate", float, "R", "highest learning rate of the head"),
    (
        "--fine-tune",
        str,
        "HOW",
        "auto (where a probe says it pays), a number of blocks, all or none",
    ),
    ("--fine-tune-epochs", int, "N", "epochs of the fine-tuning"),
    ("--fine-tune-learning-rate", float, "R", "highest learning rate of the fine-tuning"),
    ("--optimizer", str, "NAME", "adamw, adam, sgd or rmsprop"),
    ("--schedule", str, "NAME", "constant, step or cosine"),
    ("--weight-decay", float, "W", "decoupled weight decay"),
    ("--label-smoothing", float, "S", "share of a target spread over all classes"),
    ("--dropout", float, "P", "dropout before the last layer"),
    ("--patience", int, "N", "stop a phase after so many epochs without a lower val loss"),
    ("--augment", str, "HOW", "none, light, strong or dihedral (flips and quarter turns)"),
    ("--batch-size", int, "N", "images in a batch"),
    ("--val-fraction", float, "F", "share of the images that choose the best epoch"),
    ("--test-fraction", float, "F", "share of the images that the final figures come from"),
    ("--views", int, "K", "views of each image; those of light and strong are 4 and 8"),
    (
        "--feature-dtype",
        str,
        "T",
        "auto, float16 or float32: how frozen outputs are kept",
    ),
    ("--engine", str, "NAME", "auto or tensorflow: what computes the frozen part"),
    ("--seed", int, "S", "seed of everything random"),
    ("--precision", str, "P", "float32, mixed_bfloat16 or mixed_float16"),
    ("--max-bad-fraction", float, "F", "share of unreadable images that stops a run"),
)
COLUMN_OPTIONS: tuple[tuple[str, Any, str, str], ...] = (
    ("--path-column", str, "NAME", "CSV: column of image paths"),
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
)
COMPARE_OPTIONS: tuple[tuple[str, Any, str, str], ...] = (
    ("--backbones", str, "A,B,C", "pretrained backbones, see keras-tl backbones"),
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
        ("--tensorboard", "write TensorBoard logs to RUN/tensorboard"),
    ):
        command.add_argument(name, action="store_true", default=argparse.SUPPRESS, help=about)
    about = "compute the frozen part of the model at every step"
    command.add_argument(
        "--no-feature-cache",
        dest="feature_cache",
        action="store_false",
        default=argparse.SUPPRESS,
        help=about,
    )
    column_options(command)
    about = "settings from a run's config.yaml; options given beside it win"
    command.add_argument("--config", metavar="FILE", default=None, help=about)


def audit_options(command: ArgumentParser) -> None:
    """Adds what `audit` takes."""
    command.add_argument("data", metavar="DATA", help="as for train")
    about = "look for wrong labels, by a pass of a backbone over all images"
    command.add_argument(
        "--labels", action=argparse.BooleanOptionalAction, default=True, help=about
    )
    about = "end with exit code 3 where something serious is found"
    command.add_argument("--strict", action="store_true", help=about)
    command.add_argument("--json", metavar="FILE", default=None, help="write the findings to FILE")
    column_options(command)


def compare_options(command: ArgumentParser) -> None:
    """Adds what `compare` takes: the settings of `CompareConfig`."""
    command.add_argument("data", metavar="DATA", help="as for train")
    _settings(command, COMPARE_OPTIONS, "CompareConfig")
    about = "measure probes of a few images of each class too"
    command.add_argument("--few-shot", action="store_true", default=argparse.SUPPRESS, help=about)
    column_options(command)


def column_options(command: ArgumentParser) -> None:
    """Adds the names of a table's columns."""
    _settings(command, COLUMN_OPTIONS)


def _settings(
    command: ArgumentParser, rows: Sequence[tuple[str, Any, str, str]], kind: str = "TrainConfig"
) -> None:
    """Adds options of a configuration, absent where not given, so that a file may set them."""
    from keras_tl import config

    defaults = {field.name: field.default for field in fields(getattr(config, kind))}
    for option, kind, metavar, about in rows:
        default = defaults[option.removeprefix("--").replace("-", "_")]
        shown = about if default is None else f"{about} (default: {default})"
        command.add_argument(
            option, type=kind, metavar=metavar, default=argparse.SUPPRESS, help=shown
        )
