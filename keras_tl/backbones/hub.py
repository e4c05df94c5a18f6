"""TF-Hub modules as backbones: from pixels or strings to vectors."""

import functools
import logging
from pathlib import Path
from typing import Any, TypeVar

import keras
import tensorflow as tf
from keras.src.saving.serialization_lib import in_safe_mode

from keras_tl.backbones import hub_files, hub_module, hub_spec
from keras_tl.backbones.hub_check import why_unsafe
from keras_tl.backbones.hub_files import ModuleFiles
from keras_tl.backbones.hub_handles import parted, resolved
from keras_tl.backbones.hub_layer import HubLayer, HubModule
from keras_tl.backbones.hub_module import usable
from keras_tl.backbones.hub_tokens import EncoderInputs, HubTokenizer, padding_of
from keras_tl.errors import InputError, did_you_mean

# The size that nearly all image modules were trained for, and one that no module exceeds.
IMAGE_SIZE, LARGEST_IMAGE = 224, 4096
POOLED = "pooled_output"
# Some of what a preprocessor gives.
TOKENIZED = {"input_word_ids", "input_type_ids", "input_mask"}
# Number of inputs that a module is tried on: it must give as many outputs.
SAMPLES = 2
Layer = TypeVar("Layer", bound=HubLayer)

log = logging.getLogger("keras_tl")


def load_hub_backbone(
    handle: str | Path,
    *,
    image_size: int | None = None,
    value_range: tuple[float, float] = (0.0, 1.0),
    output: str = "",
) -> keras.Model:
    """Builds a TF-Hub module as a flat functional model.

    Args:
        handle: See `keras_tl.backbones.hub_handles.resolved`. A module of images (a feature
            vector, or a classifier, whose logits are the features then) or of strings.
        image_size: Height and width in pixels; None is what the module says, or 224.
        value_range: What the module takes for black and white; TF-Hub's convention is 0 and 1.
        output: Which of several named outputs is taken.

    Returns:
        A `keras.Model` of the input "pixels", float32 `[batch, size, size, 3]`, RGB in 0..255,
        or "text", strings in UTF-8 `[batch]`, to the module's float32 output. Its layer
        "hub_module" is frozen, until a policy says otherwise.

    Raises:
        InputError: The handle leads to no SavedModel, to one of TensorFlow 1, to one that takes
            neither images nor strings, or to one that does more than compute
            (`keras_tl.backbones.hub_check`) while Keras' safe mode is on.
    """
    with resolved(handle) as folder:
        opened = _Opened(folder)
        spec = opened.takes
        if isinstance(spec, dict):
            fix = "It is an encoder: give hub:ENCODER+PREPROCESSOR, or use load_hub_encoder."
            received = f"one of {', '.join(spec) or 'nothing'}"
            raise InputError("a module of images or strings", received, fix)
        if isinstance(spec, tf.TensorSpec) and spec.dtype == tf.string:
            text = keras.Input((), dtype="string", name=hub_spec.TEXT)
            layer = opened.layer(tf.constant(["a text"] * SAMPLES), output)
            return keras.Model(text, layer(text), name="hub")
        size = _image_size(spec, image_size)
        pixels = keras.Input((size, size, 3), dtype="float32", name="pixels")
        layer = opened.layer(tf.zeros([SAMPLES, size, size, 3]), output)
    low, high = value_range
    scale = keras.layers.Rescaling(
        (high - low) / 255, offset=low, dtype="float32", name=hub_spec.PREPROCESSING
    )
    return keras.Model(pixels, layer(scale(pixels)), name="hub")


def hub_image_size(handle: str, asked: int | None = None) -> int:
    """Height and width of a module's images, in pixels.

    Args:
        handle: See `load_hub_backbone`.
        asked: The size that is wanted; None is what the module says, or 224.

    Returns:
        The size; of a module of strings what was asked, or 224.

    Raises:
        InputError: The handle leads to no module, or to none of that size.
    """
    with resolved(handle) as folder:
        spec = _Opened(folder).takes
    is_of_texts = isinstance(spec, dict) or getattr(spec, "dtype", None) == tf.string
    return asked or IMAGE_SIZE if is_of_texts else _image_size(spec, asked)


