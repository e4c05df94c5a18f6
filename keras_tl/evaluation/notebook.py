"""Figures as a notebook shows them."""

from html import escape
from typing import Any

# Shown where a run has them, in this order: name in the figures, label, whether it is a share.
_SHOWN = (
    ("accuracy", "accuracy", True),
    ("balanced_accuracy", "balanced accuracy", True),
    ("subset_accuracy", "all classes right", True),
    ("macro_f1", "macro F1", False),
    ("roc_auc", "ROC AUC", False),
    ("mae", "mean absolute error", False),
    ("rmse", "root mean squared error", False),
    ("r2", "R²", False),
)


def metrics_html(
    title: str, metrics: dict[str, Any], report: str | None = None, nouns: str = "images"
) -> str:
    """Lays a run's overall figures out as HTML.

    Args:
        title: The heading; it is escaped.
        metrics: What `evaluate` returned, perhaps with `samples` and `note` of a run.
        report: A link's target, the run's report; None has no link.
        nouns: What the samples are.

    Returns:
        An element for `_repr_html_`.
    """
    head = "<th style='text-align:left'>"
    rows = "".join(
        f"<tr>{head}{label}</th><td>{_text(metrics[name], is_share)}</td></tr>"
        for name, label, is_share in _SHOWN
        if metrics.get(name) is not None
    )
    where = f"{metrics.get('samples', 0):,} {nouns}"
    if "note" in metrics:
        where += f" of {escape(metrics['note'])}"
    link = f"<a href='{escape(report, quote=True)}'>report</a>" if report else ""
    return (
        f"<div><b>{escape(title)}</b><br><small>measured on {where}</small>"
        f"<table>{rows}</table>{link}</div>"
    )


def _text(value: float, is_share: bool) -> str:
    return f"{100 * value:.1f} %" if is_share else f"{value:.4g}"
