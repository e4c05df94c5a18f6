"""The model card: what a run's model is, what it was made of, how good it is and where not.

Mitchell et al., "Model Cards for Model Reporting", FAT* 2019. Everything in it is from the run's
files, but for what only its maker knows, which is marked. The header is what model hubs read.
"""

from pathlib import Path
from typing import Any

import yaml

from keras_tl.backbones import registry
from keras_tl.backbones.hub_handles import HUB
from keras_tl.config import TrainConfig
from keras_tl.data.audit.findings import read_audit
from keras_tl.errors import InputError
from keras_tl.evaluation.calibration import BINS, decisions, reliability
from keras_tl.evaluation.metrics import IN_A_UNIT
from keras_tl.files import atomic_write_text
from keras_tl.model_info import ModelInfo
from keras_tl.reporting import classes, data, learning, result, values
from keras_tl.reporting.blocks import (
    Block,
    Cell,
    Details,
    Section,
    Table,
    Text,
    number,
    percent,
    row,
)
from keras_tl.reporting.facts import Facts, label_counts
from keras_tl.reporting.lengths import tokens_text
from keras_tl.reporting.markdown import markdown, plain
from keras_tl.runs import Run

# Below this many training samples of a class, measured samples, and recall, the card warns.
FEW_TRAINING, FEW_MEASURED, LOW_RECALL = 50, 300, 0.7
SHOWN_CLASSES = 10
ENCODER_LICENSES, UNKNOWN = {"MiniLM": "Apache-2.0"}, "unknown"
INTENDED_USE = """## Intended use

**To be filled in by the maker of the model: nothing in the run says it.**

- What it is for, and who is to use it:
- What it must not be used for:
- What happens when it is wrong, and who looks at its answers:
"""
# Figures that model hubs show, by task: name in metrics.json, type on the hub.
_HUB_FIGURES = {
    "single-label": (("accuracy", "accuracy"), ("macro_f1", "f1")),
    "multi-label": (("macro_f1", "f1"), ("mean_average_precision", "mean_average_precision")),
    "regression": (("mae", "mae"), ("rmse", "rmse")),
}


def write_model_card(facts: Facts, out: Path | None = None) -> Path:
    """Writes `MODEL_CARD.md`.

    Args:
        facts: The run; what an old or unfinished one lacks, the sections that need it name.
        out: The folder it goes to; None takes the run's.

    Returns:
        The card's path.
    """
    path = (out or facts.run.folder) / Run.MODEL_CARD
    atomic_write_text(path, model_card(facts))
    return path


def model_card(facts: Facts) -> str:
    """The card's text: a YAML header and Markdown."""
    shown = [_without_details(section) for section in _measured(facts)]
    training = (_training(facts), _without_details(learning.frozen(facts)))
    parts = [
        f"---\n{_header(facts)}---\n",
        f"# {plain(facts.name)}\n",
        INTENDED_USE,
        *map(markdown, shown),
        markdown(data.balance(facts)),
        *map(markdown, training),
        markdown(_limits(facts)),
        markdown(_licence(facts)),
        markdown(data.usage(facts)),
    ]
    return "\n".join(parts)


def _measured(facts: Facts) -> list[Section]:
    """How good the model is."""
    if not facts.metrics or facts.info is None:
        why = f"The run has no {Run.METRICS}: it did not come to its end."
        return [Section("Result", (Text(why, "note"),))]
    sections = [result.result(facts)]
    if facts.task == "regression":
        return [*sections, values.per_target(facts)]
    if "per_class" in facts.metrics:
        sections.append(classes.per_class(facts))
    return [*sections, _calibration(facts)]


def _without_details(section: Section) -> Section:
    kept = tuple(block for block in section.blocks if not isinstance(block, Details))
    return Section(section.title, kept)


def _header(facts: Facts) -> str:
    header: dict[str, Any] = {
        # Of the model, which only its maker can give; the text names that of the weights.
        "license": "unknown",
        "library_name": "keras",
        "tags": ["keras", "keras_tl", "transfer-learning", facts.task],
    }
    if facts.task != "regression":
        header["pipeline_tag"] = f"{facts.noun}-classification"
    found = [
        {"type": kind, "value": round(facts.metrics[name], 4)}
        for name, kind in _HUB_FIGURES.get(facts.task, ())
        if facts.metrics.get(name) is not None
        and not (facts.has_several_units and name in IN_A_UNIT)
    ]
    if found:
        name = _data_name(facts)
        split = facts.metrics.get("measured_on", "test")
        measured = {"name": name, "type": name, "split": split}
        task = {"type": header.get("pipeline_tag", f"{facts.noun}-regression")}
        entry = {"task": task, "dataset": measured, "metrics": found}
        header["model-index"] = [{"name": facts.name, "results": [entry]}]
    return yaml.safe_dump(header, sort_keys=False, allow_unicode=True)


