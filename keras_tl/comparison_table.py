"""A comparison of backbones as lines for a terminal."""

from collections.abc import Sequence

from keras_tl.comparison import Candidate, Comparison, all_timed
from keras_tl.evaluation.verdict import duration


def format_comparison(comparison: Comparison) -> str:
    """Lays a comparison out for a terminal.

    Args:
        comparison: What `compare` returned.

    Returns:
        A table, a line for each verdict that matters, and what to run next.
    """
    best = comparison.ranking[0]
    metric = {"mean_average_precision": "mAP"}.get(best.verdict.probe.metric, "")
    metric = metric or best.verdict.probe.metric
    speed = f"{comparison.nouns}/s"
    titles = [metric, "95 % interval", "H-score", "LogME", "features", "MB", speed, "a pass"]
    widths = [9, 16, 9, 9, 10, 8, 10, 9]
    first = max(len(c.backbone) for c in comparison.ranking) + 4
    lines = [f"{'backbone':<{first}}" + _cells([*titles, "fine-tune?"], [*widths, 12])]
    for rank, candidate in enumerate(comparison.ranking, start=1):
        name = f"{rank}. {candidate.backbone}"
        lines.append(f"{name:<{first}}" + _cells(_row(candidate), [*widths, 12]))
    lines += [f"{name}: {why}" for name, why in comparison.failures.items()]
    lines += ["", *_few_shot_lines(comparison), *_notes(comparison)]
    return "\n".join(lines)


def _row(candidate: Candidate) -> list[str]:
    probe = candidate.verdict.probe
    speed, seconds = candidate.images_per_second, candidate.pass_seconds
    return [
        f"{probe.score:.4f}",
        f"{probe.interval[0]:.4f}-{probe.interval[1]:.4f}",
        "-" if candidate.h_score is None else f"{candidate.h_score:.3f}",
        f"{candidate.log_me:.3f}",
        str(candidate.features),
        f"{candidate.megabytes:.1f}",
        "-" if speed is None else f"{speed:.0f}",
        "-" if seconds is None else duration(seconds),
        "yes" if candidate.verdict.fine_tune else "no",
    ]


def _few_shot_lines(comparison: Comparison) -> list[str]:
    rows = comparison.ranking[0].few_shot
    if not rows and not comparison.left_out_shots:
        return []
    first = max(len(c.backbone) for c in comparison.ranking) + 4
    widths = [16] * len(rows)
    head = _cells([f"{row.shots} a class" for row in rows], widths)
    lines = [f"{'few-shot':<{first}}{head}"]
    for candidate in comparison.ranking:
        cells = [
            f"{row.mean:.3f}" + ("" if row.half_width is None else f" +- {row.half_width:.3f}")
            for row in candidate.few_shot
        ]
        lines.append(f"{candidate.backbone:<{first}}{_cells(cells, widths)}")
    if comparison.left_out_shots:
        listed = ", ".join(map(str, comparison.left_out_shots))
        lines.append(f"Left out, since a class has too few {comparison.nouns}: {listed}")
    return [*lines, ""]


def _notes(comparison: Comparison) -> list[str]:
    best, nouns = comparison.ranking[0], comparison.nouns
    lines = [
        f"Cross-validated on {comparison.images} {nouns} of the train and val splits; the test "
        "split was not looked at."
    ]
    if comparison.tied_with_best > 1:
        timed = all_timed(comparison.ranking[: comparison.tied_with_best])
        cheapest = "fastest" if timed else "smallest, since not all are timed,"
        lines.append(
            f"The first {comparison.tied_with_best} cannot be told apart on these {nouns}, so the "
            f"{cheapest} comes first."
        )
    lines.append(f"{best.backbone}. {best.verdict}.")
    return lines


def _cells(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
