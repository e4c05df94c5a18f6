"""Loads weight files into a backbone, layer by layer, whatever was saved around it.

Only arrays, names and shapes are read, with h5py and json: nothing is deserialized into
Python objects, so that no code in a file can run.
"""

import itertools
import logging
import re
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from keras_tl.backbones import keras_archives
from keras_tl.backbones.graph import auto_number, clean_name, set_weights, snake_case
from keras_tl.errors import InputError

_log = logging.getLogger("keras_tl")

# Parts of a Keras 3 file that hold no layer's weights.
_NOT_LAYERS = {"optimizer", "seed_generator"}

Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class WeightsReport:
    """What became of a weights file.

    Attributes:
        matched: Names of the model's layers that got weights from the file.
        untouched: Names of the model's layers that have weights but got none.
        unused: Names of the file's layers that were not used (a classifier's head).
    """

    matched: tuple[str, ...]
    untouched: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"weights of {len(self.matched)} layers loaded{_first(self.matched)}; "
            f"{len(self.untouched)} layers of the model not in the file{_first(self.untouched)}; "
            f"{len(self.unused)} layers of the file not used{_first(self.unused)}"
        )


@dataclass(frozen=True)
class _Saved:
    """One layer in a file.

    Attributes:
        parent: Where in the file its model is: the order is that of the layers within it.
        names: What it may be called in the model, likeliest first; empty where the file does
            not say.
        label: What to call it in messages.
        kind: Its class's name in snake case; "" where the file does not say.
        weights: Its arrays, in Keras' order, not read yet.
    """

    parent: str
    names: tuple[str, ...]
    label: str
    kind: str
    weights: tuple[h5py.Dataset, ...]

    @property
    def shapes(self) -> Shapes:
        return tuple(tuple(dataset.shape) for dataset in self.weights)


def load_weights(model: keras.Model, path: str | Path) -> WeightsReport:
    """Loads what matches from a weights file into a model of leaf layers.

    Layers are matched by name and by the shapes of their weights. Those that Keras numbered
    ("conv2d_17") are matched among layers of their class and shapes, in the order of their
    numbers. If all that is left of the model then has, in order, the shapes of what is left of
    the file, it is matched in that order, as Keras loads `.h5` files: Keras 3 renamed layers.

    Args:
        model: A flat model whose layer names are stable (`graph.rebuild`).
        path: A `.weights.h5` or `.keras` file of Keras 3, or an `.h5` file of Keras 2 (weights
            or whole model), of this backbone or of a classifier that it was part of.

    Returns:
        What matched and what did not; it is logged too, a partial match as a warning.

    Raises:
        InputError: The file cannot be read as one of these; nothing in it matches, or it is of
            a larger network, with layers between those that do; or weights are not finite.
    """
    path = Path(path)
    layers = [layer for layer in model.layers if layer.weights]
    with _opened(path) as (weights, config):
        with _readable(path):
            saved = _saved_layers(weights, config)
        pairs = _match(layers, saved)
        if not pairs:
            raise InputError(
                f"weights of {model.name} in {path.name}",
                f"{len(saved)} layers, none of which fits",
                "Choose the backbone that the file was made for.",
            )
        if more := _between(layers, saved, pairs):
            raise InputError(
                f"weights of {model.name} in {path.name}",
                f"those of a network that has more layers within{_first(more)}",
                "Choose the backbone that the file was made for.",
            )
        with _readable(path):
            values = {name: _read(entry) for name, entry in pairs.items()}
    for name, arrays in values.items():
        if not all(np.isfinite(array).all() for array in arrays):
            fix = "Copy the file again, or take one from before its training went wrong."
            raise InputError(f"finite weights of {name} in {path.name}", "some that are not", fix)
    for name, arrays in values.items():
        set_weights(model.get_layer(name), arrays)
    return _report(path, layers, saved, pairs)


def _report(
    path: Path, layers: list[keras.Layer], saved: list[_Saved], pairs: dict[str, _Saved]
) -> WeightsReport:
    """Sums a loading up, as a warning where layers of the model were left as they were."""
    used = {id(entry) for entry in pairs.values()}
    report = WeightsReport(
        matched=tuple(layer.name for layer in layers if layer.name in pairs),
        untouched=tuple(layer.name for layer in layers if layer.name not in pairs),
        unused=tuple(entry.label for entry in saved if id(entry) not in used),
    )
    if report.untouched:
        _log.warning("%s fits in part: %s", path.name, report)
    else:
        _log.info("%s: %s", path.name, report)
    return report


def _first(names: Sequence[str], count: int = 3) -> str:
    """The first few names in brackets."""
    if not names:
        return ""
    return f" ({', '.join(names[:count])}{', ...' if len(names) > count else ''})"


