"""The commands that run a model over any number of items: `predict` and `extract`."""

import argparse
import logging
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from keras_tl.cli_options import column_options, model_input_options, positive
from keras_tl.errors import InputError
from keras_tl.exit_codes import BAD_INPUT
from keras_tl.quiet import load_quietly

log = logging.getLogger("keras_tl")

SHOWN, SHARDS = ("table", "csv", "json"), ("parquet", "tfrecord")
# Column options allowed for texts without `--out`.
SHOWN_COLUMNS = ("text_column", "id_column", "encoding")
# Where the options of a Beam pipeline begin.
PASSED_ON = "--"
RUNNERS = ("local", "beam")
# Options of a command that are not columns of its data.
OWN = ("run", "command", "data", "out", "format", "runner", "shard_items", "pipeline_options")


def predict_options(command: argparse.ArgumentParser) -> None:
    """Adds what `predict` takes: a run, and what to predict."""
    command.add_argument("run_folder", metavar="RUN", help="the folder of a finished run")
    about = "image files and folders of them; texts, files and tables of them, - for lines of input"
    command.add_argument("inputs", metavar="INPUT", nargs="+", help=about)
    about = "classes to show: what is predicted (of several labels marked), then the most probable"
    command.add_argument("--top", type=positive, default=argparse.SUPPRESS, metavar="K", help=about)
    about = "table, csv or json, which are shown; with --out parquet or tfrecord"
    kinds = (*SHOWN, *SHARDS)
    command.add_argument("--format", choices=kinds, default=argparse.SUPPRESS, help=about)
    about = (
        "write shards of any number of predictions to this folder: INPUT is one folder, table or "
    )
    about += "list (.txt) then"
    command.add_argument("--out", metavar="FOLDER", default=argparse.SUPPRESS, help=about)
    _streaming_options(command)
    column_options(command, groups=False)


def extract_options(command: argparse.ArgumentParser) -> None:
    """Adds what `extract` takes: data, a model, and where its shards go."""
    about = "a folder of images, a table, or a list of images (.txt); texts: as for train"
    command.add_argument("data", metavar="DATA", help=about)
    about = "where the shards go; a folder that was begun is gone on with"
    command.add_argument(
        "--out", metavar="FOLDER", required=True, default=argparse.SUPPRESS, help=about
    )
    about = "take a finished run's model before its head, not a backbone"
    command.add_argument(
        "--run", dest="run_folder", metavar="RUN", default=argparse.SUPPRESS, help=about
    )
    about = "layer whose output is taken (a map is averaged); the backbone's last if not given"
    command.add_argument("--layer", metavar="NAME", default=argparse.SUPPRESS, help=about)
    about = "kind of shards"
    command.add_argument("--format", choices=SHARDS, default=SHARDS[0], help=about)
    model_input_options(command)
    _streaming_options(command)
    column_options(command, groups=False)


def _streaming_options(command: argparse.ArgumentParser) -> None:
    about = "items read for a shard: what a kill can lose; 10000 if not given"
    suppressed = argparse.SUPPRESS
    command.add_argument(
        "--shard-items", type=positive, metavar="N", default=suppressed, help=about
    )
    about = "beam: an Apache Beam pipeline, whose own options stand behind --, such as -- --runner "
    about += "FlinkRunner"
    command.add_argument("--runner", choices=RUNNERS, default=RUNNERS[0], help=about)
    command.add_argument(
        "--beam",
        dest="runner",
        action="store_const",
        const="beam",
        default=argparse.SUPPRESS,
        help="the same as --runner beam",
    )


