"""Makes Keras know the layers of keras_tl, so that `keras.models.load_model` reads its files.

Keras finds a class by the name that it was registered under, which happens when its module is
imported. Importing keras_tl must not import Keras, so the modules are imported as soon as both are:
at once if Keras is imported already, else right after it.
"""

import importlib
import importlib.abc
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

# Modules with layers that a saved model of keras_tl may contain.
MODULES = (
    "keras_tl.backbones.byte_pair",
    "keras_tl.backbones.encoder_layers",
    "keras_tl.backbones.hub_tokens",
    "keras_tl.backbones.layers",
    "keras_tl.backbones.tokenizers",
)


def register() -> None:
    """Registers the layers now, or when Keras is imported."""
    if "keras" in sys.modules:
        _import_modules()
    else:
        sys.meta_path.insert(0, _BehindKeras())


def _import_modules() -> None:
    for name in MODULES:
        importlib.import_module(name)


class _BehindKeras(importlib.abc.MetaPathFinder):
    """Finds nothing itself, but has the layers imported right after Keras.

    It stays until Keras is imported: TensorFlow first only looks up where Keras is.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "keras":
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self)
        return spec


class _Loader(importlib.abc.Loader):
    """Runs Keras' own loader, and then imports the layers."""

    def __init__(self, loader: importlib.abc.Loader, finder: _BehindKeras):
        self._loader, self._finder = loader, finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        self._loader.exec_module(module)
        # The spec of Keras must name its own loader.
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        _import_modules()
