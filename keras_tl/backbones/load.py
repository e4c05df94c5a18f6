"""The one place where a backbone is instantiated."""

from contextlib import nullcontext
from pathlib import Path
from types import TracebackType

import keras

from keras_tl.backbones import graph, layers, registry, second_scaling
from keras_tl.backbones.applications import PREPROCESSING, EfficientNetApplication
from keras_tl.backbones.spec import BackboneSpec
from keras_tl.backbones.weight_files import load_weights
from keras_tl.errors import InputError, KerasTLError, did_you_mean, in_one_line
from keras_tl.topology import layers_within

# What the ImageNet weights of each family were trained with: `keras.applications`,
# imagenet_utils.preprocess_input. The means of "caffe" are in the order blue, green, red.
_CAFFE_MEAN = (103.939, 116.779, 123.68)
_TORCH_MEAN = (0.485, 0.456, 0.406)
_TORCH_DEVIATION = (0.229, 0.224, 0.225)


def load_backbone(
    name: str,
    *,
    weights: str | Path | None = "imagenet",
    image_size: int | None = None,
    features: str | None = None,
) -> keras.Model:
    """Builds a backbone as one flat functional model from pixels to features.

    Args:
        name: A name in the registry ("MobileNetV2").
        weights: "imagenet" (Keras downloads them), a `.weights.h5`, `.keras` or Keras-2 `.h5`
            file (also of a whole classifier around this backbone), or None (random).
        image_size: Height and width in pixels; None is what the ImageNet weights saw.
        features: The layer whose output is returned; None is the last one before pooling. Also
            layers of the pretrained top that the row names (VGG16's "fc2").

    Returns:
        A `keras.Model` of the input "pixels", float32 `[batch, size, size, 3]`, RGB in 0..255;
        preprocessing is its first layers, in float32 whatever the dtype policy. No layer is a
        model, and all are trainable; dropout is inactive where it is frozen. Layer names do not
        depend on what was built before.

    Raises:
        InputError: No such backbone, layer, weights file or size; no published weights; the
            download failed; or the weights file is of another backbone.
    """
    spec = registry.get(name)
    if weights == "imagenet" and not spec.published:
        raise InputError(
            f"a weights file for {spec.name}, or none",
            "'imagenet', of which none are published",
            "Give a file with --weights FILE, or --weights none (`weights=` in Python).",
        )
    include_top = features in spec.top
    size = check_image_size(spec, image_size, pinned=include_top and weights == "imagenet")
    published = "imagenet" if weights == "imagenet" else None
    with _DownloadErrors(spec.name) if published else nullcontext():
        source = spec.factory(image_size=size, weights=published, include_top=include_top)
    model = _assemble(spec, source, size)
    if published is None:
        report = None if weights is None else load_weights(model, weights)
        if isinstance(spec.factory, EfficientNetApplication):
            second_scaling.settle(model, weights, report)
    return _cut(spec, model, features)


def check_image_size(spec: BackboneSpec, image_size: int | None, pinned: bool = False) -> int:
    """Finds the image size to build a backbone for.

    Args:
        spec: The backbone.
        image_size: The size that is asked for, in pixels; None is the backbone's own.
        pinned: Whether only the backbone's own size is allowed.

    Returns:
        The size.

    Raises:
        InputError: The backbone cannot be built for it.
    """
    size = spec.image_size if image_size is None else image_size
    if size < spec.min_image_size:
        raise InputError(
            f"an image size of at least {spec.min_image_size} for {spec.name}",
            str(size),
            f"Leave it out for {spec.image_size}.",
        )
    if (pinned or spec.fixed_size) and size != spec.image_size:
        part = " with its ImageNet top" if pinned else ""
        raise InputError(
            f"an image size of {spec.image_size} for {spec.name}{part}",
            str(size),
            "It can be built for no other.",
        )
    return size


