"""Predictions as people and programs read them: a table, CSV or JSON."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from keras_tl.evaluation.metrics import decide
from keras_tl.files import csv_text
from keras_tl.model_info import ModelInfo

FORMATS = ("table", "csv", "json")


def format_predictions(
    ids: Sequence[str] | np.ndarray,
    outputs: np.ndarray,
    info: ModelInfo,
    *,
    top: int | None = None,
    style: str = "table",
) -> str:
    """Renders predictions.

    Args:
        ids: A name for each sample.
        outputs: Float32 `[samples, outputs]`, probabilities or values.
        info: What the model takes and gives.
        top: How many classes to show of each sample: the predicted one, then the most probable
            others. None shows the predicted one, or all that are present of several labels; of
            these with `top`, the predicted ones are marked: "*" in a table, else "predicted". A
            regression always shows all its targets.
        style: "table" (aligned text), "csv" or "json".

    Returns:
        Text of several lines.
    """
    ranked = [_ranked(row, info, top) for row in outputs]
    value = "value" if info.task == "regression" else "probability"
    name = "target" if info.task == "regression" else "class"
    keys = (name, value, "predicted") if info.task == "multi-label" and top else (name, value)
    if style == "json":
        return json.dumps(_records(ids, ranked, keys), indent=2, ensure_ascii=False)
    if style == "csv":
        return csv_text(_frame(ids, ranked, keys)).rstrip("\n")
    width = max((len(str(sample)) for sample in ids), default=0)
    lines = []
    for sample, row in zip(ids, ranked, strict=True):
        found = "   ".join(
            f"{label} {number:.4f}{'*' if called and len(keys) > 2 else ''}"
            for label, number, called in row
        )
        lines.append(f"{sample!s:<{width}}  {found or '(none)'}")
    return "\n".join(lines)


def _ranked(row: np.ndarray, info: ModelInfo, top: int | None) -> list[tuple[str, float, bool]]:
    """What is shown of a sample: names, numbers, and whether each is predicted."""
    if info.task == "regression":
        return [(name, float(v), True) for name, v in zip(info.class_names, row, strict=True)]
    order = np.argsort(-row, kind="stable")
    chosen = decide(row[None], info)[0]
    if top is None:
        order = order[chosen[order]]
    elif info.thresholds:
        # Thresholds may decide for less probable classes.
        order = order[np.argsort(~chosen[order], kind="stable")][:top]
    else:
        order = order[:top]
    return [(info.class_names[i], float(row[i]), bool(chosen[i])) for i in order]


def _records(
    ids: Sequence[str] | np.ndarray,
    ranked: list[list[tuple[str, float, bool]]],
    keys: tuple[str, ...],
) -> list[dict[str, Any]]:
    return [
        {"id": str(sample), "predictions": [dict(zip(keys, each, strict=False)) for each in row]}
        for sample, row in zip(ids, ranked, strict=True)
    ]


def _frame(
    ids: Sequence[str] | np.ndarray,
    ranked: list[list[tuple[str, float, bool]]],
    keys: tuple[str, ...],
) -> pd.DataFrame:
    """One row a sample; what is known of its k-th class are neighbouring columns."""
    columns: dict[str, list[Any]] = {"id": [str(sample) for sample in ids]}
    for rank in range(max(map(len, ranked), default=0)):
        cells = [row[rank] if rank < len(row) else ("", None, None) for row in ranked]
        for key, values in zip(keys, zip(*cells, strict=True), strict=False):
            columns[f"{key}_{rank + 1}"] = list(values)
    return pd.DataFrame(columns)
