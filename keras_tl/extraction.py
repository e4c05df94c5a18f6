"""Embeddings, or predictions, of more items than memory holds: read, run, written in shards.

Memory holds only one shard: its names and outputs, and the pixels of a few batches. The images are
read once, by the decoder of training; the model runs in the same engines as frozen parts of models;
and what cannot be read is listed. For more than one machine see `keras_tl.beam`.
"""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from keras_tl import engines, shard_formats
from keras_tl.backbones.host import behind_host, tokenize_of
from keras_tl.config import TrainConfig
from keras_tl.config_files import make_config
from keras_tl.data.reading import Batch, read_images, read_texts
from keras_tl.data.source import Source
from keras_tl.data.streams import Data, Item, Stream, is_listing, open_stream
from keras_tl.errors import InputError
from keras_tl.feature_cache import FeatureStore
from keras_tl.fingerprints import fingerprint
from keras_tl.runs import Run, load_run
from keras_tl.scorers import Scorer, backbone_scorer, prediction_scorer, run_scorer
from keras_tl.shard_folder import SKIPPED, ShardFolder
from keras_tl.training.passes import ENGINES, PASS_BATCH, SECONDS_BETWEEN_LINES

SHARD_ITEMS = 10_000
# Settings that a run's model has decided.
OF_IMAGES = ("image_size", "resize")
OF_TEXTS = ("pair", "max_tokens", "windows", "truncate", "markup")
OF_THE_MODEL = ("backbone", "weights", *OF_IMAGES, *OF_TEXTS)

log = logging.getLogger("keras_tl")


@dataclass(frozen=True)
class Extraction:
    """A folder of shards that is whole.

    Attributes:
        folder: The folder.
        index: The content of its `extract.json`.
    """

    folder: Path
    index: dict[str, Any]

    @property
    def items(self) -> int:
        """How many items the shards have."""
        return self.index["items"]

    @property
    def skipped(self) -> int:
        """How many could not be read; `skipped.csv` names them."""
        return self.index["skipped"]

    @property
    def shards(self) -> list[Path]:
        """The files, in the order of the items."""
        return [self.folder / shard["file"] for shard in self.index["shards"]]


def extract(
    data: Data,
    out: str | Path,
    *,
    backbone: str | None = None,
    run: Run | str | Path | None = None,
    layer: str | None = None,
    format: str = shard_formats.PARQUET,
    shard_items: int = SHARD_ITEMS,
    engine: str = "auto",
    verbose: int = 1,
    **settings: Any,
) -> Extraction:
    """Writes embeddings of images or texts: what a backbone, or a run's model, makes of them.

    If a call is killed, the same call resumes after the last whole shard.

    Args:
        data: See `keras_tl.data.streams.open_stream`.
        out: The folder: a new one, or that of the same call, which is resumed.
        backbone: As of `TrainConfig`; by default EfficientNetLite0, for texts MiniLM.
        run: A finished run, or its folder, instead: its model before the head.
        layer: The layer whose output is taken, averaged over a feature map; by default what a
            head is put on.
        format: "parquet" or "tfrecord", see `keras_tl.shard_formats`.
        shard_items: How many items are read for each shard: what a kill can lose.
        engine: "auto" takes the fastest one that agrees with Keras; "tensorflow" that one.
        verbose: 1 says how far it is, 0 does not.
        **settings: Those of `TrainConfig` that say what the items are (`text_column`,
            `path_column`, `label_column`, ...) and, for a backbone, what it takes (`weights`,
            `image_size`, `resize`, `max_tokens`, `windows`, `truncate`, `markup`).

    Returns:
        The folder: shards of `id`, `label`, `split` and `embedding`, float32 `[features]`.

    Raises:
        InputError: Unusable data, model, settings or folder.
    """
    form = shard_formats.get(format)
    _refuse_addresses(data, out)
    if engine not in ENGINES:
        raise InputError(f"engine to be {' or '.join(ENGINES)}", repr(engine), "Choose one.")
    settings = {"engine": engine, **settings}
    scorer, columns = open_scorer(data, backbone=backbone, run=run, layer=layer, **settings)
    return _fill(scorer, data, columns, out, form, shard_items, engine, verbose)


