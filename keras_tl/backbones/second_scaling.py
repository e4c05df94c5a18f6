"""Whether an EfficientNet B0 to B7 in a weights file was trained behind its second scaling.

Keras divides by the deviations a second time only in models with the published weights: see
`keras_tl.backbones.applications.EfficientNetApplication`, which always builds the layer. A model
that Keras built without weights and somebody trained lacks it. A file with a whole model shows this
by its layers; one with weights by the mean and variance, which only the published ones set.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from keras_tl.backbones import keras_archives
from keras_tl.backbones.applications import SECOND_SCALING
from keras_tl.backbones.weight_files import WeightsReport


def settle(model: keras.Model, path: str | Path | None, report: WeightsReport | None) -> None:
    """Sets the second scaling to 1 unless a file's weights were trained behind it.

    Args:
        model: A flat model with the layer and the file's weights.
        path: The file; None for random weights, which are then trained as Keras' would be.
        report: What was loaded from it.
    """
    if path is not None and report is not None:
        layers = _saved_layers(_saved_config(Path(path)))
        if any(_is_scaling(*settings) for settings in layers):
            return
        if not layers and not _is_untrained(model, report):
            return
    (layer,) = (x for x in model.layers if _is_scaling(*_settings(x)))
    layer.scale = 1.0


def _settings(layer: keras.Layer) -> tuple[str, Any]:
    return type(layer).__name__, getattr(layer, "scale", None)


def _is_scaling(kind: str, scale: Any) -> bool:
    return (
        kind == "Rescaling"
        and isinstance(scale, list)
        and len(scale) == len(SECOND_SCALING)
        and all(isinstance(number, float) for number in scale)
        and np.allclose(scale, SECOND_SCALING)
    )


def _is_untrained(model: keras.Model, report: WeightsReport) -> bool:
    """Whether the file's normalization does nothing; False if it has none."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.name in report.matched:
            mean, variance, *_ = (weight.numpy() for weight in layer.weights)
            return not mean.any() and bool((variance == 1).all())
    return False


def _saved_config(path: Path) -> Any:
    """The configuration in a file of the model that its weights belong to; None without one."""
    try:
        if zipfile.is_zipfile(path):
            return keras_archives.read_config(path)
        with h5py.File(path, "r") as file:
            return json.loads(file.attrs.get("model_config", "null"))
    except keras_archives.BROKEN:
        return None


def _saved_layers(config: Any) -> list[tuple[str, Any]]:
    """The class and the scale of all layers in a model's configuration, nested ones too."""
    inner = config.get("config") if isinstance(config, dict) else None
    if not isinstance(inner, dict):
        return []
    layers = inner.get("layers")
    if not isinstance(layers, list):
        return [(str(config.get("class_name")), inner.get("scale"))]
    return [found for layer in layers for found in _saved_layers(layer)]
