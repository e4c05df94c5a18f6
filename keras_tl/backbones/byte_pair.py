"""RoBERTa's tokenizer: byte pairs, by way of KerasHub's ops."""

import functools
from typing import Any

import keras
import tensorflow as tf

from keras_tl.backbones.tokenizers import INSTALL, Tokenizer
from keras_tl.errors import InputError


@keras.saving.register_keras_serializable(package="keras_tl")
class BytePairTokenizer(Tokenizer):
    """Words with the blank before them, made of bytes by the merges of a vocabulary.

    The work is done by KerasHub's ops, whose tables go into an exported model.

    Reference: Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", ACL
    2016; Radford et al., "Language Models are Unsupervised Multitask Learners", 2019 (bytes).

    Args:
        vocabulary: See `keras_tl.backbones.tokenizers.Tokenizer`.
        max_tokens: See there.
        windows: See there.
        merges: Pairs of pieces with a blank between them, the first to be merged first, one a
            line.
        specials: See there; by default RoBERTa's.
        ends_between: See there; RoBERTa has two.
        segments: See there; RoBERTa has none.
        **kwargs: Of `keras.layers.Layer`.

    Raises:
        InputError: See `Tokenizer`; or the package keras-hub is not installed.
    """

    def __init__(
        self,
        vocabulary: str,
        max_tokens: int = 128,
        windows: int = 1,
        *,
        merges: str,
        specials: tuple[str, str, str] = ("<s>", "</s>", "<pad>"),
        ends_between: int = 2,
        segments: bool = False,
        **kwargs: Any,
    ):
        super().__init__(
            vocabulary,
            max_tokens,
            windows,
            specials=specials,
            ends_between=ends_between,
            segments=segments,
            **kwargs,
        )
        self.merges = merges
        self._byte_pairs = _byte_pairs(vocabulary, merges)

    def pieces(self, strings: tf.Tensor) -> tf.RaggedTensor:
        """See `Tokenizer.pieces`."""
        return self._byte_pairs.tokenize(tf.strings.unicode_transcode(strings, "UTF-8", "UTF-8"))

    def get_config(self) -> dict[str, Any]:
        """The layer's settings, the vocabulary and the merges among them."""
        return {**super().get_config(), "merges": self.merges}


class _BytePairs(tf.Module):
    """KerasHub's tokenizer, so held that its tables are exported and it is no layer of a model."""

    def __init__(self, vocabulary: dict[str, int], merges: list[str]):
        super().__init__()
        try:
            from keras_hub.tokenizers import BytePairTokenizer as KerasHubTokenizer
        except ModuleNotFoundError as error:
            raise InputError(
                "the package keras-hub", "an environment without it", INSTALL
            ) from error
        tokenizer = KerasHubTokenizer(vocabulary, merges)
        self.tables = [
            tokenizer.byte2unicode,
            tokenizer.token_to_id_map,
            tokenizer.merge_ranks,
            tokenizer.cache,
        ]
        # In a graph KerasHub uses TensorFlow's ops; outside of one, Python code.
        self.tokenize = tf.function(
            tokenizer.tokenize,
            input_signature=[tf.TensorSpec([None], tf.string)],
            autograph=False,
        )


@functools.lru_cache(maxsize=4)
def _byte_pairs(vocabulary: str, merges: str) -> _BytePairs:
    """The tables, which copies of a model share."""
    ids = {token: number for number, token in enumerate(vocabulary.split("\n"))}
    # Not inside whatever graph is being traced.
    with tf.init_scope():
        return _BytePairs(ids, merges.split("\n"))