# Files


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what reading a broken file raises into one InputError."""
    try:
        yield
    except keras_archives.BROKEN as error:
        raise InputError(
            "a .weights.h5, .keras or .h5 file with Keras weights",
            f"{path} ({' '.join(str(error).split())[:200]})",
            "Check that the file is complete.",
        ) from error


@contextmanager
def _opened(path: Path) -> Iterator[tuple[h5py.File, dict[str, Any]]]:
    """Opens a file's HDF5 part, with the model's configuration where the file has one."""
    with _readable(path):
        keras_archives.check_file(path)
        archive = zipfile.is_zipfile(path)
        config = keras_archives.read_config(path) if archive else {}
        file = h5py.File(keras_archives.read_weights(path) if archive else path, "r")
    with file:
        yield file, config


def _saved_layers(file: h5py.File, config: dict[str, Any]) -> list[_Saved]:
    """Lists the layers in a file that have weights, in the order of the saved model."""
    root = _member(file, "model_weights") if "model_weights" in file else file
    if "layer_names" in root.attrs or "layer_names0" in root.attrs:
        return list(_keras2_layers(root))
    names = _names_by_path(config)
    paths = sorted(_weighted_paths(file), key=_natural)
    return [_keras3_layer(file, path, names) for path in paths]


def _member(group: h5py.Group, path: str) -> h5py.Group | h5py.Dataset:
    """Follows a path through hard links only: others may lead out of the file."""
    for part in filter(None, path.split("/")):
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{path} is missing or is a link")
        group = group[part]
    return group


# Keras 2: a group for each layer of the outermost model, weights listed in attributes


def _keras2_layers(root: h5py.Group) -> Iterator[_Saved]:
    """Yields the layers of a Keras-2 file; a nested model's one by one."""
    seen: set[int] = set()
    for group_name in _attribute(root, "layer_names"):
        group = _member(root, group_name)
        keras_archives.meet(group, seen)
        by_layer: dict[str, list[h5py.Dataset]] = defaultdict(list)
        for weight_name in _attribute(group, "weight_names"):
            by_layer[weight_name.rpartition("/")[0]].append(_member(group, weight_name))
        parent = group_name if len(by_layer) > 1 else ""
        for prefix, weights in by_layer.items():
            names = [prefix, prefix.rpartition("/")[2]]
            if len(by_layer) == 1:
                names.insert(0, group_name)
            cleaned = dict.fromkeys(clean_name(name) for name in names if name)
            yield _Saved(parent, tuple(cleaned), names[0], "", tuple(weights))


def _attribute(group: h5py.Group, name: str) -> list[str]:
    """Reads a list of names, which Keras divides into several attributes where it is long."""
    if name in group.attrs:
        values = list(group.attrs[name])
    else:
        parts = (f"{name}{k}" for k in itertools.count())
        present = itertools.takewhile(lambda part: part in group.attrs, parts)
        values = [value for part in present for value in group.attrs[part]]
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


# Keras 3: groups like layers/functional/layers/conv2d_3/vars, numbered by class


def _weighted_paths(file: h5py.File) -> Iterator[str]:
    """Yields the path of every group that holds a layer's weights."""
    for path, item in keras_archives.objects(file):
        *parents, part = path.split("/")
        if part != "vars" or not parents or _NOT_LAYERS & set(parents):
            continue
        if isinstance(item, h5py.Group) and len(item):
            yield "/".join(parents)


def _keras3_layer(file: h5py.File, path: str, names_by_path: dict[str, str]) -> _Saved:
    """Describes the layer at a path; older files have no name beside its weights."""
    group = _member(file, f"{path}/vars")
    name = group.attrs.get("name", names_by_path.get(path))
    parent, _, last = path.rpartition("/")
    kind, _ = _kind_and_number(last)
    weights = tuple(_member(group, key) for key in sorted(group, key=lambda key: (len(key), key)))
    names = (clean_name(str(name)),) if name else ()
    return _Saved(parent, names, str(name or path), kind, weights)


def _names_by_path(config: dict[str, Any], path: str = "") -> dict[str, str]:
    """Layer names by their paths in the weights, as Keras' `saving_lib` numbers them."""
    names: dict[str, str] = {}
    counts: dict[str, int] = defaultdict(int)
    for layer in config.get("config", {}).get("layers", []):
        kind = snake_case(layer["class_name"])
        number = counts[kind]
        counts[kind] += 1
        inner = f"{path}layers/{kind}_{number}" if number else f"{path}layers/{kind}"
        names[inner] = layer["config"].get("name", "")
        names |= _names_by_path(layer, f"{inner}/")
    return names


def _kind_and_number(name: str) -> tuple[str, int]:
    """Splits "conv2d_3" into "conv2d" and 3, "conv2d" into "conv2d" and 0."""
    match = re.fullmatch(r"(.+?)(?:_(\d+))?", name)
    return (match[1], int(match[2] or 0)) if match else (name, 0)


def _natural(path: str) -> list[tuple[str, int]]:
    """Sorts conv2d_10 behind conv2d_9."""
    return [_kind_and_number(part) for part in path.split("/")]


# Matching


def _match(layers: list[keras.Layer], saved: list[_Saved]) -> dict[str, _Saved]:
    """Pairs layers of the model (by name) with layers of the file."""
    pairs: dict[str, _Saved] = {}
    for step in (_by_name, _by_number, _by_class, _by_order):
        used = {id(entry) for entry in pairs.values()}
        rest = [layer for layer in layers if layer.name not in pairs]
        pairs |= step(rest, [entry for entry in saved if id(entry) not in used])
    return pairs


