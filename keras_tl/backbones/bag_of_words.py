"""A bag of words beside an encoder's features: which words stand anywhere in a text.

An encoder tells what its first hundred tokens mean. Which words occur at all, on whatever page, is
something else to know, and a linear head can use both. The words are counted on the host, next to
the tokens; they are hashed, so that there is no vocabulary to fit and to carry along.

Reference: Cheng et al., "Wide & Deep Learning for Recommender Systems", DLRS 2016 (a linear part
beside a network); Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML
2009 (hashed words).
"""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

# Runs of signs are words of their own, and so is each character of Chinese and Japanese, which have
# no blanks.
_ALONE = r"[\p{Han}\p{Hiragana}\p{Katakana}]|[^\pL\pM\pN_\s]+"
# A bag's length over the square root of the number of features: layer norms make the features'
# length proportional to that root. Beside MiniLM's 2,304 features, a length of 20 was the best of
# 10, 20 and 40 on mails, and of 10 and 20 on reviews and on descriptions of packages.
_LENGTH = 0.4


def count_words(text: tf.Tensor, buckets: int) -> tf.Tensor:
    """Counts the words of texts, in lower case, by their hashes; runs on the host.

    Args:
        text: Strings in UTF-8, `[batch]`, or `[batch, 2]` for pairs, which are counted together.
        buckets: How many hashes there are.

    Returns:
        int32 `[batch, buckets]`.
    """
    if text.shape.rank == 2:
        text = tf.strings.reduce_join(text, axis=1, separator=" ")
    text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8")
    text = tf.strings.lower(text, encoding="utf-8")
    words = tf.strings.split(tf.strings.regex_replace(text, f"({_ALONE})", r" \1 "))
    hashes = tf.ragged.map_flat_values(tf.strings.to_hash_bucket_fast, words, buckets)
    counts = tf.math.bincount(hashes, minlength=buckets, maxlength=buckets, axis=-1)
    return tf.ensure_shape(counts, [text.shape[0], buckets])


def as_rows(counts: tf.Tensor, length: int) -> tf.Tensor:
    """Lays counts out like tokens: int32 `[batch, buckets]` to `[batch, rows_of(...), length]`."""
    rows = rows_of(counts.shape[1], length)
    counts = tf.pad(counts, [[0, 0], [0, rows * length - counts.shape[1]]])
    return tf.reshape(counts, [-1, rows, length])


def rows_of(buckets: int, length: int) -> int:
    """How many rows of this length hold the buckets."""
    return -(-buckets // length)


@keras.saving.register_keras_serializable(package="keras_tl")
class BagOfWords(keras.layers.Layer):
    """Counts to weights: `1 + ln(count)` of each bucket with words, all bags equally long.

    Args:
        buckets: How many buckets there are.
        features: How many features the encoder beside them has.
        **kwargs: Of `keras.layers.Layer`.
    """

    def __init__(self, buckets: int, features: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.buckets = buckets
        self.features = features

    def call(self, tokens: keras.KerasTensor) -> keras.KerasTensor:
        """Weighs the words.

        Args:
            tokens: int32 `[batch, 2 + rows, length]`: two rows of tokens, then those of `as_rows`.

        Returns:
            Floats `[batch, buckets]` of length `0.4 * sqrt(features)`; of a text without words 0.
        """
        rows, length = tokens.shape[1] - 2, tokens.shape[2]
        counts = ops.reshape(tokens[:, 2:], (-1, rows * length))[:, : self.buckets]
        counts = ops.cast(counts, self.compute_dtype)
        weights = ops.minimum(counts, 1.0) + ops.log(ops.maximum(counts, 1.0))
        norm = ops.sqrt(ops.sum(ops.square(weights), axis=1, keepdims=True))
        # The norm is at least 1 if there is any word.
        return weights * (_LENGTH * self.features**0.5 / ops.maximum(norm, 1.0))

    def get_config(self) -> dict[str, Any]:
        """The layer's settings."""
        return {**super().get_config(), "buckets": self.buckets, "features": self.features}