def _assemble(spec: BackboneSpec, source: keras.Model, size: int) -> keras.Model:
    """Puts preprocessing before a flat copy of `source`."""
    pixels = keras.Input((size, size, 3), dtype="float32", name="pixels")
    outputs = graph.replay(
        source, preprocess(pixels, spec.preprocessing), replace=_replacement, stable_names=True
    )
    model = keras.Model(pixels, outputs, name=spec.name)
    known = [layer.name for layer in model.layers]
    for landmark in (spec.stem, *(block.last for block in spec.blocks), spec.output):
        if landmark not in known:
            hint = did_you_mean(landmark, known, f"It has {', '.join(known[1:4])}, ...")
            raise InputError(f"layers of {spec.name} in its row", repr(landmark), hint)
    _check_recurrent(model)
    return model


def _check_recurrent(model: keras.Model) -> None:
    """Refuses recurrent layers with dropout of their own, which would be active when frozen."""
    for layer in model.layers:
        for inner in layers_within(layer):
            # Only recurrent layers and their cells have this attribute.
            if hasattr(inner, "recurrent_dropout") and (inner.dropout or inner.recurrent_dropout):
                received = f"{layer.name!r} with it"
                fix = "Put a Dropout layer before it."
                raise InputError(f"recurrent layers of {model.name} without dropout", received, fix)


def preprocess(pixels: keras.KerasTensor, mode: str) -> keras.KerasTensor:
    """Preprocesses RGB pixels as in the training of a family of backbones.

    Args:
        pixels: Float32 `[batch, height, width, 3]`, RGB, 0..255.
        mode: A preprocessing in `BackboneSpec`.

    Returns:
        Float32 of the same shape; its last layer is called "preprocessing" ("none": no layer).
    """
    if mode == "none":
        return pixels
    scale: float | list[float] = 1 / 127.5
    offset: float | list[float] = -1.0
    if mode == "caffe":
        pixels = keras.ops.flip(pixels, axis=-1)
        scale, offset = 1.0, [-mean for mean in _CAFFE_MEAN]
    elif mode == "torch":
        scale = [1 / (255 * deviation) for deviation in _TORCH_DEVIATION]
        offset = [-m / d for m, d in zip(_TORCH_MEAN, _TORCH_DEVIATION, strict=True)]
    rescale = keras.layers.Rescaling(scale, offset, dtype="float32", name=PREPROCESSING)
    return rescale(pixels)


def _replacement(layer: keras.Layer) -> keras.Layer:
    """Dropout that can be frozen; a family's own preprocessing in float32."""
    if isinstance(layer, (keras.layers.Rescaling, keras.layers.Normalization)):
        return type(layer).from_config({**layer.get_config(), "dtype": "float32"})
    return layers.freezable(layer)


def _cut(spec: BackboneSpec, model: keras.Model, features: str | None) -> keras.Model:
    """Ends the model at the layer that features are taken from."""
    known = [layer.name for layer in model.layers]
    wanted = spec.output if features is None else graph.clean_name(features)
    if wanted not in known:
        hint = did_you_mean(wanted, [*known, *spec.top], f"Leave it out for {spec.output}.")
        raise InputError(f"a layer of {spec.name} to take features at", repr(features), hint)
    return keras.Model(model.input, model.get_layer(wanted).output, name=spec.name)


class _DownloadErrors:
    """Turns a failed download of weights into one line.

    Keras raises a bare `Exception` from the URL error, so that only its context tells it, and a
    `ValueError` if the file has a wrong hash.
    """

    def __init__(self, name: str):
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, KerasTLError):
            return
        wrong_hash = isinstance(error, ValueError) and "corrupted file" in str(error)
        unreachable = isinstance(error, OSError) or isinstance(
            getattr(error, "__context__", None), OSError
        )
        if wrong_hash or unreachable:
            raise InputError(
                f"to download the ImageNet weights of {self._name}",
                in_one_line(error, 500),
                "Give a file with --weights FILE, or --weights none (`weights=` in Python).",
            ) from error
