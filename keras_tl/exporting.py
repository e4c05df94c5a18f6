"""Exports of a finished run, compared with its Keras model on the run's own images."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_tl.data.pipeline import Samples
from keras_tl.data.source import Source
from keras_tl.errors import CheckError, InputError, KerasTLError, did_you_mean
from keras_tl.export.gate import HELD_OUT_IMAGES
from keras_tl.export.litert import export_litert
from keras_tl.export.onnx import export_onnx
from keras_tl.export.portable import CALIBRATION_IMAGES, PRECISIONS
from keras_tl.export.saved_model import check_fit
from keras_tl.model_info import FILE_NAME
from keras_tl.reporting.album import Album
from keras_tl.reporting.facts import Facts, label_matrix, read_facts
from keras_tl.reporting.page import write_report
from keras_tl.runs import Run
from keras_tl.setting_values import Range, within

EXPORTERS: dict[str, Callable[..., Path]] = {"litert": export_litert, "onnx": export_onnx}
# How many of the user's own files an export is compared on.
GATE_FILES = 8

log = logging.getLogger("keras_tl")


def export_run(
    run: Run,
    formats: Sequence[str] = ("litert",),
    precisions: Sequence[str] = ("float32",),
    out: str | Path | None = None,
    tolerance: float | None = None,
    done: Callable[[Path], object] = lambda folder: None,
) -> list[Path]:
    """Exports a run's model in every format and precision, and says so in its report.

    If one of several is refused, the others are still written: a line says why, and at the end an
    error names those that are missing.

    Args:
        run: The run.
        formats: "litert" and "onnx".
        precisions: "float32", "float16" and "int8", which calibrates on images of the training
            split and is compared on those of the test split, or of val where there is none.
        out: The folder of the one export; None takes `FORMAT-PRECISION` in the run's folder.
        tolerance: See `keras_tl.export.portable.export_portable`.
        done: Called with each folder once it is written.

    Returns:
        The folders.

    Raises:
        InputError: A name is unknown, or a package is missing, or the images for "int8".
        CheckError: A model does not convert, or what was written differs from it.
    """
    pairs = _pairs(formats, precisions, out)
    within("tolerance", tolerance, Range(0, 1e6))
    model, facts = run.model(), read_facts(run)
    check_fit(model, run.info)  # or each would be refused for the same reason
    album, written = Album(facts), []
    refused: dict[str, KerasTLError] = {}
    for name, precision in pairs:
        path = Path(out) if out is not None else run.folder / f"{name}-{precision}"
        checked_on = _for_int8(facts, album) if precision == "int8" else _for_floats(facts, album)
        try:
            written.append(
                EXPORTERS[name](
                    model, path, run.info, precision=precision, tolerance=tolerance, **checked_on
                )
            )
            done(written[-1])
        except KerasTLError as error:
            if len(pairs) == 1:
                raise
            log.error("%s-%s is not written. %s", name, precision, error)
            refused[f"{name}-{precision}"] = error
    if out is None and written:
        write_report(run, model=model)
    _tell(refused, len(pairs))
    return written


def _pairs(
    formats: Sequence[str], precisions: Sequence[str], out: str | Path | None
) -> list[tuple[str, str]]:
    """Each format with each precision."""
    _check_names("a format", formats, EXPORTERS)
    _check_names("a precision", precisions, PRECISIONS)
    pairs = [(name, precision) for name in formats for precision in precisions]
    if out is not None and len(pairs) > 1:
        fix = "Leave --out out: each then has a folder in the run's."
        raise InputError("one format and precision with --out", f"{len(pairs)} of them", fix)
    return pairs


def _tell(refused: Mapping[str, KerasTLError], asked: int) -> None:
    """Raises if exports were refused: an `InputError` if all were refused for their input."""
    if refused:
        is_input = all(isinstance(error, InputError) for error in refused.values())
        raise (InputError if is_input else CheckError)(
            f"{asked} exports",
            f"{asked - len(refused)}, without {', '.join(refused)}",
            "Above is told why; those that were written are kept.",
        )


def _for_int8(facts: Facts, album: Album) -> dict[str, Any]:
    """Images to calibrate on and to compare on."""
    held_out = _drawn(facts, album, "test", HELD_OUT_IMAGES)
    if not len(held_out):
        held_out = _drawn(facts, album, "val", HELD_OUT_IMAGES)
    return {
        "calibration": _drawn(facts, album, "train", CALIBRATION_IMAGES),
        "held_out": held_out,
    }


def _for_floats(facts: Facts, album: Album) -> dict[str, Any]:
    """A few of the run's files, whatever their split."""
    items = [
        item
        for split in ("test", "val", "train")
        for item in _drawn(facts, album, split, GATE_FILES).source.items
    ]
    return {"sample_files": [item for item in items if isinstance(item, str | bytes)][:GATE_FILES]}


def _drawn(facts: Facts, album: Album, split: str, most: int) -> Samples:
    """Up to `most` images of a split, drawn at random, that have not changed since the run."""
    info, table = facts.info, facts.splits
    if info is None or table is None:
        missing = FILE_NAME if info is None else Run.SPLITS
        fix = "Copy it again from where it was trained."
        raise InputError(f"{missing} in {facts.run.folder}", "no such file", fix)
    rows = table[table["split"] == split]
    rows = rows.iloc[np.sort(np.random.default_rng(0).permutation(len(rows))[:most])]
    items, trouble = album.find(list(rows["id"]))
    if trouble:
        log.info("%s", trouble)
    rows = rows[rows["id"].isin(list(items))]
    matrix = label_matrix(rows["label"], info).reshape(len(rows), len(info.class_names))
    labels = matrix.argmax(axis=1) if info.task == "single-label" else matrix.astype(np.float32)
    ids = rows["id"].to_numpy(dtype=object)
    source = Source(ids, [items[name] for name in ids], labels, info.class_names, info.task)
    return Samples(source, info.images)


def _check_names(what: str, names: Sequence[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known, f"Choose {', '.join(known)}.")
            raise InputError(what, repr(name), hint)
