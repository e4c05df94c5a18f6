"""What is fitted: a part of a model that saves as the whole."""

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_tl.workers import Workers


class TrainingModel(keras.Model):
    """What is fitted: a suffix of a model, or all of it.

    Callbacks that save (`ModelCheckpoint`) save the whole model. Made by `training_model`.

    Attributes:
        sample: A batch of one device, from which Keras builds losses and metrics.
        micro_batches: Number of parts in which a device computes its batch, one after the other, so
            that only one part needs to fit into its memory. The update is that of the whole batch;
            a BatchNormalization that trains sees the parts.
        mean_over_workers: With several processes, makes one figure of each device's.
        watch: Called in every step of a validation with the outputs of each device of this process,
            in turn; None for nobody.
    """

    sample: tuple[Any, ...] | None = None
    micro_batches: int = 1
    mean_over_workers: Callable[[Any], tf.Tensor] | None = None
    watch: Callable[..., None] | None = None
    # Keras', which declares no types.
    train_function: Callable[[Any], Any] | None
    test_function: Callable[[Any], Any] | None

    def train_step(self, data: tuple[Any, ...]) -> dict[str, Any]:
        """Keras' own step, or one with the mean of the parts' gradients."""
        if self.micro_batches == 1:
            return super().train_step(data)
        total: list[Any] = [None] * len(self.trainable_weights)
        outputs = []
        for part in parts_of(data, self.micro_batches):
            # One after the other: TensorFlow would else compute them at the same time.
            with tf.control_dependencies([grad for grad in total if grad is not None]):
                part = keras.tree.map_structure(tf.identity, part)
            gradients, output = self._gradients(part)
            outputs.append(output)
            total = [_added(a, b) for a, b in zip(total, gradients, strict=True)]
        # None is for a weight that the loss does not depend on; Keras skips it.
        mean = [None if gradient is None else gradient / self.micro_batches for gradient in total]
        self.optimizer.apply_gradients(zip(mean, self.trainable_weights, strict=True))
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        return self.compute_metrics(x, y, tf.concat(outputs, axis=0), sample_weight=weights)

    def _gradients(self, part: tuple[Any, ...]) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Gradients of a part's loss, scaled as Keras scales them, and its output."""
        x, y, weights = keras.utils.unpack_x_y_sample_weight(part)
        with tf.GradientTape() as tape:
            output = self(x, training=True)
            loss = self.compute_loss(x, y, output, weights, training=True)
            scaled = self.optimizer.scale_loss(loss)
        self._track(loss, output)
        gradients = tape.gradient(scaled, self.trainable_weights)
        return [g if g is None else tf.convert_to_tensor(g) for g in gradients], output

    def _track(self, loss: tf.Tensor, output: tf.Tensor) -> None:
        """Adds a batch's loss to the mean that is reported, as Keras' own steps do."""
        # A strategy adds up the losses of its devices.
        of_device = loss * tf.distribute.get_strategy().num_replicas_in_sync
        self._loss_tracker.update_state(of_device, sample_weight=tf.shape(output)[0])

    def make_train_function(self, force: bool = False) -> None:
        """As in Keras; with several processes, a step of our own: see `_one_step`."""
        if self._is_alone:
            super().make_train_function(force)
        elif self.train_function is None or force:
            self.train_function = self._one_step(lambda data: (self.train_step(data), None))

    def make_test_function(self, force: bool = False) -> None:
        """As in Keras, but with the outputs for `watch`."""
        if self._is_alone and self.watch is None:
            super().make_test_function(force)
        elif self.test_function is None or force:
            self.test_function = self._one_step(self._tested, self.watch)

    def _tested(self, data: tuple[Any, ...]) -> tuple[dict[str, Any], tf.Tensor]:
        """Keras' own step of a validation, which also returns the outputs."""
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        output = self(x, training=False)
        self._track(self.compute_loss(x, y, output, weights, training=False), output)
        return self.compute_metrics(x, y, output, sample_weight=weights), output

    def _one_step(
        self,
        step: Callable[[Any], tuple[dict[str, Any], Any]],
        watch: Callable[..., None] | None = None,
    ) -> Callable[[Any], dict[str, tf.Tensor]]:
        """What Keras calls with an iterator for each step, or for several, one after the other.

        Keras' own has no place for outputs; and between processes it averages by two of
        TensorFlow's collectives for each figure, and cannot average a number (keras#20585).

        Args:
            step: Makes figures and outputs of a device's batch.
            watch: Takes the outputs of all devices.
        """
        strategy = self.distribute_strategy
        mean = self.mean_over_workers or functools.partial(strategy.reduce, "MEAN", axis=None)

        @tf.function(autograph=False, reduce_retracing=True, jit_compile=self.jit_compile)
        def on_data(data: Any) -> tuple[dict[str, tf.Tensor], tuple[tf.Tensor, ...]]:
            figures, outputs = strategy.run(step, args=(data,))
            figures = {name: mean(figure) for name, figure in figures.items()}
            return figures, strategy.experimental_local_results(outputs)

        @tf.function(autograph=False, reduce_retracing=True)
        def on_next(iterator: Any) -> Any:
            return on_data(next(iterator))

        def on_iterator(iterator: Any) -> dict[str, tf.Tensor]:
            for number in range(self.steps_per_execution):
                try:
                    figures, outputs = on_next(iterator)
                except tf.errors.OutOfRangeError:
                    if number == 0:
                        raise StopIteration from None
                    break
                if watch is not None:
                    watch(*outputs)
            return figures

        return on_iterator

    def compute_metrics(self, *args: Any, **options: Any) -> dict[str, Any]:
        """As in Keras; but with several processes, steps return the loss alone.

        Each figure costs a message to all others. At the end of an epoch all are returned.
        """
        figures = super().compute_metrics(*args, **options)
        return figures if self._is_alone else {"loss": figures["loss"]}

    def _get_metrics_result_or_logs(self, logs: dict[str, Any]) -> dict[str, Any]:
        if self._is_alone:
            return super()._get_metrics_result_or_logs(logs)
        return self.get_metrics_result()

    @property
    def _is_alone(self) -> bool:
        return Workers(self.distribute_strategy).count == 1

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        # Keras adds up the first batch of all devices to see its shape, which fails over several
        # machines and where the devices do not divide a batch (keras#20585, #19246).
        if self.sample is not None:
            iterator, data_batch = None, self.sample
        super()._maybe_symbolic_build(iterator, data_batch)

    def save(self, filepath: Any, **options: Any) -> None:
        """Saves the whole model, not only what is fitted."""
        self.whole().save(filepath, **options)

    def save_weights(self, filepath: Any, **options: Any) -> None:
        """Saves the whole model's weights, not only those of what is fitted."""
        self.whole().save_weights(filepath, **options)


def _added(first: tf.Tensor | None, second: tf.Tensor | None) -> tf.Tensor | None:
    if first is None or second is None:
        return second if first is None else first
    return first + second


def parts_of(batch: tuple[Any, ...], count: int) -> list[Any]:
    """Divides a batch into `count` equal parts; `count` must divide its length."""
    leaves = [tf.split(tensor, count) for tensor in keras.tree.flatten(batch)]
    return [keras.tree.pack_sequence_as(batch, part) for part in zip(*leaves, strict=True)]


def training_model(part: keras.Model, whole: keras.Model) -> TrainingModel:
    """Wraps a part of a model for fitting.

    Args:
        part: A functional model that shares its layers with `whole`.
        whole: The model it is a part of.

    Returns:
        A model over the same inputs and outputs.
    """
    model = TrainingModel(part.input, part.outputs[0], name=part.name)
    # Behind a function, or Keras would track the whole model as a layer of its part.
    model.whole = lambda: whole
    return model
