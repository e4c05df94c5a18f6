"""TF-Hub's preprocessors of text encoders: strings to one tensor of tokens, and back to three."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_tl.backbones.hub_layer import HubLayer
from keras_tl.backbones.hub_module import usable
from keras_tl.errors import InputError

IDS, MASK, TYPES = "input_word_ids", "input_mask", "input_type_ids"


@keras.saving.register_keras_serializable(package="keras_tl")
class HubTokenizer(HubLayer):
    """Calls a preprocessor; runs on the host.

    If the preprocessor has the methods `tokenize` and `bert_pack_inputs`, it makes as many tokens
    as are asked for, and takes pairs; else it is called as it is
    (https://www.tensorflow.org/hub/common_saved_model_apis/text).
    """

    # See `keras_tl.backbones.host`.
    on_host = True

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Tokenizes.

        Args:
            inputs: Strings in UTF-8, `[batch]`, or `[batch, 2]` for pairs.
            training: Makes no difference.

        Returns:
            int32 `[batch, 2, max_tokens]`: token ids and segment ids.
        """
        packed = self.encoder_inputs(inputs)
        tokens = tf.stack([tf.cast(packed[name], tf.int32) for name in (IDS, TYPES)], axis=1)
        return tf.ensure_shape(tokens, [None, *self.module.shape])

    def compute_output_spec(self, inputs: Any, training: bool | None = None) -> keras.KerasTensor:
        """The tokens' shape and dtype."""
        return keras.KerasTensor((inputs.shape[0], *self.module.shape), "int32", name="tokens")

    def encoder_inputs(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """The preprocessor's own outputs, int32 `[batch, max_tokens]` each, by their names."""
        loaded = self._loaded()
        if not self._packs(loaded):
            return super().call(text)
        segments = [text] if text.shape.rank == 1 else tf.unstack(text, axis=1)
        pieces = [loaded.tokenize(segment) for segment in segments]
        return loaded.bert_pack_inputs(pieces, tf.constant(self.module.shape[1]))

    @property
    def counts(self) -> bool:
        """Whether `count` can be called; see `keras_tl.backbones.host`."""
        return self._packs(self._loaded())

    def count(self, text: tf.Tensor) -> tf.Tensor:
        """Counts the tokens of whole texts, special ones left out.

        Args:
            text: Strings `[batch]`, or `[batch, 2]` for pairs.

        Returns:
            int32 `[batch]`, not limited by `max_tokens`.
        """
        segments = [text] if text.shape.rank == 1 else tf.unstack(text, axis=1)
        return tf.add_n([_pieces_of(self._loaded().tokenize(segment)) for segment in segments])

    def check(self, sample: tf.Tensor, texts: int) -> None:
        """Refuses a preprocessor that does not give what was asked for.

        Args:
            sample: Strings to try it on.
            texts: 1, or 2 for pairs.

        Raises:
            InputError: It does not.
        """
        if texts > 1 and not self._packs(self._loaded()):
            fix = "Join the two texts into one."
            raise InputError("a preprocessor that packs pairs", "one for single texts", fix)
        fix = "The handle is ENCODER+PREPROCESSOR, in this order."
        with usable("a preprocessor of strings", fix, "a module of others"):
            found = self.encoder_inputs(sample)
        names = found if isinstance(found, dict) else ()
        missing = [name for name in (IDS, MASK, TYPES) if name not in names]
        if missing:
            fix = "Its page is named on the encoder's."
            raise InputError("a preprocessor", f"a module without {', '.join(missing)}", fix)
        shapes = {tuple(found[name].shape) for name in (IDS, MASK, TYPES)}
        if len(shapes) > 1 or len(found[IDS].shape) != 2:
            received = f"one that gives shapes {', '.join(map(str, sorted(shapes)))}"
            raise InputError("a preprocessor that gives a row for each text", received, fix)
        length = found[IDS].shape[1]
        if length != self.module.shape[1]:
            asked = str(self.module.shape[1])
            raise InputError(f"max_tokens of {length} for this preprocessor", asked, "Give that.")

    @staticmethod
    def _packs(loaded: Any) -> bool:
        return hasattr(loaded, "tokenize") and hasattr(loaded, "bert_pack_inputs")


def _pieces_of(pieces: tf.RaggedTensor) -> tf.Tensor:
    """How many pieces rows have, of `[batch, (pieces)]` or `[batch, (words), (pieces)]`."""
    counted = tf.ones_like(pieces, tf.int32)
    return tf.reduce_sum(counted, axis=list(range(1, counted.shape.rank)))


def padding_of(tokenizer: HubTokenizer, sample: tf.Tensor) -> int:
    """Finds the id of padding, so that the mask follows from the ids.

    Args:
        tokenizer: The preprocessor's layer.
        sample: A short text, or a pair.

    Returns:
        The id.

    Raises:
        InputError: The mask does not follow from the ids.
    """
    # Also of nothing, so that there is padding even where `max_tokens` are few.
    found = tokenizer.encoder_inputs(tf.concat([sample, tf.fill(tf.shape(sample), "")], axis=0))
    ids, mask = np.asarray(found[IDS]), np.asarray(found[MASK])
    padding = int(ids[mask == 0][0]) if (mask == 0).any() else 0
    if not np.array_equal(ids != padding, mask != 0):
        raise InputError(
            "a preprocessor that masks padding alone",
            f"one whose mask is not where its ids are other than {padding}",
            "Use another one, or call the two modules yourself.",
        )
    return padding


@keras.saving.register_keras_serializable(package="keras_tl")
class EncoderInputs(keras.layers.Layer):
    """Turns tokens into the inputs of TF-Hub's encoders.

    Args:
        padding: The id of padding.
        **kwargs: Of `keras.layers.Layer`.
    """

    def __init__(self, padding: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        self.padding = padding

    def call(self, tokens: tf.Tensor) -> dict[str, tf.Tensor]:
        """Takes int32 `[batch, 2, length]` apart into ids, mask and segment ids."""
        ids = tokens[:, 0]
        return {IDS: ids, MASK: tf.cast(ids != self.padding, tf.int32), TYPES: tokens[:, 1]}

    def compute_output_spec(self, tokens: Any) -> dict[str, keras.KerasTensor]:
        """Three of shape `[batch, length]`, int32."""
        shape = (tokens.shape[0], tokens.shape[2])
        return {name: keras.KerasTensor(shape, "int32") for name in (IDS, MASK, TYPES)}

    def get_config(self) -> dict[str, Any]:
        """The layer's settings."""
        return {**super().get_config(), "padding": self.padding}
