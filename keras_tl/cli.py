"""The command line. TensorFlow is imported only by commands that work with it."""

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from keras_tl.errors import InputError, KerasTLError, did_you_mean

log = logging.getLogger("keras_tl")

BAD_INPUT, FAILED_CHECK, INTERRUPTED = 2, 1, 130


class _Parser(argparse.ArgumentParser):
    """Answers a wrong option in one line, with what was probably meant."""

    def __init__(self, **options: Any):
        super().__init__(
            allow_abbrev=False, formatter_class=argparse.ArgumentDefaultsHelpFormatter, **options
        )

    def error(self, message: str) -> NoReturn:
        prefix = "unrecognized arguments: "
        if message.startswith(prefix):
            known = [name for action in self._actions for name in action.option_strings]
            hint = did_you_mean(message.removeprefix(prefix).split()[0], known)
            message = f"{message}. {hint}".strip()
        self.exit(BAD_INPUT, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: What stands behind `keras-tl`; by default the process's own.

    Returns:
        0 when all went well, 2 for input that cannot be used, 1 where a check of keras_tl's own
        failed, 130 when interrupted.
    """
    options, unknown = _parser().parse_known_args(arguments)
    if unknown:
        options.command.error(f"unrecognized arguments: {' '.join(unknown)}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("keras_tl").setLevel(logging.INFO)
    try:
        return options.run(options)
    except KerasTLError as error:
        print(f"keras-tl: {error}", file=sys.stderr)
        return BAD_INPUT if isinstance(error, InputError) else FAILED_CHECK
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"keras-tl: {where}{error.strerror or error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("keras-tl: interrupted", file=sys.stderr)
        return INTERRUPTED


def _parser() -> _Parser:
    parser = _Parser(prog="keras-tl", description="Transfer learning for Keras 3.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str) -> _Parser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run, command=command)
        return command

    _train_options(add("train", _train, "Train, measure and export a model of images."))
    command = add("evaluate", _evaluate, "Measure a run's model on labelled images.")
    command.add_argument("run_folder", metavar="RUN", help="the folder of a finished run")
    command.add_argument("data", metavar="DATA", help="as for train")
    _column_options(command)
    command = add("predict", _predict, "Predict image files with a run's model.")
    command.add_argument("run_folder", metavar="RUN", help="the folder of a finished run")
    command.add_argument("files", metavar="FILE_OR_FOLDER", nargs="+", help="what to predict")
    about = "classes to show, the most probable first"
    command.add_argument(
        "--top", type=_positive, default=argparse.SUPPRESS, metavar="K", help=about
    )
    about = "table, csv or json"
    command.add_argument("--format", choices=("table", "csv", "json"), default="table", help=about)
    command = add("backbones", _backbones, "List the pretrained backbones.")
    command.add_argument(
        "pattern", metavar="PATTERN", nargs="?", default="*", help="such as mobile"
    )
    command = add("cache", _cache, "List or clear the stored outputs of frozen backbones.")
    command.add_argument("action", choices=("list", "clear"), help="what to do")
    command = add("demo", _demo, "Find defective solar cells: the whole job on real photographs.")
    command.add_argument(
        "--out", metavar="RUN", default="runs/solar-cells", help="the run's folder"
    )
    command.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the split")
    return parser


# Option of `train`, type, what stands for its value in the help, the help.
_TRAIN_OPTIONS: tuple[tuple[str, Any, str, str], ...] = (
    ("--backbone", str, "NAME", "pretrained backbone, see keras-tl backbones"),
    ("--weights", str, "W", "imagenet, none, or a .weights.h5, .keras or .h5 file"),
    ("--image-size", int, "N", "height and width in pixels; the backbone's own if not given"),
    ("--resize", str, "MODE", "squash, crop, pad or shorter-crop"),
    ("--task", str, "TASK", "auto, single-label, multi-label or regression"),
    ("--epochs", int, "N", "epochs of the new head alone"),
    ("--learning-rate", float, "R", "highest learning rate of the head"),
    ("--fine-tune", str, "HOW", "auto, a number of blocks, all or none"),
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
_COLUMN_OPTIONS: tuple[tuple[str, Any, str, str], ...] = (
    ("--path-column", str, "NAME", "CSV: column of image paths"),
    ("--label-column", str, "NAME", "CSV: column of labels, or several separated by commas"),
    ("--split-column", str, "NAME", "CSV: column of splits"),
    ("--group-column", str, "NAME", "CSV: column of groups never divided between splits"),
)


def _train_options(command: _Parser) -> None:
    about = "folder of class folders (perhaps below train, val, test), a CSV file, or tfds:NAME"
    command.add_argument("data", metavar="DATA", nargs="?", default=argparse.SUPPRESS, help=about)
    command.add_argument("--out", metavar="RUN", default=argparse.SUPPRESS, help="the run's folder")
    _settings(command, _TRAIN_OPTIONS)
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
    _column_options(command)
    about = "settings from a run's config.yaml; options given beside it win"
    command.add_argument("--config", metavar="FILE", default=None, help=about)


def _column_options(command: _Parser) -> None:
    _settings(command, _COLUMN_OPTIONS)


def _settings(command: _Parser, rows: Sequence[tuple[str, Any, str, str]]) -> None:
    """Adds options of `TrainConfig`, absent where not given, so that a file may set them."""
    from keras_tl.config import TrainConfig

    defaults = {field.name: field.default for field in fields(TrainConfig)}
    for option, kind, metavar, about in rows:
        default = defaults[option.removeprefix("--").replace("-", "_")]
        shown = about if default is None else f"{about} (default: {default})"
        command.add_argument(
            option, type=kind, metavar=metavar, default=argparse.SUPPRESS, help=shown
        )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, received {text}")
    return value


def _given(options: argparse.Namespace, *but: str) -> dict[str, Any]:
    return {k: v for k, v in vars(options).items() if k not in ("run", "command", *but)}


def _train(options: argparse.Namespace) -> int:
    from keras_tl.config import make_config, read_config

    settings = read_config(options.config) if options.config else {}
    config = make_config({**settings, **_given(options, "config")})

    return _show_run(_job().train(config, verbose=_verbose()))


def _job() -> Any:
    """The module that works with TensorFlow.

    What TensorFlow's C++ code logs while it is loaded obeys no setting, so it goes nowhere.
    """
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        return import_module("keras_tl.job")
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def _verbose() -> int:
    """Progress bars for people; one line an epoch for files."""
    return 1 if sys.stdout.isatty() else 2


def _show_run(run: Any) -> int:
    metrics = run.metrics
    print(f"\nMeasured on {metrics['note']} ({metrics['images'][metrics['measured_on']]} images):")
    _show_figures(metrics, run)
    print(f"\nEverything is in {run.folder}")
    print(f"  Keras model  {run.path(run.MODEL)}")
    print(f"  SavedModel   {run.path(run.SAVED_MODEL)}")
    print(f"  figures      {run.path(run.METRICS)}")
    print(f"Predict with   keras-tl predict {run.folder} FILE_OR_FOLDER")
    return 0


def _show_figures(metrics: dict[str, Any], run: Any) -> None:
    from keras_tl.evaluation.metrics import format_confusion, summary

    print(summary(metrics))
    if "confusion_matrix" in metrics:
        print(format_confusion(metrics["confusion_matrix"], run.info.class_names))


def _evaluate(options: argparse.Namespace) -> int:
    from keras_tl.runs import load_run

    run = load_run(options.run_folder)
    columns = _given(options, "run_folder", "data")
    metrics = _job().evaluate_run(run, options.data, verbose=_verbose(), **columns)
    _show_figures(metrics, run)
    return 0


def _predict(options: argparse.Namespace) -> int:
    from keras_tl.data.folders import list_images
    from keras_tl.runs import load_run

    run = load_run(options.run_folder)
    files: list[str] = []
    for name in options.files:
        path = Path(name)
        if not path.exists():
            raise InputError("a file or folder", repr(name), "There is no such thing.")
        if any("\udc80" <= letter <= "\udcff" for letter in name):  # bytes that Python kept
            raise InputError("a file name in UTF-8", repr(name), "Rename the file.")
        if not path.is_dir():
            files.append(name)
            continue
        images, passed_over = list_images(path)
        files.extend(str(path / image) for image in images)
        for skipped in passed_over:
            log.info("Passed over %s: %s", path / skipped.id, skipped.reason)

    outputs, source = _job().predict_files(run, files)

    from keras_tl.evaluation.shown import format_predictions

    shown = format_predictions(
        source.ids, outputs, run.info, top=getattr(options, "top", None), style=options.format
    )
    print(shown)
    return BAD_INPUT if any(skipped.bad for skipped in source.skipped) else 0


def _backbones(options: argparse.Namespace) -> int:
    from keras_tl.backbones import registry

    names = registry.names(options.pattern)
    if not names:
        hint = did_you_mean(options.pattern, registry.names(), "See keras-tl backbones.")
        raise InputError("part of a backbone's name", repr(options.pattern), hint)
    print(f"{'name':<20} {'family':<18} {'size':>5} {'least':>6} {'blocks':>7}  weights' licence")
    for name in names:
        spec = registry.get(name)
        print(
            f"{spec.name:<20} {spec.family:<18} {spec.image_size:>5} {spec.min_image_size:>6} "
            f"{len(spec.blocks):>7}  {spec.license}"
        )
    return 0


def _cache(options: argparse.Namespace) -> int:
    from keras_tl.feature_cache import FeatureStore

    store = FeatureStore()
    if options.action == "clear":
        print(f"{store.clear() / 1e6:.1f} MB freed in {store.root}")
        return 0
    stored = store.stored()
    print(f"{store.root}: {sum(item.size for item in stored) / 1e6:.1f} MB")
    for item in stored:
        what = f"{item.shards} shards" if item.shards else "converted model"
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(item.last_used))
        print(f"  {item.folder.name[:12]}  {item.size / 1e6:9.1f} MB  {what:<16}  used {used}")
    return 0


def _demo(options: argparse.Namespace) -> int:
    from keras_tl.recipes import solar_cells

    _job()
    return _show_run(solar_cells.run(options.out, seed=options.seed, verbose=_verbose()))
