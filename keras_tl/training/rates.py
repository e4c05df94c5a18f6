"""Layer-wise learning rates: the nearer to the input, the lower."""

import keras

from keras_tl.backbones import registry
from keras_tl.errors import InputError
from keras_tl.freezing import Section, sections


def parts_of(model: keras.Model, what_for: str) -> tuple[Section, ...]:
    """The sections of a model on a registered backbone (see `keras_tl.freezing.sections`).

    Args:
        model: A functional model.
        what_for: What needs them, for the error.

    Raises:
        InputError: No registered backbone is in the model.
    """
    if registry.recognise([layer.name for layer in model.layers], model.name) is None:
        raise InputError(
            f"a registered backbone for {what_for}",
            f"{model.name!r}, whose layers belong to none",
            "Register the backbone, or leave it out.",
        )
    return sections(model)


def section_rates(model: keras.Model, decay: float) -> dict[str, float]:
    """What the learning rate is multiplied by in each section with weights.

    The head has 1, what comes before it `decay`, what comes before that `decay**2`, and so on to
    the stem. What is pretrained and general moves less than what is new or special.

    Reference: Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification",
    ACL 2018 (discriminative rates, with 1 / 2.6); Clark et al., "ELECTRA", ICLR 2020, and Bao et
    al., "BEiT", ICLR 2022 (layer-wise decay, 0.65 to 0.9).

    Args:
        model: A functional model on a registered backbone.
        decay: The factor from one section to the one before it, in (0, 1].

    Returns:
        A factor for each section, in the graph's order.

    Raises:
        InputError: No registered backbone is in the model.
    """
    layers = {layer.name: layer for layer in model.layers}
    names = [
        part.name
        for part in parts_of(model, "layer_decay")
        if any(layers[name].weights for name in part.layers)
    ]
    return {name: decay ** (len(names) - 1 - place) for place, name in enumerate(names)}


def variable_rates(model: keras.Model, decay: float) -> dict[int, float]:
    """The factors of `section_rates` for each weight, by the variable's `id`."""
    layers = {layer.name: layer for layer in model.layers}
    rates = section_rates(model, decay)
    return {
        id(weight): rates[part.name]
        for part in sections(model)
        for name in part.layers
        for weight in layers[name].weights
    }
