"""The pipeline: find items, read them, run the model over batches, write shards.

    OUT/embeddings-00000-of-00004.parquet   every item that could be read, once
    OUT/skipped-00000-of-00001.csv          the others, and why
    OUT/extract.json                        what was computed, with what; written last

What the workers run is a SavedModel, which is sent to them by way of OUT: they load no weights
from elsewhere. Any runner of Beam's will do: nothing here depends on it.
"""

import json
import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.runner import PipelineResult, PipelineState

from keras_tl import shard_formats
from keras_tl.beam.served import pack
from keras_tl.beam.sources import open_items
from keras_tl.beam.transforms import (
    LARGEST_BATCH,
    NAMESPACE,
    READ,
    SKIPPED,
    SMALLEST_BATCH,
    ReadFiles,
    Score,
    WriteShards,
    WriteSkipped,
)
from keras_tl.errors import CheckError, InputError
from keras_tl.export.saved_model import export_saved_model
from keras_tl.extraction import columns_for, open_scorer
from keras_tl.model_info import ASSETS_FOLDER, FILE_NAME
from keras_tl.runs import Run
from keras_tl.scorers import Scorer, prediction_scorer
from keras_tl.shard_folder import FORMAT_VERSION, INDEX
from keras_tl.shard_formats import ShardFormat
from keras_tl.versions import versions

# Runs in this process, or in several on this machine; Beam's own default would download a runner.
LOCAL_RUNNER = "FnApiRunner"
MODEL = "model.zip"
# Without these a SavedModel cannot be loaded.
PARTS = ("saved_model.pb", "variables/variables.index", f"{ASSETS_FOLDER}/{FILE_NAME}")

log = logging.getLogger("keras_tl")


def extract(
    data: str,
    out: str,
    *,
    backbone: str | None = None,
    run: Run | str | None = None,
    layer: str | None = None,
    format: str = shard_formats.PARQUET,
    pipeline_options: Sequence[str] = (),
    **settings: Any,
) -> dict[str, Any]:
    """Writes embeddings of images or texts, as `keras_tl.extract` does, with Apache Beam.

    Args:
        data: A folder, a table or a list; see `keras_tl.beam.sources.open_items`.
        out: A new folder, in any of Beam's filesystems that the workers can write to.
        backbone: See `keras_tl.extract`.
        run: See `keras_tl.extract`.
        layer: See `keras_tl.extract`.
        format: See `keras_tl.extract`.
        pipeline_options: As at the command line of a pipeline: `["--runner=DataflowRunner", ...]`.
        **settings: See `keras_tl.extract`.

    Returns:
        The content of `extract.json`.

    Raises:
        InputError: Unusable data, model, settings or folder.
        CheckError: The SavedModel differs from the model, or the pipeline failed.
    """
    form = shard_formats.get(format)
    scorer, columns = open_scorer(data, backbone=backbone, run=run, layer=layer, **settings)
    with tempfile.TemporaryDirectory() as folder:
        saved = export_saved_model(scorer.model, Path(folder) / "saved_model", scorer.info)
        return _run(scorer, saved, data, columns, out, form, pipeline_options)


def predict(
    run: Run,
    data: str,
    out: str,
    *,
    format: str = shard_formats.PARQUET,
    pipeline_options: Sequence[str] = (),
    **columns: Any,
) -> dict[str, Any]:
    """Writes a run's predictions of images or texts with Apache Beam, by its own SavedModel.

    Args:
        run: The run.
        data: See `extract`.
        out: See `extract`.
        format: See `extract`.
        pipeline_options: See `extract`.
        **columns: See `keras_tl.data.streams.open_stream`.

    Returns:
        The content of `extract.json`.

    Raises:
        InputError: Unusable data, columns or folder.
        CheckError: The pipeline failed.
    """
    form = shard_formats.get(format)
    columns = columns_for(run, data, columns)
    saved = run.path(Run.SAVED_MODEL)
    for part in PARTS:
        if not (saved / part).is_file():
            fix = "Copy the run again from where it was trained."
            raise InputError(f"a whole SavedModel in {saved}", f"one without {part}", fix)
    return _run(prediction_scorer(run), saved, data, columns, out, form, pipeline_options)


