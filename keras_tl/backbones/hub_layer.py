"""A TF-Hub module, or any SavedModel of TensorFlow 2, as a Keras layer that trains.

It follows the interface of reusable SavedModels: `__call__` with an argument `training`,
`variables`, `trainable_variables`, `regularization_losses`
(https://www.tensorflow.org/hub/reusable_saved_models). A SavedModel without `__call__`, such as
Keras' own `export` writes, is called by its endpoint `serve` or `serving_default`, which is one for
inference: its weights train, but dropout and batch statistics are not in it.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from keras.src.saving.serialization_lib import in_safe_mode
from tensorflow.python.ops.resource_variable_ops import BaseResourceVariable

from keras_tl.backbones import hub_files
from keras_tl.backbones.hub_check import why_unsafe
from keras_tl.backbones.hub_files import ModuleFiles
from keras_tl.backbones.hub_module import (
    HubVariable,
    has_training_mode,
    load,
    run,
    usable,
    variables_of,
)
from keras_tl.errors import InputError


@dataclass(frozen=True)
class HubModule:
    """All of a module that a layer must know before it has the module's files.

    Attributes:
        digest: SHA-256 of the files, see `keras_tl.backbones.hub_files`.
        endpoint: What is called, one of `keras_tl.backbones.hub_module.ENDPOINTS`.
        takes_training: Whether it takes the argument `training`.
        output: Which of several named outputs is the layer's; "" where there is one alone.
        shape: The output's shape without the batch.
        dtype: The output's dtype.
        variables: The variables that the endpoint uses.
    """

    digest: str
    endpoint: str
    takes_training: bool
    output: str
    shape: tuple[int | None, ...]
    dtype: str
    variables: tuple[HubVariable, ...]


class _Described(dict):
    """A module's description that remembers, within the process, the layer it is of.

    So a copy by configuration starts from the layer's weights and needs no file.
    """

    def __init__(self, facts: dict[str, Any], layer: "HubLayer"):
        super().__init__(facts)
        self.layer = layer


@keras.saving.register_keras_serializable(package="keras_tl")
class HubLayer(keras.layers.Layer):
    """Calls a module; its variables are the layer's weights.

    Frozen it is in inference as a whole: `training` is False, and nothing in it moves. Trainable,
    it adds the module's regularization losses. It computes in float32 whatever the dtype policy.
    Its batch normalization cannot be told from the rest: with `statistics_frozen`, a module that
    has non-trainable variables trains in inference mode, without dropout. On several devices moving
    statistics are those of the first one.

    A `.keras` file has the module's graph and assets inside. In safe mode they are checked before
    they are loaded (`keras_tl.backbones.hub_check`).

    Args:
        module: See `HubModule`; a dictionary of its attributes will do.
        statistics_frozen: Whether moving statistics stay; policies set it by `batch_norm`.
        **kwargs: Of `keras.layers.Layer`.
    """

    def __init__(
        self, module: HubModule | dict[str, Any], statistics_frozen: bool = False, **kwargs: Any
    ):
        if isinstance(module, str | Path):
            fix = "Make the layer with keras_tl.load_hub_layer(handle)."
            raise InputError("what describes a module", f"the handle {str(module)!r}", fix)
        super().__init__(**{"dtype": "float32", **kwargs})
        self.module = module if isinstance(module, HubModule) else _described(module)
        self.statistics_frozen = statistics_frozen
        # Strings and tables do not compile, and nothing says whether the rest does.
        self.supports_jit = False
        self.loaded: Any = None
        self._files: ModuleFiles | None = None
        self._is_safe_mode = in_safe_mode() is not False
        self._own = [
            self.add_weight(
                shape=variable.shape,
                dtype=variable.dtype,
                initializer="zeros",
                trainable=variable.trainable,
                name=variable.name,
                autocast=False,
            )
            for variable in self.module.variables
        ]
        self.built = True

    def adopt(self, loaded: Any, files: ModuleFiles, *, keep_weights: bool) -> None:
        """Takes a loaded module: from now on its variables are the layer's own.

        Args:
            loaded: What `load` returned.
            files: Its files.
            keep_weights: Whether the module gets the layer's weights, or the layer the module's.
        """
        found = variables_of(loaded, self.module.endpoint)
        for variable, within in zip(self._own, found, strict=True):
            if keep_weights:
                within.assign(variable.value)
            if isinstance(within, BaseResourceVariable):
                # An optimizer that came out of the same file knows its variables by this.
                within._unique_id = variable.value._unique_id
            # The Keras variable stays the same object, as optimizers and models refer to it.
            variable._initialize(within)
        self.loaded, self._files = loaded, files
        # Keras asks each variable once for its penalty, however often the layer is called.
        trained = [
            v for v, facts in zip(self._own, self.module.variables, strict=True) if facts.trainable
        ]
        if trained and getattr(loaded, "regularization_losses", None):
            trained[0].regularizer = self._penalty

    def _penalty(self, _: Any) -> tf.Tensor:
        """The sum of the module's regularization losses."""
        return tf.add_n([loss() for loss in self._loaded().regularization_losses])

    def call(self, inputs: Any, training: bool | None = None) -> tf.Tensor:
        """Calls the module.

        Args:
            inputs: What the module takes: pixels, strings, or a dictionary of tensors.
            training: As in Keras; only a trainable layer passes it on.

        Returns:
            The module's output.
        """
        loaded = self._loaded()
        options = {}
        if self.module.takes_training:
            held = self.statistics_frozen and not all(v.trainable for v in self.module.variables)
            trains = bool(training) and self.trainable and not held
            options["training"] = trains and has_training_mode(loaded, self.module.endpoint)
        found = run(loaded, self.module.endpoint, inputs, **options)
        return found[self.module.output] if self.module.output else found

    def compute_output_spec(self, inputs: Any, training: bool | None = None) -> keras.KerasTensor:
        """The output's shape and dtype, without calling the module."""
        batch = keras.tree.flatten(inputs)[0].shape[0]
        return keras.KerasTensor((batch, *self.module.shape), self.module.dtype)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """The output's shape; wrappers such as `keras.layers.TimeDistributed` ask for it."""
        return (keras.tree.flatten(input_shape)[0], *self.module.shape)

    def get_config(self) -> dict[str, Any]:
        """The layer's settings and the description of its module."""
        module = _Described(asdict(self.module), self)
        own = {"module": module, "statistics_frozen": self.statistics_frozen}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "HubLayer":
        """Makes a layer; a copy of a layer in this process has its module and weights."""
        layer = super().from_config(config)
        origin = getattr(config["module"], "layer", None)
        if origin is not None and origin.loaded is not None:
            layer.adopt(load(origin._files), origin._files, keep_weights=False)
            layer.set_weights(origin.get_weights())
        return layer

    def save_assets(self, folder: str) -> None:
        """Writes the module's files into a `.keras` file; Keras calls it."""
        self._loaded()
        assert self._files is not None
        self._files.copy_to(Path(folder))

    def load_assets(self, folder: str | None) -> None:
        """Reads the module's files out of a `.keras` file; Keras calls it, weights come before.

        Raises:
            InputError: They are missing, are not those that were written, or do not pass the
                check of safe mode.
        """
        if folder is None:
            fix = "Write the model again with model.save('model.keras')."
            raise InputError("a .keras file with its TF-Hub module", "one without it", fix)
        self._take(hub_files.read(folder))

    def _loaded(self) -> Any:
        """The loaded module; one that was used on this machine before is found by its SHA-256."""
        if self.loaded is None:
            folder = hub_files.cached(self.module.digest)
            if not folder.is_dir():
                raise InputError(
                    f"the TF-Hub module of layer {self.name}",
                    "a configuration or weights without it",
                    "Load a whole .keras file, or build the model from the module's handle.",
                )
            self._take(hub_files.read(folder))
        return self.loaded

    def _take(self, files: ModuleFiles) -> None:
        if files.digest != self.module.digest:
            raise InputError(
                f"a TF-Hub module of SHA-256 {self.module.digest}",
                f"one of {files.digest}",
                "Take the file as it was written.",
            )
        with usable("a SavedModel", "Take the file as it was written."):
            reason = why_unsafe(files.graph(), files.names) if self._is_safe_mode else ""
        if reason:
            raise InputError(
                "a TF-Hub module that only computes",
                f"one with {reason}",
                "If you trust where the file comes from, load it with safe_mode=False.",
            )
        files = files.kept()
        # Outside any graph that is being traced.
        with tf.init_scope():
            self.adopt(load(files), files, keep_weights=True)


def _described(facts: dict[str, Any]) -> HubModule:
    variables = tuple(
        HubVariable(**{**facts_of, "shape": tuple(facts_of["shape"])})
        for facts_of in facts["variables"]
    )
    return HubModule(**{**facts, "shape": tuple(facts["shape"]), "variables": variables})
