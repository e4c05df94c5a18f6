"""Transfer learning for Keras 3.

    import keras_tl as ktl

    run = ktl.train(ktl.TrainConfig(data="photos", out="run"))

or step by step: open and split images, build a model on a pretrained backbone, run phases,
evaluate, export. See the README. Names are loaded when they are first used: importing keras_tl
does not import TensorFlow.
"""

from importlib import import_module
from typing import Any

from keras_tl.registration import register as _register

_HOMES = {
    "TrainConfig": "keras_tl.config",
    "CompareConfig": "keras_tl.compare_config",
    "train": "keras_tl.job",
    "compare": "keras_tl.comparison",
    "audit": "keras_tl.auditing",
    "load_run": "keras_tl.runs",
    "backbones": "keras_tl.backbones",
    "load_backbone": "keras_tl.backbones.load",
    "build_image_model": "keras_tl.builders.image",
    "build_text_classifier": "keras_tl.builders.text",
    "load_encoder": "keras_tl.backbones.encoders",
    "build_hub_model": "keras_tl.builders.hub",
    "load_hub_encoder": "keras_tl.backbones.hub",
    "load_hub_layer": "keras_tl.backbones.hub",
    "add_head": "keras_tl.heads",
    "freezing": "keras_tl.freezing",
    "plans": "keras_tl.plans",
    "schedules": "keras_tl.training.schedules",
    "Phase": "keras_tl.training.phases",
    "L2SP": "keras_tl.training.anchors",
    "EMA": "keras_tl.training.averaging",
    "SWA": "keras_tl.training.averaging",
    "find_learning_rate": "keras_tl.training.lr_finder",
    "run_phases": "keras_tl.training.fit",
    "FeatureStore": "keras_tl.feature_cache",
    "prepare": "keras_tl.data.prepare",
    "from_folder": "keras_tl.data.folders",
    "from_dataframe": "keras_tl.data.frames",
    "from_arrays": "keras_tl.data.arrays",
    "from_tfds": "keras_tl.data.tfds",
    "measure": "keras_tl.measuring",
    "extract": "keras_tl.extraction",
    "choose_thresholds": "keras_tl.thresholding",
    "ModelInfo": "keras_tl.model_info",
    "export_saved_model": "keras_tl.export.saved_model",
    "export_litert": "keras_tl.export.litert",
    "export_onnx": "keras_tl.export.onnx",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = import_module(_HOMES[name])
    # A name is a module of its own, or something in one.
    modules = ("freezing", "backbones", "plans", "schedules")
    value = home if name in modules else getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


_register()
