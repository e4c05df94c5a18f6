"""Two samples of a batch as one."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_tl.errors import InputError


def mixup(
    batches: tf.data.Dataset, alpha: float, seed: int, first_batch: int = 0
) -> tf.data.Dataset:
    """Blends the samples of each batch with those of a permutation of it.

    Inputs become s x + (1 - s) x', targets and weights likewise, with s drawn for each sample from
    Beta(alpha, alpha). What is drawn depends on the seed and the batch's number alone (Zhang et
    al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018; at a layer inside the model:
    Verma et al., "Manifold Mixup", ICML 2019).

    Args:
        batches: Batches of (inputs, targets) or (inputs, targets, weights); floats, or uint8
            pixels; inputs may be a tuple of tensors, which are blended alike.
        alpha: Above 0; 0.2 mixes a little, 1 uniformly.
        seed: Decides partners and shares.
        first_batch: The first batch's number, for a training that goes on.

    Returns:
        Batches of the same structure, in float32.

    Raises:
        InputError: Inputs that cannot be blended, such as token ids.
    """
    check_mixable([spec.dtype for spec in tf.nest.flatten(batches.element_spec)])

    @tf.autograph.experimental.do_not_convert
    def mix(number: tf.Tensor, batch: tuple[Any, ...]) -> tuple[Any, ...]:
        count = tf.shape(batch[1])[0]
        state = tf.stack([tf.constant(seed, tf.int64), number])
        draws = tf.random.stateless_uniform((count,), state, alg="philox")
        partners = tf.argsort(draws, stable=True)
        shares = _beta(alpha, count, tf.random.experimental.stateless_fold_in(state, 1))
        return tf.nest.map_structure(lambda values: blend(values, partners, shares), batch)

    numbered = batches.enumerate(first_batch)
    mixed = numbered.map(mix, num_parallel_calls=2, deterministic=True)
    return mixed.prefetch(tf.data.AUTOTUNE)


def check_mixable(dtypes: Sequence[Any]) -> None:
    """Refuses tensors that cannot be blended.

    Args:
        dtypes: Those of the inputs, and perhaps of targets and weights.

    Raises:
        InputError: One is of whole numbers, such as token ids, and no pixels.
    """
    for dtype in map(tf.as_dtype, dtypes):
        if not (dtype.is_floating or dtype == tf.uint8):
            raise InputError(
                "pixels or features to mix",
                f"inputs of type {dtype.name}",
                "Leave mixup out, or freeze the part of the model that takes them.",
            )


def blend(values: tf.Tensor, partners: tf.Tensor, shares: tf.Tensor) -> tf.Tensor:
    """Gives s x + (1 - s) x[partners]: float32 `[batch, ...]` with shares s float32 `[batch]`."""
    values = tf.cast(values, tf.float32)
    rank = len(values.shape)
    share = tf.reshape(shares, tf.concat([tf.shape(shares), tf.ones(rank - 1, tf.int32)], 0))
    blended = share * values + (1 - share) * tf.gather(values, partners)
    return tf.ensure_shape(blended, values.shape)


def _beta(alpha: float, count: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Draws from Beta(alpha, alpha): float32 `[count]`."""
    # In float64, since for a small alpha most of these numbers are too small for float32.
    pair = tf.random.stateless_gamma(
        tf.stack([2, count]), seed, tf.constant(alpha, tf.float64), dtype=tf.float64
    )
    # Where both are too small, one of them is all there is.
    return tf.cast(tf.math.divide_no_nan(pair[0], pair[0] + pair[1]), tf.float32)
