"""Phases planned together, so that one run of the images serves several.

Where a later phase is cut before the end of this phase's prefix, its features are a by-product of
this phase's pass: one run of the images stores both.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import keras

from keras_tl import frozen_prefix
from keras_tl.training.images import Images
from keras_tl.training.phases import Phase

View = int | None


@dataclass(frozen=True)
class LaterPrefix:
    """The prefix of a later phase, which nothing will have changed until then.

    Attributes:
        prefix: The prefix; its tensors are in the graph of the present phase's prefix.
        views: The views of training images that the phase will read; it reads validation images
            as they are.
    """

    prefix: keras.Model
    views: tuple[View, ...]


def views_of(images: Images, epochs: int) -> tuple[View, ...]:
    """The views that the first `epochs` epochs read."""
    return (None,) if images.views == 1 else tuple(range(min(images.views, epochs)))


def trained_layers(model: keras.Model, phases: Sequence[Phase]) -> set[str]:
    """Names of the layers that some phase trains; flags are those of the last one afterwards."""
    found: set[str] = set()
    for phase in phases:
        phase.freezing.apply(model)
        found |= {layer.name for layer in model.layers if frozen_prefix.is_live(layer)}
    return found


def later_prefixes(
    model: keras.Model, phases: Sequence[Phase], train: Images
) -> list[list[LaterPrefix]]:
    """Finds, for each phase, the later prefixes that its passes can serve too.

    These are frozen in this phase and all in between, so that their weights are already those of
    the later phase. The model's flags are those of the last phase afterwards.

    Args:
        model: The whole model.
        phases: The phases, in order.
        train: The training images.

    Returns:
        A list for each phase.
    """
    parts, trained = [], []
    for phase in phases:
        phase.freezing.apply(model)
        parts.append(frozen_prefix.split(model))
        trained.append({layer.name for layer in model.layers if frozen_prefix.is_live(layer)})
    found: list[dict[tuple[str, ...], LaterPrefix]] = [{} for _ in phases]
    for now, later in ((i, j) for j in range(len(phases)) for i in range(j)):
        here, there = parts[now], parts[later]
        # A phase that is cut at the same place reads what this phase stores anyway.
        if here.prefix is None or there.prefix is None or here.last_layers == there.last_layers:
            continue
        layers = {layer.name for layer in there.prefix.layers}
        inside = layers <= {layer.name for layer in here.prefix.layers}
        if inside and not any(layers & trained[k] for k in range(now, later)):
            views = views_of(train, phases[later].epochs)
            known = found[now].get(there.last_layers)
            # Of two with the same cut, the one that reads more views: they include the other's.
            if known is None or len(views) > len(known.views):
                found[now][there.last_layers] = LaterPrefix(there.prefix, views)
    return [list(each.values()) for each in found]
