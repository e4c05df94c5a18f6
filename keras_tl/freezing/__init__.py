"""Freezing policies: which part of a model trains, as a value.

A policy is a small frozen dataclass. `apply` sets the `trainable` flag of every layer and
returns a summary of what it did. Frozen means inference as a whole: BatchNormalization uses its
moving statistics and leaves them alone, dropout and stochastic depth pass their input through.
The head, which is everything behind the pretrained layers, trains, unless a policy that names
layers names layers of it.

    freezing.All().apply(model)                       # feature extraction
    print(freezing.AllButLast(2).apply(model))        # fine-tune the last two blocks
    print(freezing.LoRA(rank=8).apply(model))         # low-rank adapters beside frozen kernels
"""

from keras_tl.freezing.few_weights import BitFit, LoRA
from keras_tl.freezing.parts import Section, block_count, sections
from keras_tl.freezing.policies import (
    All,
    AllButLast,
    Fraction,
    Matching,
    Nothing,
    Policy,
    UpTo,
)
from keras_tl.freezing.summary import FreezingSummary, FrozenRow, summarize

__all__ = [
    "All",
    "AllButLast",
    "BitFit",
    "Fraction",
    "FreezingSummary",
    "FrozenRow",
    "LoRA",
    "Matching",
    "Nothing",
    "Policy",
    "Section",
    "UpTo",
    "block_count",
    "sections",
    "summarize",
]