def _by_name(layers: list[keras.Layer], saved: list[_Saved]) -> dict[str, _Saved]:
    """Pairs equal names that users gave."""
    pairs = {}
    named = {layer.name: _shapes(layer) for layer in layers if _number(layer) is None}
    for entry in saved:
        for name in entry.names:
            if name not in pairs and named.get(name) == entry.shapes:
                pairs[name] = entry
                break
    return pairs


def _by_number(layers: list[keras.Layer], saved: list[_Saved]) -> dict[str, _Saved]:
    """Names that Keras numbered: their numbers start anywhere, but their order is kept."""
    numbered = [layer for layer in layers if _number(layer) is not None]
    kinds = {_kind(layer) for layer in numbered}
    found = []
    for entry in saved:
        kind, number = _kind_and_number(entry.names[0]) if entry.names else ("", 0)
        if kind in kinds:
            found.append((kind, number, entry))
    found.sort(key=lambda item: item[1])
    numbered.sort(key=lambda layer: _number(layer) or 0)
    return _in_order(numbered, [(kind, entry) for kind, _, entry in found])


def _by_class(layers: list[keras.Layer], saved: list[_Saved]) -> dict[str, _Saved]:
    """Keras 3 files without names: by class and shapes, in the order of the model.

    The file does not say which nested model comes first: unless one of them has all that is wanted,
    layers that fit several of them are left out.
    """
    nameless = [entry for entry in saved if not entry.names]
    sorts: dict[str, Counter[tuple[str, Shapes]]] = defaultdict(Counter)
    for entry in nameless:
        sorts[entry.parent][_sort(entry)] += 1
    wanted = Counter((_kind(layer), _shapes(layer)) for layer in layers)
    if whole := [parent for parent, found in sorts.items() if wanted <= found]:
        fit = [e for e in nameless if e.parent == whole[0]]
    else:
        fit = [e for e in nameless if sum(_sort(e) in found for found in sorts.values()) == 1]
    return _in_order(layers, [(entry.kind, entry) for entry in fit])


def _by_order(layers: list[keras.Layer], saved: list[_Saved]) -> dict[str, _Saved]:
    """All that is left of the model, if the file goes on with the same shapes."""
    saved = [entry for entry in saved if entry.names]
    if [_shapes(layer) for layer in layers] != [entry.shapes for entry in saved[: len(layers)]]:
        return {}
    return {layer.name: entry for layer, entry in zip(layers, saved, strict=False)}


def _in_order(layers: list[keras.Layer], saved: list[tuple[str, _Saved]]) -> dict[str, _Saved]:
    """Pairs layers with entries (each with its kind) of equal kind and shapes, in order."""
    waiting: dict[tuple[str, Shapes], list[_Saved]] = defaultdict(list)
    for kind, entry in saved:
        waiting[kind, entry.shapes].append(entry)
    pairs = {}
    for layer in layers:
        alike = waiting[_kind(layer), _shapes(layer)]
        if alike:
            pairs[layer.name] = alike.pop(0)
    return pairs


def _between(layers: list[keras.Layer], saved: list[_Saved], pairs: dict[str, _Saved]) -> list[str]:
    """Layers of the file that the model lacks, with used ones before and after them.

    A Keras 3 file keeps the order within a class; in one of Keras 2 the first array tells it.
    """
    used = {id(entry) for entry in pairs.values()}
    missing: set[object] = {x.name for x in layers if x.name not in pairs}
    missing |= {(_kind(x), _shapes(x)) for x in layers if x.name in missing}
    alike: dict[tuple[str, str, int], list[_Saved]] = defaultdict(list)
    for entry in saved:
        alike[entry.parent, entry.kind, len(entry.shapes[0])].append(entry)
    found = []
    for entries in alike.values():
        places = [place for place, entry in enumerate(entries) if id(entry) in used]
        if places:
            found += [e for e in entries[places[0] : places[-1]] if id(e) not in used]
    # A layer that may be one the model still lacks is not extra: the match is a partial one.
    return [e.label for e in found if missing.isdisjoint(e.names or [_sort(e)])]


def _sort(entry: _Saved) -> tuple[str, Shapes]:
    return entry.kind, entry.shapes


def _kind(layer: keras.Layer) -> str:
    return snake_case(type(layer).__name__)


def _number(layer: keras.Layer) -> int | None:
    return auto_number(layer.name, _kind(layer))


def _shapes(layer: keras.Layer) -> Shapes:
    return tuple(tuple(weight.shape) for weight in layer.weights)


def _read(entry: _Saved) -> list[np.ndarray]:
    """Reads a layer's arrays."""
    for dataset in entry.weights:
        if dataset.external or dataset.is_virtual or dataset.dtype.kind not in "fiu":
            raise ValueError(f"{dataset.name} is not a plain array of numbers")
    return [dataset[()] for dataset in entry.weights]