def _data_name(facts: Facts) -> str:
    """The data's own name: where it lies on somebody's disk is nobody's business."""
    return Path(facts.run.config.data).name if facts.config else "unknown"


def _spec(facts: Facts) -> registry.BackboneSpec | None:
    """The backbone's row; None where it is not in the registry or its weights are not the row's."""
    name = facts.info.backbone if facts.info else ""
    if facts.config and facts.run.config.weights != "imagenet":
        return None
    try:
        return registry.get(name) if name else None
    except InputError:  # one of the user's own, not registered here
        return None


def _license(facts: Facts) -> str:
    """That of the weights which the training began with."""
    if spec := _spec(facts):
        return spec.license
    trained = not facts.config or facts.run.config.weights == "imagenet"
    name = facts.info.backbone if facts.info else ""
    return ENCODER_LICENSES.get(name, UNKNOWN) if trained else UNKNOWN


def _training(facts: Facts) -> Section:
    """The settings that matter to who wants to know how it was trained."""
    title = "Training"
    if facts.config is None or facts.info is None:
        return Section(title, (Text("The run has no config.yaml or model.json.", "quiet"),))
    config = facts.run.config
    rows = [
        row("backbone", _backbone(facts.info)),
        row("weights it started from", _weights(config, facts.noun)),
        _input_row(facts.info),
        row("split", _split(config, facts.nouns)),
        *([row("augmentation", str(config.augment))] if facts.noun == "image" else []),
        row("optimizer", f"{config.optimizer}, schedule {config.schedule}"),
        row("batch", str(config.batch_size)),
        row("precision", config.precision),
        row("seed", str(config.seed)),
    ]
    if facts.info.thresholds:
        rows.append(row("thresholds", _first([f"{t:g}" for t in facts.info.thresholds])))
    if facts.history is not None and not facts.history.empty:
        # Older runs do not say it, and rates of steps in between are in no file.
        rates = {
            phase["name"]: phase.get("learning_rate") for phase in facts.metrics.get("phases", ())
        }
        for phase, epochs in facts.history.groupby("phase", sort=False):
            told = f"{len(epochs)} epoch" + ("s" if len(epochs) > 1 else "")
            if (rate := rates.get(phase)) is not None:
                told += f", highest rate {number(rate)}"
            rows.append(row(f"phase “{phase}”", told))
    about = "All settings are in config.yaml."
    return Section(title, (Table(["setting", "value"], rows, about, names=2),))


def _input_row(info: ModelInfo) -> tuple[Cell, ...]:
    """What the model sees of an image or a text."""
    if seen := info.image_input:
        size = f"{seen.size} × {seen.size}"
        return row("pixels", f"RGB, {size}, brought to that size by “{seen.resize}”")
    return row("tokens", tokens_text(info))


def _split(config: TrainConfig, nouns: str) -> str:
    return (
        "the data's own where it has one, else at random (val "
        f"{config.val_fraction:g}, test {config.test_fraction:g}), equal {nouns} and groups "
        "together"
    )


def _backbone(info: ModelInfo) -> str:
    """The backbone's name; of one in a folder only the folder's own."""
    name = info.backbone or "a model of one's own"
    path = Path(name.removeprefix(HUB))
    return path.name if path.is_absolute() else name


def _weights(config: TrainConfig, noun: str) -> str:
    weights = config.weights
    if config.is_of_hub and weights == "imagenet":
        return "those the module was published with"
    pretrained = {"image": "ImageNet", "text": "those the encoder was published with"}
    named = {"imagenet": pretrained[noun], "none": "none: random ones"}
    return named.get(weights, f"the file {Path(weights).name}")


