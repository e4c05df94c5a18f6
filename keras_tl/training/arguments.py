"""The arguments of a training, taken as they are meant or refused in one line.

What is refused here depends on the program alone, so that several processes refuse it together.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras

from keras_tl.data.prepared import Prepared
from keras_tl.errors import InputError
from keras_tl.training.phases import Phase


def read(
    model: Any, phases: Any, train: Any, val: Any, class_weights: Any, callbacks: Any
) -> tuple[keras.Model, list[Phase], Sequence[float] | None]:
    """Takes the arguments of a training as they are meant, and refuses others.

    Args:
        model: See `functional`.
        phases: See `as_phases`.
        train: See `check_items`.
        val: See `check_items`.
        class_weights: See `in_order`.
        callbacks: See `check_callbacks`.

    Returns:
        The model, the phases and the class weights.
    """
    model, phases = functional(model), as_phases(phases)
    check_items(train, val)
    check_callbacks(callbacks)
    return model, phases, in_order(class_weights)


def functional(model: Any) -> keras.Model:
    """Takes a model that can be trained in parts.

    Args:
        model: What was given as one.

    Returns:
        The model; of a `Sequential`, or of one that takes or gives a list or a dictionary, a model
        with the same layers from one tensor to one.

    Raises:
        InputError: It is no functional model, or has several inputs or outputs.
    """
    expected = "a functional keras.Model of one input and one output"
    sequential, kind = isinstance(model, keras.Sequential), type(model).__name__
    if not isinstance(model, keras.Model):
        raise InputError(expected, kind, "build_image_model makes one.")
    if not hasattr(model, "inputs" if sequential else "operations"):
        fix = "Begin it with keras.Input." if sequential else "Make keras.Model(inputs, outputs)."
        raise InputError(expected, f"{kind}, whose input is not known", fix)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        received = f"{len(model.inputs)} inputs and {len(model.outputs)} outputs"
        raise InputError(expected, received, "Train the part that has one of each.")
    ends = (None, None) if sequential else (model.input, model.output)
    if not all(isinstance(end, keras.KerasTensor) for end in ends):
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    return model


def as_phases(phases: Any) -> list[Phase]:
    """Takes phases in order, or a single one.

    Raises:
        InputError: Something else is among them.
    """
    several = phases if isinstance(phases, Sequence) else [phases]
    for phase in several:
        if not isinstance(phase, Phase):
            fix = "Each is keras_tl.Phase(freezing, epochs, learning_rate)."
            raise InputError("a list of phases", type(phase).__name__, fix)
    return list(several)


def check_items(train: Any, val: Any = None) -> None:
    """Refuses what is no split: all splits at once, arrays, a `tf.data.Dataset`.

    Raises:
        InputError: It is none.
    """
    for items in (train,) if val is None else (train, val):
        kind = type(items).__name__
        if isinstance(items, Prepared):
            raise InputError("one split", f"{kind} as a whole", "Pass data.train, data.val.")
        if not hasattr(items, "targets"):
            fix = "First data = keras_tl.prepare(keras_tl.from_arrays(images, labels))."
            raise InputError("a split, such as data.train", kind, fix)


def in_order(class_weights: Any) -> Sequence[float] | None:
    """Takes class weights in order, or by the class's index as in Keras' `fit`.

    Raises:
        InputError: Indices are left out.
    """
    if not isinstance(class_weights, Mapping):
        return class_weights
    if set(class_weights) != set(range(len(class_weights))):
        received = ", ".join(map(repr, class_weights))
        fix = "Give one for each class, or a list in order."
        raise InputError("class weights for the classes 0, 1, ...", received, fix)
    return [class_weights[index] for index in range(len(class_weights))]


def check_callbacks(callbacks: Any) -> None:
    """Refuses what is no function: each phase has callbacks of its own.

    Raises:
        InputError: It is none.
    """
    if callbacks is not None and not callable(callbacks):
        kind, fix = type(callbacks).__name__, "Give callbacks=lambda phase: [...]."
        raise InputError("a function from a phase to its callbacks", kind, fix)


def callbacks_of(callbacks: Any, phase: Phase) -> list[keras.callbacks.Callback]:
    """The callbacks of a phase; a function may return None for none.

    Raises:
        InputError: It returns no list.
    """
    found = callbacks(phase) if callbacks else None
    if found is not None and not isinstance(found, Iterable):
        kind, fix = type(found).__name__, "Give callbacks=lambda phase: [...]."
        raise InputError(f"a list of callbacks for phase {phase.name}", kind, fix)
    return list(found or ())