def load_hub_layer(
    handle: str | Path, *, sample: Any = None, output: str = "", name: str = hub_spec.MODULE
) -> HubLayer:
    """Loads a TF-Hub module as a layer, for a functional model of one's own.

    Args:
        handle: See `keras_tl.backbones.hub_handles.resolved`.
        sample: Two inputs to try it on: a tensor, strings, or a dictionary of tensors. None makes
            them by the module's signature; where that leaves the size of images open, sides of
            the output that go with it are None.
        output: Which of several named outputs is the layer's.
        name: The layer's name, unique in a model.

    Returns:
        The layer, frozen until `trainable` is set. It takes what the module takes (images most
        often in 0..1), and gives its float32 output.

    Raises:
        InputError: As `load_hub_backbone`; or no sample is given, and none can be made.
    """
    with resolved(handle) as folder:
        opened = _Opened(folder)
        other = None
        if sample is None:
            sample = tf.nest.map_structure(_sample_by, opened.takes)
            smaller = functools.partial(_sample_by, size=IMAGE_SIZE // 2)
            other = tf.nest.map_structure(smaller, opened.takes)
        return opened.layer(sample, output, name, other)


def load_hub_encoder(
    encoder: str | Path,
    preprocessor: str | Path,
    *,
    max_tokens: int = 128,
    texts: int = 1,
    output: str = POOLED,
) -> keras.Model:
    """Builds a TF-Hub text encoder and its preprocessor as a flat functional model.

    Args:
        encoder: The handle of a module from `input_word_ids`, `input_mask` and
            `input_type_ids` to vectors.
        preprocessor: The handle of the module that makes these of strings; its page is named on
            the encoder's.
        max_tokens: Tokens of a text, special ones included.
        texts: 1, or 2 for pairs.
        output: Which of the encoder's outputs is taken. An encoder without "pooled_output" gives
            its "default", or its only one, instead.

    Returns:
        A `keras.Model` of the input "text", strings in UTF-8 `[batch]` or `[batch, 2]`, to the
        encoder's float32 output. Its layer "tokenizer" gives int32 tokens `[batch, 2,
        max_tokens]`; its layer "hub_module" is frozen, until a policy says otherwise.

    Raises:
        InputError: A handle leads to no such module, see `load_hub_backbone`, or the encoder has
            no such output.
    """
    if texts not in (1, 2):
        raise InputError("1 or 2 texts", str(texts), "2 is for pairs, such as title and body.")
    sample = _sample_of(texts)
    tokenizer = load_hub_tokenizer(str(preprocessor), max_tokens=max_tokens, texts=texts)
    tokens = tokenizer(sample)
    unpack = EncoderInputs(padding_of(tokenizer, sample), name=hub_spec.ENCODER_INPUTS)
    with resolved(encoder) as folder:
        layer = _Opened(folder).layer(unpack(tokens), output)
    text = keras.Input((texts,) if texts > 1 else (), dtype="string", name=hub_spec.TEXT)
    return keras.Model(text, layer(unpack(tokenizer(text))), name="hub_encoder")


def load_hub_text(
    handle: str, *, max_tokens: int = 128, windows: int = 1, texts: int = 1
) -> keras.Model:
    """Builds a TF-Hub model of texts from one handle, or two joined by "+".

    Args:
        handle: A module of strings, or "ENCODER+PREPROCESSOR".
        max_tokens: Encoders: tokens of a text; a module of strings reads all of it.
        windows: 1: there is one window.
        texts: 1; for an encoder also 2, for pairs.

    Returns:
        See `load_hub_backbone` and `load_hub_encoder`.

    Raises:
        InputError: See there; or the module takes no texts, no pairs, or no windows.
    """
    encoder, preprocessor = parted(handle)
    if windows != 1:
        raise InputError("1 window for a TF-Hub module", str(windows), "Leave windows out.")
    if preprocessor:
        return load_hub_encoder(encoder, preprocessor, max_tokens=max_tokens, texts=texts)
    if texts != 1:
        fix = "Join the two texts into one, or give ENCODER+PREPROCESSOR."
        raise InputError("single texts for a TF-Hub module of strings", "pairs", fix)
    model = load_hub_backbone(encoder)
    if model.input.dtype != "string":
        raise InputError("a TF-Hub module of texts", "one of images", "Leave text_column out.")
    return model


def check_reading(truncate: str, markup: str, bag_of_words: int = 0) -> None:
    """Refuses what a module of TF-Hub cannot do: it only reads the beginning of a text, unchanged.

    Raises:
        InputError: Anything but "head" and "keep" is asked for, or words are to be counted.
    """
    if truncate != "head":
        raise InputError("truncate=head for a TF-Hub module", truncate, "Leave truncate out.")
    if markup != "keep":
        raise InputError("markup=keep for a TF-Hub module", markup, "Leave markup out.")
    if bag_of_words:
        fix = "Leave bag_of_words out."
        raise InputError("bag_of_words=0 for a TF-Hub module", str(bag_of_words), fix)


def load_hub_tokenizer(handle: str, *, max_tokens: int = 128, texts: int = 1) -> HubTokenizer:
    """Builds the layer "tokenizer" of `load_hub_encoder` alone.

    Args:
        handle: "ENCODER+PREPROCESSOR", or the preprocessor's.
        max_tokens: Tokens of a text.
        texts: 1, or 2 for pairs.
    """
    module, preprocessor = parted(handle)
    with resolved(preprocessor or module) as folder:
        return _Opened(folder).tokenizer(_sample_of(texts), max_tokens, texts)


def _sample_of(texts: int) -> tf.Tensor:
    return tf.constant((["a text"] if texts == 1 else [["a title", "a text"]]) * SAMPLES)


def _sample_by(spec: Any, size: int = IMAGE_SIZE) -> tf.Tensor:
    """Sample inputs for a signature, which may leave the size of images open."""
    shape = spec.shape.as_list()[1:] if isinstance(spec, tf.TensorSpec) and spec.shape.rank else []
    if len(shape) == 3:
        shape = [side or size for side in shape[:2]] + shape[2:]
    if not isinstance(spec, tf.TensorSpec) or spec.shape.rank is None or None in shape:
        fix = f"Give sample, {SAMPLES} inputs for it."
        raise InputError("a module whose signature says what it takes", str(spec), fix)
    value = "a text" if spec.dtype == tf.string else tf.zeros((), spec.dtype)
    return tf.fill([SAMPLES, *shape], value)


class _Opened:
    """A SavedModel that was just loaded, with its weights."""

    def __init__(self, folder: Path):
        files = hub_files.read(folder)
        # Checked first, since loading a module runs some of it.
        _refuse_unsafe(files)
        self.loaded = hub_module.load(files, weights=True)
        with usable("a SavedModel that can be called", "It was not made to be reused."):
            self.endpoint = hub_module.endpoint_of(self.loaded)
            self.takes = self._input_spec()
        self.files = files.kept()
        if files.has_assets:
            # A later export copies assets from where they were loaded.
            self.loaded = hub_module.reload(self.loaded, self.files)

    def _input_spec(self) -> Any:
        """What the endpoint takes: most often a `tf.TensorSpec`, or several by name."""
        function = hub_module.concrete_functions(self.loaded, self.endpoint)[0]
        positional, named = function.structured_input_signature
        if positional:
            return positional[0]
        return next(iter(named.values())) if len(named) == 1 else named

    def layer(
        self, sample: Any, output: str = "", name: str = hub_spec.MODULE, other: Any = None
    ) -> HubLayer:
        """Makes the layer, whose output is known from calling the module on a sample.

        Sides of a feature map that are not those for the other sample are left open.
        """
        found = self._call(sample)
        if isinstance(found, dict):
            output = _chosen(found, output)
            found = found[output]
        else:
            output = ""
        _refuse_no_features(found)
        shape, dtype = found.shape[1:].as_list(), found.dtype.name
        if other is not None and len(shape) > 1:
            again = self._call(other)
            sides = (again[output] if output else again).shape[1:].as_list()
            shape = [a if a == b else None for a, b in zip(shape, sides, strict=True)]
        return self._made(HubLayer, name, output, shape, dtype)

    def tokenizer(self, sample: tf.Tensor, max_tokens: int, texts: int) -> HubTokenizer:
        """Makes the layer of a preprocessor."""
        # [CLS], and for each text a token and [SEP].
        if max_tokens < (least := 1 + 2 * texts):
            raise InputError(f"at least {least} max_tokens", str(max_tokens), "128 is common.")
        layer = self._made(HubTokenizer, "tokenizer", "", (2, max_tokens), "int32")
        layer.check(sample, texts)
        return layer

    def _made(self, kind: type[Layer], name: str, output: str, shape: Any, dtype: str) -> Layer:
        with usable("a module of which a layer can be made", "Take another one."):
            module = HubModule(
                digest=self.files.digest,
                endpoint=self.endpoint,
                takes_training=hub_module.takes_training(self.loaded, self.endpoint),
                output=output,
                shape=tuple(shape),
                dtype=dtype,
                variables=hub_module.describe_variables(self.loaded, self.endpoint),
            )
            layer = kind(module, trainable=False, name=name)
            layer.adopt(self.loaded, self.files, keep_weights=False)
        return layer

    def _call(self, sample: Any) -> Any:
        shapes = tf.nest.map_structure(lambda t: f"{t.dtype.name} {t.shape}", sample)
        fix = "Give the image size or max_tokens that the module was made for."
        with usable(f"a module that takes {shapes}", fix, f"one that takes {self.takes}"):
            has_mode = hub_module.takes_training(self.loaded, self.endpoint)
            options = {"training": False} if has_mode else {}
            strategy = tf.distribute.get_strategy()
            call = functools.partial(hub_module.run, self.loaded, self.endpoint, sample, **options)
            # A module that is loaded for several devices can only be called on all of them.
            run = tf.function(lambda: strategy.run(call), autograph=False)
            found = run.get_concrete_function()()
            return tf.nest.map_structure(lambda t: strategy.experimental_local_results(t)[0], found)


def _refuse_unsafe(files: ModuleFiles) -> None:
    """Raises where a module may do more than compute, unless Keras' safe mode is off."""
    with usable("a SavedModel", "Download it again."):
        reason = why_unsafe(files.graph(), files.names)
    if not reason:
        return
    if in_safe_mode() is not False:
        raise InputError(
            "a TF-Hub module that only computes",
            f"one with {reason}",
            "If you trust where it comes from, in Python call "
            "keras.config.enable_unsafe_deserialization() before.",
        )
    log.warning("A .keras file of this model loads with safe_mode=False only: %s", reason)


def _refuse_no_features(found: Any) -> None:
    """Raises unless a module's output for `SAMPLES` inputs is one that a head can stand on."""
    is_tensor = isinstance(found, tf.Tensor)
    is_map = is_tensor and found.dtype.is_floating and 2 <= found.shape.rank <= 4
    if is_map and found.shape[0] == SAMPLES and all(found.shape):
        return
    received = f"{found.dtype.name} {found.shape}" if is_tensor else type(found).__name__
    raise InputError(
        "a module that gives a vector or a feature map for each input",
        f"{received} for {SAMPLES} inputs",
        "Take a feature vector, a classifier, or a text embedding.",
    )


def _chosen(found: dict[str, Any], output: str) -> str:
    """Which of a module's named outputs is taken."""
    if output in found:
        return output
    if output in ("", POOLED) and (len(found) == 1 or "default" in found):
        return "default" if "default" in found else next(iter(found))
    hint = did_you_mean(output, found, f"It has {', '.join(sorted(found)) or 'none'}.")
    if set(found) & TOKENIZED:
        hint = "It is a preprocessor: give hub:ENCODER+PREPROCESSOR, or use load_hub_encoder."
    elif not output:
        hint += " In Python give its name as output."
    raise InputError("an output of the module", repr(output) if output else "no name of one", hint)


def _image_size(spec: Any, asked: int | None) -> int:
    """The size that was asked for, or the module's own.

    Raises:
        InputError: The module takes no colour images, or none of that size.
    """
    is_batch = isinstance(spec, tf.TensorSpec) and spec.shape.rank == 4
    shape = spec.shape.as_list() if is_batch else []
    if not shape or spec.dtype != tf.float32 or shape[3] not in (3, None):
        fix = "Take a feature vector, a classifier, or a text embedding."
        raise InputError("a module of colour images or strings", f"one of {spec}", fix)
    own = shape[1]
    if own is not None and not 0 < own <= LARGEST_IMAGE:
        fix = "Take another one."
        raise InputError(f"a module of images of up to {LARGEST_IMAGE} pixels", str(own), fix)
    if own is not None and asked not in (None, own):
        fix = f"Leave it out for {own}."
        raise InputError(f"an image size of {own} for this module", str(asked), fix)
    return asked or own or IMAGE_SIZE
