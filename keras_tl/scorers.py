"""What is computed for each item of a large data set: embeddings, or a run's predictions.

Both are a model with a description of its inputs and outputs; embeddings are described as a
regression whose targets are the features. So items are read, run, exported and written alike.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

import keras
import numpy as np

from keras_tl.backbones.encoders import load_encoder
from keras_tl.backbones.graph import clean_name
from keras_tl.backbones.host import behind_host, tokenize_of
from keras_tl.backbones.hub import load_hub_backbone
from keras_tl.backbones.load import load_backbone
from keras_tl.config import HUB, TrainConfig
from keras_tl.data.image_input import ImageInput
from keras_tl.errors import InputError, did_you_mean
from keras_tl.evaluation.predictions import predictions_frame
from keras_tl.fingerprints import fingerprint
from keras_tl.model_info import ModelInfo
from keras_tl.preparing import image_size_of, text_input_of
from keras_tl.runs import Run
from keras_tl.shard_formats import Columns
from keras_tl.topology import calls, producer

EMBEDDINGS, PREDICTIONS = "embeddings", "predictions"
EMBEDDING = "embedding"
# How the layers of a head begin; the first of them may be the backbone's pooling.
HEAD, POOL = "head_", "head_pool"


@dataclass(frozen=True)
class Scorer:
    """A model that is run over items.

    Attributes:
        kind: "embeddings" or "predictions".
        model: From pixels or strings to `[batch, outputs]`.
        info: What it takes and gives.
        origin: Where it comes from, JSON-ready.
    """

    kind: str
    model: keras.Model
    info: ModelInfo
    origin: dict[str, Any]

    @property
    def facts(self) -> dict[str, Any]:
        """All that decides the outputs, apart from the items, JSON-ready."""
        tokenize = tokenize_of(self.model)
        tokens = {"tokens": tokenize.key} if tokenize else {}
        return {
            "kind": self.kind,
            "model": {**self.origin, "sha256": fingerprint(behind_host(self.model)), **tokens},
            "outputs": len(self.info.class_names),
            "input": asdict(self.info.text_input or self.info.images),
        }

    def computed(self, outputs: np.ndarray) -> Columns:
        """See `computed`."""
        return computed(outputs, self.info, self.kind)


def computed(outputs: np.ndarray, info: ModelInfo, kind: str) -> Columns:
    """The columns that a model's outputs are written to.

    Args:
        outputs: Float32 `[items, outputs]`.
        info: What the model gives.
        kind: "embeddings": one column, `embedding`; or "predictions": those of `predictions.csv`,
            see `keras_tl.evaluation.predictions.predictions_frame`.

    Returns:
        Text, float32 `[items]`, or float32 `[items, outputs]` for each column.
    """
    if kind == EMBEDDINGS:
        return {EMBEDDING: outputs}
    frame = predictions_frame([""] * len(outputs), outputs, None, info).drop(columns="id")
    # Decided by name: a column without items does not show its type.
    return {
        name: frame[name].tolist() if _is_text(name) else frame[name].to_numpy(np.float32)
        for name in frame.columns
    }


def _is_text(column: str) -> bool:
    """Whether a column of `predictions_frame` has class names rather than numbers."""
    return column == "predicted" or column.startswith("class_")


def backbone_scorer(config: TrainConfig, layer: str | None = None) -> Scorer:
    """A pretrained backbone, or an encoder of texts, without a head.

    Args:
        config: The backbone, its weights and what it takes.
        layer: The layer whose output is taken, averaged over a feature map; None takes the
            backbone's last.

    Returns:
        What gives its features.

    Raises:
        InputError: No such backbone or layer.
    """
    model = _pooled(_backbone(config, layer))
    info = ModelInfo(
        image_input=None if config.has_texts else _image_input(config),
        class_names=_numbered(model),
        task="regression",
        backbone=config.backbone or "",
        text_input=text_input_of(config) if config.has_texts else None,
    )
    origin = {"backbone": config.backbone, "weights": config.weights}
    return Scorer(EMBEDDINGS, model, info, {**origin, "layer": layer or _last_layer(model)})


def run_scorer(run: Run, layer: str | None = None) -> Scorer:
    """A run's model before its head.

    Args:
        run: The run.
        layer: The layer whose output is taken, averaged over a feature map; None takes what the
            head is put on.

    Raises:
        InputError: No such layer.
    """
    model = run.model()
    model = _pooled(_before_head(model) if layer is None else _at(model, layer))
    info = replace(run.info, class_names=_numbered(model), task="regression", thresholds=())
    return Scorer(EMBEDDINGS, model, info, {**_of(run), "layer": layer or _last_layer(model)})


def prediction_scorer(run: Run) -> Scorer:
    """A run's whole model."""
    return Scorer(PREDICTIONS, run.model(), run.info, _of(run))


def _of(run: Run) -> dict[str, Any]:
    return {"run": str(run.folder.absolute()), "backbone": run.info.backbone}


def _image_input(config: TrainConfig) -> ImageInput:
    return ImageInput(size=image_size_of(config), resize=config.resize)


def _backbone(config: TrainConfig, layer: str | None) -> keras.Model:
    """The backbone up to a layer, or to its last."""
    name = config.backbone or ""
    weights = None if config.weights == "none" else config.weights
    if config.has_texts:
        sizes = text_input_of(config).tokenized_by
        model = load_encoder(name, weights=weights and "pretrained", **sizes)
    elif config.is_of_hub:
        size = image_size_of(config)
        model = load_hub_backbone(name.removeprefix(HUB), image_size=size)
    else:
        size = image_size_of(config)
        return load_backbone(name, weights=weights, image_size=size, features=layer)
    return model if layer is None else _at(model, layer)


def _at(model: keras.Model, layer: str) -> keras.Model:
    """A model that ends at a layer."""
    names = [known.name for known in model.layers]
    wanted = clean_name(layer)
    if wanted not in names:
        hint = did_you_mean(wanted, names, f"Its last ones are {', '.join(names[-5:])}.")
        raise InputError("a layer of the model", repr(layer), hint)
    return keras.Model(model.input, model.get_layer(wanted).output, name=model.name)


def _before_head(model: keras.Model) -> keras.Model:
    """A keras_tl model without its head, but with the pooling of a feature map before it."""
    head = next((node for node in calls(model) if node.operation.name.startswith(HEAD)), None)
    if head is None:
        raise InputError("a model with a head", "one without", "Name a layer: --layer NAME.")
    tensors = head.outputs if head.operation.name == POOL else head.input_tensors
    return keras.Model(model.input, tensors[0], name=model.name)


def _pooled(model: keras.Model) -> keras.Model:
    """A model whose outputs are vectors: a feature map is averaged, as before a new head."""
    rank = len(model.output_shape)
    if rank == 2:
        return model
    if rank != 4:
        received = f"{_last_layer(model)}, which gives {model.output_shape}"
        raise InputError("a layer that gives vectors or a feature map", received, "Name another.")
    pool = keras.layers.GlobalAveragePooling2D(name=POOL)
    return keras.Model(model.input, pool(model.output), name=model.name)


def _last_layer(model: keras.Model) -> str:
    return producer(model.output)


def _numbered(model: keras.Model) -> tuple[str, ...]:
    """Names for features as the targets of a regression."""
    return tuple(map(str, range(model.output_shape[-1])))
