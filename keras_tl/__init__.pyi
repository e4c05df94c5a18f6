from keras_tl import backbones, freezing, plans
from keras_tl.auditing import audit
from keras_tl.backbones.encoders import load_encoder
from keras_tl.backbones.hub import load_hub_encoder, load_hub_layer
from keras_tl.backbones.load import load_backbone
from keras_tl.builders.hub import build_hub_model
from keras_tl.builders.image import build_image_model
from keras_tl.builders.text import build_text_classifier
from keras_tl.compare_config import CompareConfig
from keras_tl.comparison import compare
from keras_tl.config import TrainConfig
from keras_tl.data.arrays import from_arrays
from keras_tl.data.folders import from_folder
from keras_tl.data.frames import from_dataframe
from keras_tl.data.prepare import prepare
from keras_tl.data.tfds import from_tfds
from keras_tl.export.litert import export_litert
from keras_tl.export.onnx import export_onnx
from keras_tl.export.saved_model import export_saved_model
from keras_tl.extraction import extract
from keras_tl.feature_cache import FeatureStore
from keras_tl.heads import add_head
from keras_tl.job import train
from keras_tl.measuring import measure
from keras_tl.model_info import ModelInfo
from keras_tl.runs import load_run
from keras_tl.thresholding import choose_thresholds
from keras_tl.training import schedules
from keras_tl.training.anchors import L2SP
from keras_tl.training.averaging import EMA, SWA
from keras_tl.training.fit import run_phases
from keras_tl.training.lr_finder import find_learning_rate
from keras_tl.training.phases import Phase

__all__ = [
    "EMA",
    "L2SP",
    "SWA",
    "CompareConfig",
    "FeatureStore",
    "ModelInfo",
    "Phase",
    "TrainConfig",
    "add_head",
    "audit",
    "backbones",
    "build_hub_model",
    "build_image_model",
    "build_text_classifier",
    "choose_thresholds",
    "compare",
    "export_litert",
    "export_onnx",
    "export_saved_model",
    "extract",
    "find_learning_rate",
    "freezing",
    "from_arrays",
    "from_dataframe",
    "from_folder",
    "from_tfds",
    "load_backbone",
    "load_encoder",
    "load_hub_encoder",
    "load_hub_layer",
    "load_run",
    "measure",
    "plans",
    "prepare",
    "run_phases",
    "schedules",
    "train",
]