def split_pipeline_options(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits the command line of a Beam pipeline at `--`.

    Args:
        arguments: The arguments after `keras-tl`.

    Returns:
        The command's own arguments, and the pipeline's. For a command without a pipeline, `--`
        keeps its usual meaning: file names follow it.
    """
    own = list(arguments)
    if PASSED_ON not in own:
        return own, []
    place = own.index(PASSED_ON)
    head = own[:place]
    is_pipeline = "--beam" in head or "--runner=beam" in head
    is_pipeline |= ("--runner", "beam") in pairwise(head)
    return (head, own[place + 1 :]) if is_pipeline else (own, [])


def extract(options: argparse.Namespace) -> int:
    """Runs `keras-tl extract`."""
    settings = {k: v for k, v in vars(options).items() if k not in OWN}
    if "run_folder" in settings:
        settings["run"] = settings.pop("run_folder")
    if options.runner == "beam":
        how: dict[str, Any] = {"format": options.format}
        how |= _of_pipeline(options)
        run_pipeline = _beam().extract
        return _told(run_pipeline(options.data, options.out, **how, **settings), options)
    how = {"format": options.format, **_of_shards(options)}
    done = load_quietly("keras_tl.extraction").extract(options.data, options.out, **how, **settings)
    return _told(done.index, options)


def predict(options: argparse.Namespace) -> int:
    """Runs `keras-tl predict`."""
    from keras_tl.runs import load_run

    run = load_run(options.run_folder)
    beside = (*OWN, "run_folder", "inputs", "top")
    columns = {k: v for k, v in vars(options).items() if k not in beside}
    if "out" not in vars(options):
        _refuse_for_shards(options, columns, SHOWN_COLUMNS if run.config.has_texts else ())
        return _show(run, options)
    if "top" in vars(options):
        fix = "Leave it out: what shards have is fixed."
        raise InputError("no --top with --out", f"--top {options.top}", fix)
    form = getattr(options, "format", SHARDS[0])
    if form not in SHARDS:
        fix = "Choose one, or leave --out away."
        raise InputError(f"{' or '.join(SHARDS)} for --out", repr(form), fix)
    if len(options.inputs) > 1:
        fix = "Write the paths to a list.txt, one a line, and give that."
        raise InputError("one INPUT for --out", str(len(options.inputs)), fix)
    how, data = {"format": form, **columns}, options.inputs[0]
    if options.runner == "beam":
        how |= _of_pipeline(options)
        return _told(_beam().predict(run, data, options.out, **how), options)
    how |= _of_shards(options)
    streamed = load_quietly("keras_tl.extraction").predict_to_shards(run, data, options.out, **how)
    return _told(streamed.index, options)


def _of_shards(options: argparse.Namespace) -> dict[str, Any]:
    """The options for shards that this process writes."""
    return {k: v for k, v in vars(options).items() if k == "shard_items"}


def _of_pipeline(options: argparse.Namespace) -> dict[str, Any]:
    """The options for a pipeline, which chooses the size of its shards and runs TensorFlow."""
    for name in ("shard_items", "engine"):
        if name in vars(options):
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{option} with --runner local", "--runner beam", "Leave it out.")
    return {"pipeline_options": getattr(options, "pipeline_options", ())}


def _refuse_for_shards(
    options: argparse.Namespace, columns: dict[str, Any], shown: Sequence[str]
) -> None:
    """Refuses options that make sense only with `--out`."""
    given = [f"--{name.replace('_', '-')}" for name in columns if name not in shown]
    given += ["--shard-items"] * ("shard_items" in vars(options))
    if options.runner == "beam":
        given.append("--runner beam")
    if (form := getattr(options, "format", SHOWN[0])) in SHARDS:
        given.append(f"--format {form}")
    if given:
        raise InputError(f"--out FOLDER with {given[0]}", "none", "Name a new folder.")


def _told(index: dict[str, Any], options: argparse.Namespace) -> int:
    """Says what was written; returns the code for bad input if no item could be read."""
    counts = {"item": index["items"], "shard": len(index["shards"])}
    items, shards = (f"{n:,} {noun}{'s' * (n != 1)}" for noun, n in counts.items())
    print(f"{items} in {shards} in {options.out}")
    return 0 if index["items"] else BAD_INPUT


def _beam() -> Any:
    try:
        return load_quietly("keras_tl.beam.pipeline")
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("apache_beam"):
            raise
        fix = "Install it with pip install 'keras_tl[beam]'."
        raise InputError("the package apache-beam", "none installed", fix) from error


def _show(run: Any, options: argparse.Namespace) -> int:
    """Predicts the named items, all at once, and prints the predictions."""
    measuring = load_quietly("keras_tl.measuring")
    if run.config.has_texts:
        texts_of = load_quietly("keras_tl.text_arguments").texts_of
        column = getattr(options, "text_column", None) or run.config.text_column
        how: dict[str, Any] = {"pair": run.config.pair}
        how["encoding"] = getattr(options, "encoding", run.config.encoding)
        how["id_column"] = getattr(options, "id_column", None)
        texts = texts_of(options.inputs, column, **how)
        outputs, source = measuring.predict_texts(run, texts)
    else:
        outputs, source = measuring.predict_files(run, _image_files(options.inputs))

    from keras_tl.evaluation.shown import format_predictions

    style = getattr(options, "format", SHOWN[0])
    top = getattr(options, "top", None)
    print(format_predictions(source.ids, outputs, run.info, top=top, style=style))
    for skipped in source.skipped if run.config.has_texts else ():
        log.warning("Passed over %s: %s", skipped.id, skipped.reason)
    return BAD_INPUT if any(skipped.bad for skipped in source.skipped) else 0


def _image_files(names: Sequence[str]) -> list[str]:
    """Files that are named, and those in folders that are named."""
    from keras_tl.data.folders import list_images
    from keras_tl.data.tables import JSON_EXTENSIONS

    files: list[str] = []
    for name in names:
        path = Path(name)
        if not os.path.exists(name):
            raise InputError("a file or folder", repr(name), "There is no such thing.")
        if any("\udc80" <= letter <= "\udcff" for letter in name):  # undecodable bytes
            raise InputError("a file name in UTF-8", repr(name), "Rename the file.")
        if not path.is_dir():
            if path.suffix.lower() in (".csv", ".tsv", *JSON_EXTENSIONS):
                fix = "Add --out FOLDER to predict the images that a table names."
                raise InputError("image files or folders of them", f"the table {name!r}", fix)
            files.append(name)
            continue
        images, passed_over = list_images(path)
        files.extend(str(path / image) for image in images)
        for skipped in passed_over:
            log.info("Passed over %s: %s", path / skipped.id, skipped.reason)
    return files
