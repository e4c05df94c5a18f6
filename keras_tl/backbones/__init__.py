"""Pretrained image models: what they are, and the one place they are built."""

from keras_tl.backbones.registry import get, names, register
from keras_tl.backbones.spec import BackboneSpec, Block

__all__ = ["BackboneSpec", "Block", "get", "names", "register"]
