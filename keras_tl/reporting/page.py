"""The page of one run: `report.html`, self-contained."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from keras_tl.data.source import Source
from keras_tl.files import atomic_write_text
from keras_tl.reporting import classes, data, learning, values
from keras_tl.reporting.album import Album
from keras_tl.reporting.audit import audit
from keras_tl.reporting.baseline import baseline
from keras_tl.reporting.blocks import Section, Text
from keras_tl.reporting.facts import Facts, read_facts
from keras_tl.reporting.lengths import lengths, tokens_text
from keras_tl.reporting.model_card import write_model_card
from keras_tl.reporting.pictures import pictures
from keras_tl.reporting.result import result, warned
from keras_tl.reporting.texts import printable, texts
from keras_tl.runs import Run

if TYPE_CHECKING:
    import keras

    from keras_tl.feature_cache import FeatureStore


def write_report(
    run: Run,
    *,
    source: Source | None = None,
    model: "keras.Model | None" = None,
    metrics: dict[str, Any] | None = None,
    out: Path | None = None,
    store: "FeatureStore | None" = None,
    engine: str = "auto",
) -> Path:
    """Writes a run's report, one HTML file that needs nothing beside it, and its model card.

    Args:
        run: The run. What an old or unfinished one lacks, the sections that need it name.
        source: Its images or texts, where they are already opened; else they are opened as its
            configuration says, and are left out where they are gone.
        model: Its model, where it is already loaded.
        metrics: What metrics.json will hold, where it is not yet written.
        out: The folder they go to; None takes the run's.
        store: Where outputs of what is frozen in the model are kept; None keeps none.
        engine: See `run_phases`.

    Returns:
        The page's path.

    Raises:
        InputError: `model.json` is there and cannot be used.
    """
    facts = read_facts(run, metrics)
    album = Album(facts, source)
    sections = [
        result_section(facts),
        *baseline(facts),
        *warned(facts),
        learning.learning_curves(facts),
        *_by_task(facts),
        *_samples(facts, album, model, store, engine),
        data.balance(facts),
        audit(facts, album),
        learning.frozen(facts),
        learning.time_spent(facts),
        data.usage(facts),
        data.settings(facts),
    ]
    path = (out or run.folder) / Run.REPORT
    atomic_write_text(path, render(facts.name, _subtitle(facts), sections))
    write_model_card(facts, out)
    return path


def result_section(facts: Facts) -> Section:
    """The result, or that there is none."""
    if facts.metrics:
        return result(facts)
    why = f"The run has no {Run.METRICS}: it did not come to its end, so nothing was measured."
    return Section("Result", (Text(why, "note"),))


def render(title: str, subtitle: str, sections: list[Section]) -> str:
    """Puts sections into the page's frame.

    Args:
        title: The heading.
        subtitle: One line below it.
        sections: The content; every text in it is escaped.

    Returns:
        HTML.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("keras_tl.reporting"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    template = environment.get_template("page.html")
    # Names may hold characters that turn a page's text around, as texts may.
    return printable(template.render(title=title, subtitle=subtitle, sections=sections))


_SectionMaker = Callable[[Facts], Section]
# What in metrics.json it needs, the section.
_CLASS_SECTIONS: tuple[tuple[str, _SectionMaker], ...] = (
    ("confusion_matrix", classes.confusion),
    ("confused", classes.confused),
    ("per_class", classes.per_class),
    ("", classes.curves),
    ("", classes.calibration),
)
_VALUE_SECTIONS: tuple[tuple[str, _SectionMaker], ...] = (
    ("", values.predicted_and_true),
    ("per_target", values.per_target),
)


def _by_task(facts: Facts) -> list[Section]:
    """The sections that a run of this task can have."""
    metrics: dict[str, Any] = facts.metrics
    if not metrics or facts.info is None:
        return []
    rows = _VALUE_SECTIONS if facts.task == "regression" else _CLASS_SECTIONS
    return [make(facts) for needed, make in rows if not needed or needed in metrics]


def _samples(
    facts: Facts,
    album: Album,
    model: "keras.Model | None",
    store: "FeatureStore | None",
    engine: str,
) -> list[Section]:
    """The images or texts that are worth a look."""
    if facts.noun == "image":
        return [pictures(facts, album, model=model)]
    if model is None and facts.run.path(Run.MODEL).is_file():
        model = facts.run.model()
    shown = texts(facts, album, model=model, store=store, engine=engine)
    return [shown, lengths(facts, album, model=model)]


def _subtitle(facts: Facts) -> str:
    if facts.info is None:
        return "The run has no model.json."
    one, several = ("target", "targets") if facts.task == "regression" else ("class", "classes")
    count = len(facts.class_names)
    outputs = f"{count:,} {one if count == 1 else several}"
    backbone, seen = facts.info.backbone or "a model", facts.info.image_input
    given = f"{seen.size} × {seen.size} pixels" if seen else tokens_text(facts.info)
    return f"{backbone}, {given}, {facts.task}, {outputs}"
