"""A loaded SavedModel: what of it is called, and which variables that uses."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import op_def_registry
from tensorflow.python.util import tf_inspect

from keras_tl.backbones.graph import clean_name
from keras_tl.backbones.hub_files import ModuleFiles
from keras_tl.backbones.hub_ops import TEXT_OPS
from keras_tl.errors import InputError, KerasTLError

ENDPOINTS = ("__call__", "serve", "serving_default")


@dataclass(frozen=True)
class HubVariable:
    """One variable of a module.

    Attributes:
        name: Its name in Keras, unique in the module.
        shape: Its shape.
        dtype: Its dtype.
        trainable: Whether it trains where the module does.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    trainable: bool


def load(files: ModuleFiles, *, weights: bool = False) -> Any:
    """Loads a SavedModel.

    Args:
        files: Its files.
        weights: Whether to load its variables' values from its checkpoint.

    Raises:
        InputError: TensorFlow does not know an operation in it, or cannot load it.
    """
    _know_operations(files)
    skip = not (weights or files.keeps_checkpoint)
    options = tf.saved_model.LoadOptions(experimental_skip_checkpoint=skip)
    with usable("a SavedModel that TensorFlow can load", "Download it again."):
        return tf.saved_model.load(str(files.folder), options=options)


@contextmanager
def usable(expected: str, fix: str, received: str = "") -> Iterator[None]:
    """Turns what a damaged graph leads to into one InputError.

    Args:
        expected: What the graph was to be.
        fix: What to do about it.
        received: What it is; by default the text of the error.

    Raises:
        InputError: Anything was raised except our own errors and a lack of memory.
    """
    try:
        yield
    except (KerasTLError, MemoryError, tf.errors.ResourceExhaustedError):
        raise
    # TensorFlow may raise anything here: there is no narrower base class.
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
        raise InputError(expected, received or reason, fix) from error


def reload(loaded: Any, files: ModuleFiles) -> Any:
    """Loads the same SavedModel from another folder, with the weights that it has now."""
    again = load(files)
    for new, old in zip(_all_variables(again), _all_variables(loaded), strict=True):
        new.assign(old)
    return again


def _know_operations(files: ModuleFiles) -> None:
    """Imports tensorflow-text where a module has its operations."""
    library = files.graph().graph_def.library
    own = {function.signature.name for function in library.function}
    used = {node.op for function in library.function for node in function.node_def} - own
    if used & TEXT_OPS:
        try:
            import tensorflow_text  # noqa: F401
        except ImportError as error:
            raise InputError(
                "the package tensorflow-text, whose operations are in this module",
                f"none that can be imported ({error})",
                "Run: pip install 'keras_tl[text]'",
            ) from error
    unknown = sorted(op for op in used if op_def_registry.get(op) is None)
    if unknown:
        raise InputError(
            "a module with operations of TensorFlow and tensorflow-text",
            f"one with {', '.join(unknown)}",
            "Import the package that has them before.",
        )


def endpoint_of(loaded: Any) -> str:
    """The endpoint of a loaded SavedModel to call.

    Raises:
        InputError: It has nothing of that kind.
    """
    if callable(loaded):
        return ENDPOINTS[0]
    if hasattr(loaded, ENDPOINTS[1]):
        return ENDPOINTS[1]
    if ENDPOINTS[2] in loaded.signatures:
        return ENDPOINTS[2]
    raise InputError(
        f"a SavedModel with {', '.join(ENDPOINTS)}",
        f"one with {', '.join(loaded.signatures) or 'nothing that can be called'}",
        "It was not made to be reused.",
    )


def takes_training(loaded: Any, endpoint: str) -> bool:
    """Whether an endpoint takes the argument `training`."""
    if endpoint == ENDPOINTS[2]:
        return False
    spec = tf_inspect.getfullargspec(getattr(loaded, endpoint))
    return "training" in (*spec.args, *spec.kwonlyargs)


def has_training_mode(loaded: Any, endpoint: str) -> bool:
    """Whether an endpoint that takes `training` was also saved with it on, or with either."""
    names = [n for n in tf_inspect.getfullargspec(getattr(loaded, endpoint)).args if n != "self"]
    for function in concrete_functions(loaded, endpoint):
        positional, named = function.structured_input_signature
        mode = {**dict(zip(names, positional, strict=False)), **named}.get("training")
        if mode is True or isinstance(mode, tf.TensorSpec):
            return True
    return False


def run(loaded: Any, endpoint: str, inputs: Any, **options: Any) -> Any:
    """Calls an endpoint.

    Args:
        loaded: The SavedModel.
        endpoint: One of `ENDPOINTS`.
        inputs: A tensor, or a dictionary of them.
        **options: `training`, where it is taken.

    Returns:
        What the endpoint returns.
    """
    if endpoint != ENDPOINTS[2]:
        return getattr(loaded, endpoint)(inputs, **options)
    signature = loaded.signatures[endpoint]
    names = list(signature.structured_input_signature[1])
    return signature(**(inputs if isinstance(inputs, dict) else {names[0]: inputs}))


def concrete_functions(loaded: Any, endpoint: str) -> list[Any]:
    """The traced functions of an endpoint."""
    if endpoint == ENDPOINTS[2]:
        return [loaded.signatures[endpoint]]
    return list(getattr(loaded, endpoint).concrete_functions)


def variables_of(loaded: Any, endpoint: str) -> list[tf.Variable]:
    """The variables that an endpoint and the regularization losses use, in the module's order."""
    functions = concrete_functions(loaded, endpoint)
    for loss in getattr(loaded, "regularization_losses", ()):
        functions += loss.concrete_functions
    used = {id(v) for function in functions for v in function.graph.variables}
    return [v for v in _all_variables(loaded) if id(v) in used]


def _all_variables(loaded: Any) -> Iterable[tf.Variable]:
    found = tf.train.TrackableView(loaded).descendants()
    return {id(v): v for v in found if isinstance(v, tf.Variable)}.values()


def describe_variables(loaded: Any, endpoint: str) -> tuple[HubVariable, ...]:
    """Describes `variables_of` for Keras: names without "/", no name twice."""
    found = variables_of(loaded, endpoint)
    # An empty list says that nothing trains; a plain `tf.Module` has no list.
    has_list = hasattr(loaded, "trainable_variables")
    listed = {id(v) for v in loaded.trainable_variables} if has_list else set()
    described: list[HubVariable] = []
    for variable in found:
        if not (variable.dtype.is_floating or variable.dtype.is_integer or variable.dtype.is_bool):
            raise TypeError(f"variable {variable.name} is of {variable.dtype.name}")
        name = base = clean_name(variable.name.split(":")[0])
        count = 1
        while name in {other.name for other in described}:
            name, count = f"{base}_{count}", count + 1
        trains = id(variable) in listed if has_list else variable.trainable
        trains = bool(trains and variable.dtype.is_floating)
        shape = tuple(variable.shape.as_list())
        described.append(HubVariable(name, shape, variable.dtype.name, trains))
    return tuple(described)
