"""Writes a model as a SavedModel that needs TensorFlow alone.

The SavedModel of a model of images (of texts, see `keras_tl.export.text_model`) has three
signatures, each for any number N of images:

- `serving_default`: `image_bytes`, string `[N]`, encoded images (JPEG, PNG, BMP, GIF, WebP).
- `pixels`: `pixels`, uint8 `[N, size, size, 3]`, RGB images already at the model's size.
- `decode`: `image_bytes` to `pixels`, to see what the model is shown of a file.

The first two return, for each task:

- single-label: `probabilities` float32 `[N, classes]`, `class_index` int64 `[N]`, `class_name`
  string `[N]`: the most probable class, or what the model's threshold decides.
- multi-label: `probabilities` float32 `[N, classes]`, `predicted` bool `[N, classes]`, `labels`
  string `[N]`, the predicted classes joined by "|".
- regression: `values` float32 `[N, targets]`.

All class names, in order, are in `assets.extra/model.json`: `assets.extra` is the folder of a
SavedModel for files that no graph loads (https://www.tensorflow.org/guide/saved_model), and an
output of a signature must have one row for each input.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import keras
import tensorflow as tf

from keras_tl.data.decoding import decode
from keras_tl.errors import InputError
from keras_tl.export.described import described
from keras_tl.export.text_model import add_text_endpoints, check_text_fit, verify_text_model
from keras_tl.export.verify import verify_saved_model
from keras_tl.files import atomic_folder
from keras_tl.model_info import ASSETS_FOLDER, ModelInfo
from keras_tl.training.arguments import functional

log = logging.getLogger("keras_tl")


def export_saved_model(
    model: keras.Model,
    path: str | Path,
    info: ModelInfo,
    *,
    sample_files: Sequence[str | Path | bytes] = (),
    sample_texts: Sequence[tuple[str, ...]] = (),
    tolerance: float | None = None,
) -> Path:
    """Exports a model as a SavedModel: encoded images or texts in, probabilities and names out.

    Images are decoded and resized inside the graph by the function that training used. What was
    written is then loaded and compared with the Keras model (see
    `keras_tl.export.verify.verify_saved_model`); where they differ nothing is left behind, and a
    folder that was at `path` stays.

    Args:
        model: Takes float32 `[batch, size, size, 3]`, RGB in 0..255, or strings `[batch]` (pairs:
            `[batch, 2]`); gives probabilities (values for a regression) `[batch, outputs]`.
        path: The SavedModel's folder; an older one that is there is replaced.
        info: What the model takes and gives.
        sample_files: A few encoded images, paths or contents, to compare on, beside the images
            that are compared always.
        sample_texts: A few texts, or pairs of them, likewise.
        tolerance: The largest difference allowed; by default the precision's own.

    Returns:
        The path.

    Raises:
        InputError: The model does not fit `info`, a sample file cannot be decoded, the folder has
            other things in it, or the disk is full.
        CheckError: The SavedModel differs from the Keras model.
    """
    check = check_fit if info.text_input is None else check_text_fit
    model = functional(model)
    check(model, info)
    path = Path(path)
    log.info("Exporting %s", path)
    with atomic_folder(path, known_by="saved_model.pb") as aside:
        try:
            _write(model, aside, info)
        except tf.errors.ResourceExhaustedError as error:
            raise InputError(f"room to write {path}", "a full disk", "Free some space.") from error
        if info.text_input is None:
            verify_saved_model(aside, model, info, sample_files=sample_files, tolerance=tolerance)
        else:
            verify_text_model(aside, model, info, sample_texts=sample_texts, tolerance=tolerance)
    return path


def check_fit(model: keras.Model, info: ModelInfo) -> None:
    """Refuses a model that does not take or give what `info` says.

    Raises:
        InputError: It does not.
    """
    size, outputs = info.images.size, len(info.class_names)
    received = (*model.input_shape[1:], model.output_shape[-1])
    # A side of None takes any size.
    fits = all(side in (None, size) for side in received[:2]) and received[2:] == (3, outputs)
    if not fits:
        raise InputError(
            f"a model from {size}x{size}x3 pixels to {outputs} outputs",
            f"one from {'x'.join(str(side) for side in received[:3])} to {received[3]}",
            "Export it with the ModelInfo that it was built for.",
        )


def _write(model: keras.Model, folder: Path, info: ModelInfo) -> None:
    """Writes the SavedModel with its signatures, and `model.json` beside the graph."""
    archive = keras.export.ExportArchive()
    archive.track(model)
    add_endpoints = _add_image_endpoints if info.text_input is None else add_text_endpoints
    add_endpoints(archive, model, info)
    with _without_notes_of_tensorflow():
        archive.write_out(str(folder), verbose=False)
    info.write(folder / ASSETS_FOLDER)


def _add_image_endpoints(
    archive: keras.export.ExportArchive, model: keras.Model, info: ModelInfo
) -> None:
    size = info.images.size
    one_image = tf.TensorSpec([size, size, 3], tf.uint8)
    encoded = tf.TensorSpec([None], tf.string, name="image_bytes")
    decoded = tf.TensorSpec([None, size, size, 3], tf.uint8, name="pixels")

    # A function of its own, so that decoding is traced once for both signatures that decode.
    @tf.function(input_signature=[encoded], autograph=False)
    def decode_all(image_bytes: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(
            lambda contents: decode(contents, info.images),
            image_bytes,
            fn_output_signature=one_image,
        )

    def from_bytes_to_pixels(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"pixels": decode_all(image_bytes)}

    def from_pixels(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        count = tf.shape(pixels)[0]
        # A convolution of no images gives a wrong shape on a CPU (oneDNN, TensorFlow 2.21), so
        # that one blank image stands in for none.
        blank = tf.zeros([tf.cast(count == 0, tf.int32), size, size, 3], tf.uint8)
        images = tf.concat([pixels, blank], axis=0)
        outputs = model(tf.cast(images, tf.float32), training=False)[:count]
        return described(tf.cast(outputs, tf.float32), info)

    def from_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return from_pixels(decode_all(image_bytes))

    archive.add_endpoint("serving_default", from_bytes, input_signature=[encoded])
    archive.add_endpoint("pixels", from_pixels, input_signature=[decoded])
    archive.add_endpoint("decode", from_bytes_to_pixels, input_signature=[encoded])


@contextmanager
def _without_notes_of_tensorflow() -> Iterator[None]:
    """Keeps back TensorFlow's note of where it writes: that folder is about to be renamed."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