def predict_to_shards(
    run: Run,
    data: Data,
    out: str | Path,
    *,
    format: str = shard_formats.PARQUET,
    shard_items: int = SHARD_ITEMS,
    verbose: int = 1,
    **columns: Any,
) -> Extraction:
    """Writes a run's predictions of images or texts, as `extract` writes embeddings.

    Args:
        run: The run.
        data: See `extract`.
        out: See `extract`.
        format: See `extract`.
        shard_items: See `extract`.
        verbose: See `extract`.
        **columns: See `keras_tl.data.streams.open_stream`; the run's own columns of images or
            texts are taken where they are left out, not those of labels and splits.

    Returns:
        The folder: shards of `id`, `label`, `split` and the columns of `predictions.csv`.

    Raises:
        InputError: Unusable data, columns or folder.
    """
    form = shard_formats.get(format)
    _refuse_addresses(data, out)
    columns = columns_for(run, data, columns)
    return _fill(
        prediction_scorer(run), data, columns, out, form, shard_items, "tensorflow", verbose
    )


def open_scorer(
    data: Data,
    *,
    backbone: str | None = None,
    run: Run | str | Path | None = None,
    layer: str | None = None,
    **settings: Any,
) -> tuple[Scorer, dict[str, Any]]:
    """The model that `extract` runs, and the columns of its data; see there for the arguments.

    Returns:
        The model, and what `keras_tl.data.streams.open_stream` takes beside the data.
    """
    if run is None:
        config = extraction_config(data, backbone=backbone, **settings)
        columns = {k: v for k, v in config.columns.items() if k != "group_column"}
        return backbone_scorer(config, layer), columns
    run = run if isinstance(run, Run) else load_run(run)
    given = settings if backbone is None else {"backbone": backbone, **settings}
    given = {name: value for name, value in given.items() if name != "engine"}
    columns = columns_for(run, data, given)
    return run_scorer(run, layer), columns


def extraction_config(data: Data, **settings: Any) -> TrainConfig:
    """The settings of a backbone, as `train` has them."""
    if isinstance(data, Source) and data.texts:
        pair = data.texts == 2
        settings |= {"text_column": "text,text_pair" if pair else "text", "pair": pair}
    name = os.fspath(data) if isinstance(data, str | os.PathLike) else "items"
    given = {key: value for key, value in settings.items() if value is not None}
    if "text_column" in given:
        # Only the encoder's own output: word counts are for a head.
        given["bag_of_words"] = 0
    return make_config({"data": name, "out": "", **given})


def columns_for(run: Run, data: Data, columns: dict[str, Any]) -> dict[str, Any]:
    """The columns of data for a run: what is given, and the run's own where it is left out.

    A folder has no column of paths to take.

    Raises:
        InputError: A setting is given that the run has decided, or a column that its items do not
            have.
    """
    if given := [name for name in OF_THE_MODEL if name in columns]:
        received = f"also {', '.join(given)}"
        raise InputError("a run, whose model is there already", received, "Leave that out.")
    if columns.get("id_column") and not run.config.has_texts:
        raise InputError("texts for an id_column", "images", "Leave it out.")
    own = run.config.item_columns
    if "path_column" in own and not is_listing(data):
        own["path_column"] = "path"
    return {**own, **columns}


def _refuse_addresses(*places: object) -> None:
    """Refuses addresses, which would be taken for a local folder called "gs:"."""
    for place in places:
        if isinstance(place, str) and "://" in place:
            fix = "Give --beam, or call keras_tl.beam.pipeline."
            raise InputError("a path on this machine", repr(place), fix)


def _opened(data: Data, scorer: Scorer, columns: dict[str, Any]) -> Stream:
    """Items for a model.

    Raises:
        InputError: The model takes no such items.
    """
    stream = open_stream(data, **columns)
    if stream.texts != (scorer.info.text_input is not None):
        received = "texts" if stream.texts else "images"
        raise InputError(scorer.info.nouns, received, "The model takes no others.")
    return stream