def _calibration(facts: Facts) -> Section:
    title, outcome = "Calibration", facts.outcome
    if outcome is None or not len(outcome):
        return Section(title, (Text("The run has no predictions.csv.", "quiet"),))
    is_multi_label = facts.task == "multi-label"
    if outcome.is_sparse:
        probabilities, right = outcome.confidence, outcome.right
    else:
        probabilities, right = decisions(outcome.outputs, outcome.present, is_multi_label)
    found = reliability(probabilities, right)
    of, were = ("all classes", "of them were there")
    if not is_multi_label:
        # With a threshold it may answer with another one.
        of, were = ("the most probable classes", "were right")
    text = (
        f"The mean probability of {of} is {percent(float(probabilities.mean()))}; "
        f"{percent(float(right.mean()))} {were}. Expected calibration error: "
        f"{percent(found.error)} in {BINS} bins (Guo et al. 2017). report.html shows the bins"
    )
    text += "." if outcome.is_sparse else ", and what one temperature would mend."
    return Section(title, (Text(text),))


def _limits(facts: Facts) -> Section:
    """What the figures do not say, and where the model is weak."""
    texts = [*_limits_of_figures(facts), *_weak_classes(facts)]
    if facts.task == "single-label":
        shown = {"image": "it is shown, also for a picture", "text": "it is given, also for a text"}
        texts.append(
            f"It answers with one of its classes whatever {shown[facts.noun]} of none of them."
        )
    blocks: list[Block] = [Text(text) for text in texts]
    return Section("Limits", (*blocks, *_audit(facts)))


def _limits_of_figures(facts: Facts) -> list[str]:
    texts = []
    metrics = facts.metrics
    if metrics.get("measured_on", "test") != "test":
        texts.append(f"It was measured on {metrics.get('note', metrics['measured_on'])}.")
    if (measured := metrics.get("samples")) is not None and measured < FEW_MEASURED:
        texts.append(f"It was measured on {measured:,} {facts.nouns} only: mind the intervals.")
    others = {"image": "cameras, places or people", "text": "sources, subjects, writers or years"}
    texts.append(
        f"The figures hold for {facts.nouns} of the same kind; other {others[facts.noun]} than in "
        "the data were not looked at."
    )
    if facts.splits is not None and not set(facts.splits["group"]) - {""}:
        one = {"image": "show one object, place or person", "text": "are of one source or writer"}
        texts.append(
            f"No groups were given: where several {facts.nouns} {one[facts.noun]}, the figures are "
            "too good unless all of them were in one split."
        )
    return texts


def _weak_classes(facts: Facts) -> list[str]:
    """Classes with few training samples, and those that are often missed."""
    texts = []
    if facts.splits is not None and facts.info is not None and facts.task != "regression":
        train = facts.splits.loc[facts.splits["split"] == "train", "label"]
        counts = label_counts(train, facts.info)
        few = [
            f"{n} ({c})" for n, c in zip(facts.class_names, counts, strict=True) if c < FEW_TRAINING
        ]
        if few:
            texts.append(f"Fewer than {FEW_TRAINING} training {facts.nouns}: {_first(few)}.")
    missed = [
        f"{name} ({percent(scores['recall'], 0)} found)"
        for name, scores in facts.metrics.get("per_class", {}).items()
        if scores["support"] and scores["recall"] < LOW_RECALL
    ]
    if missed:
        texts.append(f"Often missed: {_first(missed)}.")
    return texts


def _first(names: list[str]) -> str:
    more = len(names) - SHOWN_CLASSES
    return ", ".join(names[:SHOWN_CLASSES]) + (f" and {more} more" if more > 0 else "")


def _audit(facts: Facts) -> list[Block]:
    """What the audit of the data found, without what is merely good to know."""
    path = facts.run.path(Run.AUDIT)
    if not path.is_file():
        return [Text("The data were not audited (keras-tl audit).")]
    found = [f for f in read_audit(path).findings if f.severity != "note"]
    if not found:
        return [Text("The audit of the data found nothing that should be looked at.")]
    rows = [row(f.severity, f.text, f"{len(f.sets):,}" if f.sets else "") for f in found]
    caption = "What the audit of the data found; audit.json names the " + facts.nouns + "."
    return [Table(["severity", "finding", "times"], rows, caption, names=2)]


def _licence(facts: Facts) -> Section:
    spec = _spec(facts)
    license = _license(facts)
    if license != UNKNOWN:
        told = f"The backbone's {'ImageNet ' if spec else ''}weights are under {license}."
    elif facts.config and facts.run.config.weights == "none":
        told = "The training began with random weights."
    else:
        told = "The licence of the weights that the training began with is not known to keras_tl."
    rest = "Those of the data, and what the model itself is given under, are for its maker to say."
    return Section("Licence", (Text(f"{told} {rest}"),))
