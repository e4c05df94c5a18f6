"""The images that a model got wrong or was unsure of, with what it looked at."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_tl.model_info import ModelInfo
from keras_tl.reporting.album import Album, data_uri, pixels_of
from keras_tl.reporting.blocks import Block, Gallery, Picture, Section, Text, number, percent
from keras_tl.reporting.facts import Facts, Outcome

if TYPE_CHECKING:
    import keras

SHOWN = 12
# Sides in pixels of the pictures in the page.
SIDE = 176
# The colour that what decided is painted in, and how much of it at most.
HEAT, STRENGTH = (255.0, 96.0, 0.0), 0.65
TITLE = "Pictures"
_ABOUT = (
    "The colour shows what speaks for {it} (Grad-CAM, Selvaraju et al. 2017, at the last feature "
    "map): a place that does not belong to the object is a warning. All grey: nothing in the "
    "picture does."
)


@dataclass(frozen=True)
class Pick:
    """A sample to show: its row in the outcome, and the output that is explained."""

    sample: int
    output: int


def pictures(facts: Facts, album: Album, *, model: "keras.Model | None" = None) -> Section:
    """The most confident mistakes and the least certain images; of a regression the worst.

    Args:
        facts: The run.
        album: Its images.
        model: Its model, where it is already loaded.

    Returns:
        The section. Where images are not found, or are no longer what they were, it says so.
    """
    outcome, info = facts.outcome, facts.info
    if outcome is None or info is None or not len(outcome):
        return Section(TITLE, (Text("The run lists no predictions to show.", "quiet"),))
    wanted = choose(outcome, info)
    picks = list(dict.fromkeys(pick for chosen in wanted.values() for pick in chosen))
    ids = list(dict.fromkeys(outcome.ids[pick.sample] for pick in picks))
    items, trouble = album.find(ids)
    if not items:
        return Section(TITLE, (Text(trouble, "quiet"),))
    if model is None and facts.run.path(facts.run.MODEL).is_file():
        model = facts.run.model()
    picks = [pick for pick in picks if outcome.ids[pick.sample] in items]
    made = _draw(picks, [items[outcome.ids[pick.sample]] for pick in picks], outcome, info, model)
    blocks: list[Block] = [Text(trouble, "quiet")] if trouble else []
    for title, chosen in wanted.items():
        shown = tuple(made[pick] for pick in chosen if pick in made)
        blocks.append(Gallery(title, shown) if shown else Text(f"{title}: none.", "quiet"))
    if any(picture.heat for picture in made.values()):
        it = "a larger value" if info.task == "regression" else "the class that is named"
        blocks.append(Text(_ABOUT.format(it=it), "quiet"))
    return Section(TITLE, tuple(blocks))


def choose(outcome: Outcome, info: ModelInfo) -> dict[str, list[Pick]]:
    """The samples to show under each heading, `SHOWN` at most, what matters most first."""
    if info.task == "regression":
        errors = np.abs(outcome.outputs - outcome.truth)
        unit = np.maximum(outcome.truth.std(axis=0), 1e-12)
        target = (errors / unit).argmax(axis=1)
        worst = (errors / unit).max(axis=1)
        return {"Largest errors": _first(-worst, target)}
    if info.task == "multi-label":
        wrong = outcome.present != outcome.chosen
        sure = np.where(outcome.chosen, outcome.outputs, 1.0 - outcome.outputs)
        class_of_mistake = np.where(wrong, sure, -1.0).argmax(axis=1)
        confidence = np.where(wrong, sure, -1.0).max(axis=1)
        distance = np.abs(outcome.outputs - np.array(info.thresholds))
        doubtful, margin = distance.argmin(axis=1), distance.min(axis=1)
    else:
        class_of_mistake = doubtful = outcome.chosen_class
        confidence = np.where(outcome.right, -1.0, outcome.confidence)
        margin = outcome.margin
        if info.thresholds:
            margin = np.abs(outcome.outputs[:, 1] - info.thresholds[0])
    mistakes = _first(-confidence, class_of_mistake)
    return {
        "Most confident mistakes": [p for p in mistakes if not outcome.right[p.sample]],
        "Least certain": _first(margin, doubtful),
    }


def _first(keys: np.ndarray, outputs: np.ndarray) -> list[Pick]:
    """The samples with the smallest keys."""
    return [Pick(int(i), int(outputs[i])) for i in np.argsort(keys, kind="stable")[:SHOWN]]


def _draw(
    picks: list[Pick],
    items: list[Any],
    outcome: Outcome,
    info: ModelInfo,
    model: "keras.Model | None",
) -> dict[Pick, Picture]:
    from keras_tl.reporting.gradcam import grad_cam

    pixels = np.stack([pixels_of(item, info.images) for item in items])
    maps = None
    if model is not None:
        maps = grad_cam(model, pixels, np.array([pick.output for pick in picks]))
    return {
        pick: _picture(pixels[i], None if maps is None else maps[i], *words(outcome, info, pick))
        for i, pick in enumerate(picks)
    }


def _picture(
    pixels: np.ndarray, heat: np.ndarray | None, title: str, lines: tuple[str, ...]
) -> Picture:
    import tensorflow as tf

    small = tf.image.resize(pixels, (SIDE, SIDE), antialias=True).numpy()
    painted = ""
    if heat is not None:
        fine = tf.image.resize(heat[..., None], (SIDE, SIDE), method="bicubic").numpy()
        share = STRENGTH * np.clip(fine, 0.0, 1.0)
        grey = small.mean(axis=-1, keepdims=True)
        painted = data_uri(grey * (1 - share) + np.array(HEAT) * share)
    return Picture(data_uri(small), painted, title, lines)


def words(outcome: Outcome, info: ModelInfo, pick: Pick) -> tuple[str, tuple[str, ...]]:
    """What the model said of a sample, and the truth; the sample's name as the last line."""
    i, k = pick.sample, pick.output
    name, said = info.class_names[k], float(outcome.outputs[i, k])
    if info.task == "regression":
        true = float(outcome.truth[i, k])
        return f"{name} {number(said)}", (f"true {number(true)}", str(outcome.ids[i]))
    if info.task == "multi-label":
        truth = "is there" if outcome.present[i, k] else "is not there"
    elif outcome.present[i, k]:
        truth = "right"
    else:
        truth = f"true {info.class_names[outcome.true_class[i]]}"
    return f"{name} {percent(said, 0)}", (truth, str(outcome.ids[i]))