def _run(
    scorer: Scorer,
    saved_model: Path,
    data: str,
    columns: dict[str, Any],
    out: str,
    form: ShardFormat,
    pipeline_options: Sequence[str],
) -> dict[str, Any]:
    """Sends the model, runs the pipeline and writes the index."""
    texts = scorer.info.text_input is not None
    if texts != (columns.get("text_column") is not None):
        fix = "Give --text-column, or leave it out."
        raise InputError(scorer.info.nouns, "images" if texts else "texts", fix)
    source = open_items(data, **columns)
    _check_free(out)
    options = _options(pipeline_options)
    model = FileSystems.join(out, MODEL)
    pack(saved_model, model)
    name = data if "://" in data else os.path.abspath(data)
    settings = {**scorer.facts, "data": name, "columns": columns, "format": form.name}
    settings["runner"] = _runner(options)
    log.info("%s of %s, in %s", scorer.kind.capitalize(), data, settings["runner"])
    try:
        pipeline = beam.Pipeline(options=options)
        read = ReadFiles(texts, columns.get("encoding", "utf-8"))
        shards = WriteShards(FileSystems.join(out, scorer.kind), form, scorer.info, scorer.kind)
        skipped = WriteSkipped(FileSystems.join(out, SKIPPED))
        build(pipeline, source, read, Score(model, scorer.kind), shards, skipped)
        result, state = _finished(pipeline)
    finally:
        FileSystems.delete([model])
    if state != PipelineState.DONE:
        fix = "The runner's own log says why."
        raise CheckError(f"a pipeline that ends {PipelineState.DONE}", str(state), fix)
    return _write_index(out, settings, result, form, scorer.kind)


def _finished(pipeline: beam.Pipeline) -> tuple[PipelineResult, str]:
    """Runs a pipeline to its end.

    Raises:
        CheckError: A worker's error has ended it, however the runner reports that.
    """
    try:
        result = pipeline.run()
        return result, result.wait_until_finish()
    except Exception as error:
        # Runners put a worker's whole traceback before its message.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        cause = lines[-1] if lines else type(error).__name__
        fix = "Mend that, and begin anew in another --out."
        raise CheckError(f"a pipeline that ends {PipelineState.DONE}", cause, fix) from error


def build(
    pipeline: beam.Pipeline,
    source: beam.PTransform,
    read: beam.DoFn,
    score: beam.DoFn,
    write_shards: beam.PTransform,
    write_skipped: beam.PTransform,
) -> None:
    """Puts the steps together.

    Args:
        pipeline: The pipeline.
        source: From the pipeline to items.
        read: Reads items, or gives them to the output `SKIPPED`.
        score: Makes columns of batches of items, or gives them to the output `SKIPPED`.
        write_shards: Writes columns.
        write_skipped: Writes items that were skipped.
    """
    items = pipeline | "Find" >> source | "Spread" >> beam.Reshuffle()
    found = items | "Read" >> beam.ParDo(read).with_outputs(SKIPPED, main=READ)
    batches = found[READ] | beam.BatchElements(SMALLEST_BATCH, LARGEST_BATCH)
    scored = batches | "Score" >> beam.ParDo(score).with_outputs(SKIPPED, main=READ)
    scored[READ] | "Write" >> write_shards
    (found[SKIPPED], scored[SKIPPED]) | beam.Flatten() | "WriteSkipped" >> write_skipped


def _options(arguments: Sequence[str]) -> PipelineOptions:
    options = PipelineOptions(list(arguments))
    standard = options.view_as(StandardOptions)
    if not any(argument.startswith("--runner") for argument in arguments):
        standard.runner = LOCAL_RUNNER
    return options


def _runner(options: PipelineOptions) -> str:
    return str(options.view_as(StandardOptions).runner)


def _check_free(out: str) -> None:
    """Refuses a folder that is not empty; makes one that is missing."""
    if signs := "".join(sign for sign in "*?[" if sign in out):
        raise InputError("a folder without signs of patterns", f"{signs} in {out!r}", "Rename it.")
    fix = "Choose another --out, or delete it: a pipeline begins anew."
    found = FileSystems.match([FileSystems.join(out, "*")], limits=[1])[0].metadata_list
    if found:
        raise InputError("a new folder", f"{out}, which has other things in it", fix)
    if not FileSystems.exists(out):
        FileSystems.mkdirs(out)


def _write_index(
    out: str, settings: dict[str, Any], result: PipelineResult, form: ShardFormat, kind: str
) -> dict[str, Any]:
    pattern = FileSystems.join(out, f"{kind}-*{form.ending}")
    files = [file.path for file in FileSystems.match([pattern])[0].metadata_list]
    index = {
        "format_version": FORMAT_VERSION,
        "complete": True,
        "settings": settings,
        "versions": versions("apache-beam"),
        "items": _counted(result, READ),
        "skipped": _counted(result, SKIPPED),
        "shards": [{"file": file.replace("\\", "/").rpartition("/")[2]} for file in sorted(files)],
    }
    with FileSystems.create(FileSystems.join(out, INDEX)) as file:
        file.write((json.dumps(index, indent=2, ensure_ascii=False) + "\n").encode())
    if index["skipped"]:
        log.warning("%d could not be read: see %s", index["skipped"], SKIPPED)
    return index


def _counted(result: PipelineResult, name: str) -> int:
    """A counter's sum over the workers, with retries if the runner cannot tell these apart."""
    wanted = MetricsFilter().with_namespace(NAMESPACE).with_name(name)
    return sum(counter.result or 0 for counter in result.metrics().query(wanted)["counters"])