class _Runner:
    """Reads items and runs a model over them.

    Args:
        scorer: The model.
        engine: "auto" or "tensorflow".
        total: Number of items, to choose an engine and to report progress.
        passed: How many of them are done already.
        verbose: 1 says how far it is, 0 does not.
    """

    def __init__(self, scorer: Scorer, engine: str, total: int, passed: int, verbose: int):
        self._scorer, self._model = scorer, behind_host(scorer.model)
        self._automatic = engine == "auto"
        self._total, self._passed, self._verbose = total, passed, verbose
        self.engine: engines.Engine = engines.TensorFlowEngine(self._model)
        self.computed_in = ""  # The engine, once it has run.
        self._began = self._said = time.monotonic()
        self._computed = 0

    def run(self, items: Iterator[Item]) -> Iterator[tuple[Item, np.ndarray | None]]:
        """Runs the model over items.

        Yields:
            Each with its float32 `[outputs]`, or None where it could not be read, in order.
        """
        for batch in self._read(items):
            outputs = self._run(batch.inputs) if len(batch.inputs) else batch.inputs
            self._computed += len(batch.inputs)
            for item, row in batch.told:
                yield item, None if row is None else outputs[row]
            self._passed += len(batch.told)
            self._say()

    def _read(self, items: Iterator[Item]) -> Iterator[Batch]:
        if self._scorer.info.image_input is not None:
            return read_images(items, self._scorer.info.image_input, PASS_BATCH)
        return read_texts(items, tokenize_of(self._scorer.model), PASS_BATCH)

    def _run(self, inputs: np.ndarray) -> np.ndarray:
        if self._automatic and not self.computed_in:
            folder = FeatureStore().folder(engine="converted", prefixes=[fingerprint(self._model)])
            left = self._total - self._passed
            self.engine = engines.choose(self._model, inputs, folder, left, self.engine)
        if not self.computed_in and self._verbose:
            log.info("  in %s", self.engine.name)
        self.computed_in = self.engine.name
        return self.engine(inputs)[0]

    def _say(self) -> None:
        now = time.monotonic()
        if self._verbose and now - self._said > SECONDS_BETWEEN_LINES:
            self._said = now
            rate = self._computed / (now - self._began)
            log.info("  %s of %s, %.0f a second", f"{self._passed:,}", f"{self._total:,}", rate)


def _fill(
    scorer: Scorer,
    data: Data,
    columns: dict[str, Any],
    out: str | Path,
    form: shard_formats.ShardFormat,
    shard_items: int,
    engine: str,
    verbose: int,
) -> Extraction:
    """Runs a scorer over data and fills a folder with shards."""
    stream = _opened(data, scorer, columns)
    if shard_items < 1:
        raise InputError("at least 1 item in a shard", str(shard_items), "Try 10000.")
    total = stream.count()
    settings = {
        **scorer.facts,
        "data": os.path.abspath(stream.name) if os.path.exists(stream.name) else stream.name,
        "columns": columns,
        "format": form.name,
        "shard_items": shard_items,
        "engine": engine,
    }
    with closing(ShardFolder(out, scorer.kind, form, settings)) as folder:
        items = iter(stream)
        number = folder.pass_over(items, shard_items)
        runner = _Runner(scorer, engine, total, number * shard_items, verbose)
        if verbose:
            log.info("%s of %s %s", scorer.kind.capitalize(), f"{total:,}", scorer.info.nouns)
        told = runner.run(items)
        while some := list(islice(told, shard_items)):
            read = [item for item, _ in some if not item.reason]
            none = np.zeros((0, len(scorer.info.class_names)), np.float32)
            outputs = np.stack([row for _, row in some if row is not None]) if read else none
            written = shard_formats.columns_of(read, scorer.computed(outputs))
            skipped = [item for item, _ in some if item.reason]
            folder.write(number, written, read, skipped, runner.computed_in if read else "")
            number += 1
        index = folder.finish(number)
    if index["skipped"]:
        where = folder.path / SKIPPED
        log.warning("%d of %d could not be read: see %s", index["skipped"], total, where)
    return Extraction(folder.path, index)
