"""How the devices of a strategy, in one process or in several, share what training reads.

Every batch is divided into equal parts, one for each device, so that a step equals that of one
device on the whole batch. Validation items are divided once, into parts that differ by at most one
item: no device ever gets an empty batch, whose mean would be NaN.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_tl.agreement import SAME_COMMAND, check_facts, check_items, check_weights
from keras_tl.allocator import keep_freed_memory
from keras_tl.data.one_hot import OneHotRows
from keras_tl.errors import InputError
from keras_tl.ring import Ring, join
from keras_tl.training.images import Images
from keras_tl.training.phases import Phase
from keras_tl.training.resume import facts_of
from keras_tl.training.sampling import Order
from keras_tl.workers import Workers

# Steps to run at once: a step of a head takes less time than its call from Python.
FEW_STEPS, MANY_STEPS = 16, 64


class Sharing:
    """What this process reads for its devices.

    Args:
        strategy: Where training runs.

    Attributes:
        strategy: The same.
        workers: The processes.
        devices: How many devices there are in all.
        local: How many of them are this process's.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self.strategy = strategy
        self.workers = Workers(strategy)
        self.devices = strategy.num_replicas_in_sync
        self.local = self.devices // self.workers.count

    def check_alike(
        self,
        model: keras.Model,
        phases: Sequence[Phase],
        train: Images,
        val: Images | None,
        store: Any,
        *others: Any,
    ) -> None:
        """Refuses a training that differs between processes; all call this.

        Args:
            model: The whole model.
            phases: What is to be done.
            train: The images to learn from.
            val: Those that choose the best epoch.
            store: Where features are kept, or None.
            *others: Further arguments of `facts_of`.

        Raises:
            InputError: Something differs.
        """
        if self.workers.count == 1:
            return
        for what, images in (("training items", train), ("validation items", val)):
            keys, targets = ([], []) if images is None else (images.keys, images.targets())
            # With very many classes, one-hot rows are made on demand: compare the labels.
            labels = targets.labels if isinstance(targets, OneHotRows) else targets
            check_items(self.workers, what, {"content": keys, "target": labels})
        facts = facts_of(phases, train, val, *others) | {"feature store": store is not None}
        facts |= {f"phase {n + 1}": phase for n, phase in enumerate(facts.pop("phases"))}
        # Also by attribute, since the text of a whole phase is too long to be shown.
        facts |= {
            f"{name} of phase {n + 1}": value
            for n, phase in enumerate(phases)
            for name, value in vars(phase).items()
            if isinstance(value, int | float | str)
        }
        check_facts(self.workers, "the same training in all processes", facts, SAME_COMMAND)
        check_weights(self.workers, model)

    def order(self, order: Order, batch_size: int) -> Order:
        """The rows of an epoch that this process reads, device by device in every batch.

        Args:
            order: The order of an epoch.
            batch_size: Items in a batch over all devices; the devices must divide it.

        Returns:
            An order of this process's rows in the whole batches.
        """
        if self.devices == 1:
            return order
        count, index = self.workers.count, self.workers.index

        def shared(epoch: int) -> tuple[np.ndarray, np.ndarray]:
            def part(rows: np.ndarray) -> np.ndarray:
                whole = rows[: len(rows) // batch_size * batch_size]
                return whole.reshape(-1, count, batch_size // count)[:, index].reshape(-1)

            indices, shown_before = order(epoch)
            return part(indices), part(shown_before)

        return shared

    def parts(self, items: int, batch_size: int) -> list[np.ndarray] | None:
        """This process's validation batches, one for each of its devices in turn.

        Args:
            items: How many items there are.
            batch_size: About how many items are in a batch over all devices.

        Returns:
            Indices of each batch, int64, none of them empty; None where one device reads all.
            With fewer items than devices each one reads all of them.
        """
        if self.devices == 1:
            return None
        if items < self.devices:
            return [np.arange(items)] * self.local
        shares = np.array_split(np.arange(items), self.devices)
        batches = -(-len(shares[0]) // max(batch_size // self.devices, 2))
        first = self.workers.index * self.local
        divided = [np.array_split(share, batches) for share in shares[first : first + self.local]]
        return [batch for step in zip(*divided, strict=True) for batch in step]

    def steps_at_once(self, steps: int, *, on_vectors: bool) -> int:
        """How many steps run without a return to Python: many where only a head trains.

        Args:
            steps: Steps in an epoch. The result divides it, or Keras would read on into the next
                epoch.
            on_vectors: Whether the inputs of what trains are vectors.
        """
        on_tpu = isinstance(self.strategy, tf.distribute.TPUStrategy)
        # Only TPUs can run collectives in a loop, and calling one takes the longest.
        if not on_tpu and (self.devices > 1 or not on_vectors):
            return 1
        divisors = [n for n in range(1, min(steps, MANY_STEPS) + 1) if steps % n == 0]
        return divisors[-1] if divisors[-1] >= FEW_STEPS else steps

    def add_up_gradients(self, optimizer: keras.optimizers.Optimizer) -> None:
        """Lets an optimizer treat the gradients of several devices as those of one.

        They are clipped after they are summed, not before; if one device's overflow in 16 bits, all
        skip the step. Between processes they go through the ring, if there is one; if any is sparse
        or of another dtype, the whole step stays with TensorFlow's collectives.

        Args:
            optimizer: A compiled model's.
        """
        if self.devices == 1:
            return
        inner, add_up = optimizer, self._by_ring
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            optimizer.check_finite = _finite_on_all(optimizer.check_finite)
            # A process that skips a step must not leave others waiting in the ring.
            inner, add_up = optimizer.inner_optimizer, lambda collectives: collectives
        # Private methods of Keras: if a version lacks them, its own summation stays as it is.
        collectives: Any = getattr(inner, "_all_reduce_sum_gradients", None)
        clip: Any = getattr(inner, "_clip_gradients", None)
        if collectives is None or clip is None:
            return
        summed = add_up(collectives)

        def add_up_and_clip(pairs: Iterable[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
            gradients, variables = zip(*summed(pairs), strict=True)
            return list(zip(clip(gradients), variables, strict=True))

        inner._clip_gradients = lambda gradients: gradients
        inner._all_reduce_sum_gradients = add_up_and_clip

    def _by_ring(self, collectives: Callable[..., Any]) -> Callable[..., Any]:
        """Sums over processes through the ring, or by `collectives` where it cannot."""
        if (ring := self.ring) is None:
            return collectives

        def add_up(pairs: Iterable[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
            gradients, variables = zip(*(pairs := list(pairs)), strict=True)
            if not all(map(_is_dense, gradients)):
                return collectives(pairs)
            sums = tf.numpy_function(ring.sum, gradients, [tf.float32] * len(gradients))
            shapes = [gradient.shape for gradient in gradients]
            return list(zip(map(tf.ensure_shape, sums, shapes), variables, strict=True))

        return add_up

    def mean(self, figure: Any) -> tf.Tensor:
        """The mean of a step's figure over the devices of all processes.

        Args:
            figure: What `strategy.run` returned: float32 `[]` of each device.

        Returns:
            float32 `[]`, the same in all processes.
        """
        if (ring := self.ring) is None:
            return self.strategy.reduce("MEAN", figure, axis=None)
        own = self.strategy.experimental_local_results(figure)
        [total] = tf.numpy_function(ring.sum, own, [tf.float32])
        return tf.ensure_shape(total, ()) / self.workers.count

    @functools.cached_property
    def ring(self) -> Ring | None:
        """The ring of the processes; None for one process, and where GPUs have a better way.

        All processes ask for it at the same time.
        """
        if self.workers.count == 1 or self.local > 1:
            return None
        [device] = self.strategy.extended.worker_devices
        on_cpu = tf.DeviceSpec.from_string(device).device_type == "CPU"
        return join(self.workers) if on_cpu else None

    def endless(self, batches: tf.data.Dataset, last: Any) -> tf.data.Dataset:
        """If there are several processes, makes batches endless by repeating `last` after them.

        With finite ones, processes ask each other before every step whether there is more.
        """
        if self.workers.count == 1:
            return batches
        return batches.concatenate(tf.data.Dataset.from_tensors(last).repeat())

    def distribute(self, batches: tf.data.Dataset) -> Any:
        """Gives the batches of this process to its devices, in turn, for Keras' `fit`."""
        if self.devices == 1:
            return batches
        keep_freed_memory()

        def read(context: tf.distribute.InputContext) -> tf.data.Dataset:
            if context.num_input_pipelines != self.workers.count:
                received = f"{context.num_input_pipelines} that one process feeds"
                raise InputError("a process on each machine", received, "Take one machine's TPU.")
            return batches

        return self.strategy.distribute_datasets_from_function(read)


def _finite_on_all(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Extends a check to the gradients of all devices; Keras asks only the first device."""

    def check_all(gradients: Any) -> Any:
        overflows = tf.cast(tf.logical_not(check(gradients)), tf.float32)
        context = tf.distribute.get_replica_context()
        return context.all_reduce(tf.distribute.ReduceOp.SUM, overflows) == 0

    return check_all


def _is_dense(gradient: Any) -> bool:
    return isinstance(gradient, tf.Tensor) and gradient.dtype == tf.float32


def batches_of(images: Images, parts: list[np.ndarray]) -> tf.data.Dataset:
    """Batches of pixels and targets of images as they are, one for each of `parts`."""
    rows = tf.ragged.constant([part.tolist() for part in parts], tf.int64)
    targets, most = images.targets(), max(map(len, parts))
    shape = (None, *targets.shape[1:])

    @tf.autograph.experimental.do_not_convert
    def batch(number: tf.Tensor) -> tf.data.Dataset:
        pixels = images.images(rows[number])
        # Not as a tensor: with very many classes, rows are made on demand.
        found = tf.numpy_function(lambda at: targets[parts[at]], [number], tf.float32)
        labels = tf.data.Dataset.from_tensor_slices(tf.ensure_shape(found, shape))
        return tf.data.Dataset.zip(pixels, labels).batch(most)

    numbers = tf.data.Dataset.range(len(parts))
    batches = numbers.flat_map(batch)
    return batches.apply(tf.data.experimental.assert_cardinality(len(parts))).prefetch(2)
