"""Every backbone that keras_tl knows, by name. Importing it does not import TensorFlow."""

import fnmatch
from collections.abc import Collection
from dataclasses import replace

from keras_tl.backbones import applications, efficientnet_lite, encoder_spec, hub_spec
from keras_tl.backbones.spec import BackboneSpec, Body
from keras_tl.errors import InputError, did_you_mean

_SPECS: dict[str, BackboneSpec] = {
    spec.name: spec for spec in (efficientnet_lite.ROW, *applications.ROWS)
}


def names(pattern: str = "*") -> list[str]:
    """Lists backbones, sorted by name.

    Args:
        pattern: A part of the name ("mobile") or a glob ("*V2"), in any case.

    Returns:
        The names that match; an empty list where none does.
    """
    lowered = pattern.lower()
    return sorted(
        name
        for name in _SPECS
        if lowered in name.lower() or fnmatch.fnmatchcase(name.lower(), lowered)
    )


def get(name: str) -> BackboneSpec:
    """Looks a backbone up.

    Args:
        name: Its name; case, "-" and "_" do not matter ("mobilenet_v2").

    Returns:
        The backbone's row.

    Raises:
        InputError: There is none of that name; near misses are suggested.
    """
    for known, spec in _SPECS.items():
        if _plain(known) == _plain(name):
            return spec
    hint = did_you_mean(name, _SPECS, "`keras-tl backbones` lists them.")
    raise InputError("a backbone's name", repr(name), hint)


def register(spec: BackboneSpec) -> None:
    """Adds a backbone.

    Args:
        spec: Its row.

    Raises:
        InputError: There is a backbone of that name.
    """
    taken = [known for known in _SPECS if _plain(known) == _plain(spec.name)]
    if taken:
        raise InputError("a new backbone's name", repr(spec.name), f"{taken[0]} exists already.")
    _SPECS[spec.name] = spec


def recognise(layer_names: Collection[str], model_name: str = "") -> Body | None:
    """Finds the backbone or text encoder that a model of keras_tl stands on.

    Args:
        layer_names: The names of the model's layers.
        model_name: The model's own; `load_backbone` and `add_head` give it the row's.

    Returns:
        The row whose preprocessing, stem, block ends and output are all among the names; where
        features are taken before the output, the row cut to its first blocks, if these are. Of
        several rows, those with blocks come first, then the one called `model_name`, one whose
        output is there, the one with most blocks (a ResNet101 has every layer name of a
        ResNet50), and the one that explains most names. A text encoder and a TF-Hub module are
        recognised by their own layers' names. None if nothing fits.
    """
    present = set(layer_names)
    found = [
        body
        for spec in _SPECS.values()
        if (body := _within(spec, present, spec.name == model_name))
    ]
    row = max(
        found,
        key=lambda body: (
            bool(body.blocks),
            body.name == model_name,
            body.output in present,
            len(body.blocks),
            len(_landmarks(body)),
        ),
        default=None,
    )
    return row or encoder_spec.recognise(present) or hub_spec.recognise(present)


def _within(spec: BackboneSpec, present: set[str], named: bool) -> BackboneSpec | None:
    """The row cut to the blocks that a model has; with no whole block, only if `named`."""
    if _landmarks(spec) <= present:
        return spec
    kept = tuple(block for block in spec.blocks if block.last in present)
    cut = replace(spec, blocks=kept)
    is_cut = spec.output not in present and kept == spec.blocks[: len(kept)]
    if is_cut and (kept or named) and _landmarks(cut) - {spec.output} <= present:
        return cut
    return None


def _landmarks(spec: BackboneSpec) -> set[str]:
    """The layer names by which a row's models are recognised."""
    preprocessing = set() if spec.preprocessing == "none" else {applications.PREPROCESSING}
    return {spec.stem, spec.output, *(block.last for block in spec.blocks)} | preprocessing


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
