"""A SavedModel on its way to the workers, and there."""

import io
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow as tf
from apache_beam.io.filesystems import FileSystems

from keras_tl.data.inspection import refused
from keras_tl.data.reading import UNSTEADY, strings_of
from keras_tl.data.streams import Item
from keras_tl.errors import InputError
from keras_tl.model_info import ModelInfo


def pack(folder: Path, address: str) -> None:
    """Writes a SavedModel's folder as one file to where the workers can read it.

    Args:
        folder: The folder.
        address: A path or an address that a filesystem of Beam's writes to ("gs://...").
    """
    with tempfile.TemporaryFile() as aside:
        with zipfile.ZipFile(aside, "w", zipfile.ZIP_STORED) as archive:
            for file in sorted(folder.rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(folder).as_posix())
        aside.seek(0)
        with FileSystems.create(address) as target:
            shutil.copyfileobj(aside, target)


def unpack(address: str) -> "ServedModel":
    """Loads what `pack` wrote."""
    with tempfile.TemporaryDirectory() as folder:
        with FileSystems.open(address) as source:
            content = io.BytesIO(source.read())
        with zipfile.ZipFile(content) as archive:
            archive.extractall(folder)
        return ServedModel(Path(folder))


class ServedModel:
    """A SavedModel of keras_tl's; it needs nothing but TensorFlow (of texts, tensorflow-text too).

    Args:
        folder: The SavedModel, which need not be there afterwards.

    Attributes:
        info: What it takes and gives.
    """

    def __init__(self, folder: Path):
        self.info = ModelInfo.read(folder)
        if self.info.text_input is not None:
            try:
                import tensorflow_text  # noqa: F401
            except ImportError as error:
                fix = "Install keras_tl[text] on the workers."
                raise InputError("the package tensorflow-text", "none installed", fix) from error
        # Kept because it holds the variables, which signatures only refer to.
        self._loaded = tf.saved_model.load(str(folder))
        self._signatures = self._loaded.signatures

    def run(self, items: Sequence[Item]) -> tuple[list[Item], np.ndarray, list[Item]]:
        """Runs the model over items.

        Args:
            items: Encoded images (`bytes`), or texts.

        Returns:
            Those that could be read, float32 `[read, outputs]`, and those that could not, with
            the reason.
        """
        if self.info.text_input is not None:
            columns = strings_of([item.content for item in items])
            columns = columns.reshape(len(items), -1)
            names = ("text", "text_pair")[: columns.shape[1]]
            inputs = {n: tf.constant(columns[:, i], tf.string) for i, n in enumerate(names)}
            return list(items), self._outputs("serving_default", inputs), []
        good, pixels, bad = self._decoded(list(items))
        return good, self._outputs("pixels", {"pixels": pixels}), bad

    def _decoded(self, items: list[Item]) -> tuple[list[Item], tf.Tensor, list[Item]]:
        """Decodes images in one call; if that fails, one by one, to find the bad ones."""
        decode = self._signatures["decode"]

        def pixels_of(some: list[Item]) -> tf.Tensor:
            return decode(image_bytes=tf.constant([i.content for i in some], tf.string))["pixels"]

        try:
            return items, pixels_of(items), []
        except tf.errors.InvalidArgumentError:
            good, bad = [], []
        for item in items:
            try:
                pixels_of([item])
                good.append(item)
            except tf.errors.InvalidArgumentError:
                reason = refused(item.content, self.info.images) or UNSTEADY
                bad.append(replace(item, reason=reason))
        return good, pixels_of(good), bad

    def _outputs(self, signature: str, inputs: dict[str, tf.Tensor]) -> np.ndarray:
        result = self._signatures[signature](**inputs)
        return result["values" if self.info.task == "regression" else "probabilities"].numpy()
