"""The figures that matter most, by task, and how they are written."""

from collections.abc import Callable
from typing import TypeAlias

from keras_tl.evaluation.metrics import IN_A_UNIT
from keras_tl.reporting.blocks import number, percent, score
from keras_tl.reporting.facts import Facts

Show: TypeAlias = Callable[[float | None], str]
# Name in metrics.json, label, how it is written.
HEADLINES: dict[str, tuple[tuple[str, str, Show], ...]] = {
    "single-label": (
        ("accuracy", "accuracy", percent),
        ("balanced_accuracy", "balanced accuracy", percent),
        ("macro_f1", "macro F1", score),
        ("roc_auc", "ROC AUC", score),
    ),
    "multi-label": (
        ("macro_f1", "macro F1", score),
        ("subset_accuracy", "all classes right", percent),
        ("mean_average_precision", "mean average precision", score),
        ("hamming_loss", "wrong decisions", percent),
    ),
    "regression": (
        ("mae", "mean absolute error", number),
        ("rmse", "root mean squared error", number),
        ("r2", "R²", score),
        ("spearman", "correlation of ranks", score),
    ),
}


def headlines(facts: Facts) -> list[tuple[str, str, Show]]:
    """The rows of `HEADLINES` that say something of a run: no mean over several targets' units."""
    left_out = IN_A_UNIT if facts.has_several_units else ()
    return [row for row in HEADLINES[facts.task] if row[0] not in left_out]
