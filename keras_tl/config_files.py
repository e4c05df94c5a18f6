"""Settings from files and from options: read, checked by name and type, and nothing executed."""

import errno
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml

from keras_tl.config import DEFAULTS, SCHEMA_VERSION, TrainConfig
from keras_tl.errors import InputError, did_you_mean, in_one_line

# Types that YAML gives to values of settings.
SCALARS = (str, int, float, bool, type(None))
# Maximum characters of a value or bits of a number; maximum depth of nesting.
LONGEST, DEEPEST = 4096, 8
# Settings whose defaults depend on others.
FOLLOWING = {name for defaults in DEFAULTS.values() for name in defaults} | {"engine", "fine_tune"}
# Maximum bytes of a file.
LARGEST = 2**20


def read_config(path: str | Path) -> dict[str, Any]:
    """Reads settings from a YAML file, such as a run's `config.yaml`.

    Args:
        path: The file.

    Returns:
        The settings it names; the ones it leaves out keep their defaults.

    Raises:
        InputError: Not YAML, another schema version, or a key that does not exist.
    """
    try:
        facts = _parse(_text(Path(path)))
    except OSError as error:
        raise InputError("a configuration file", str(path), f"{error.strerror}.") from error
    # Invalid dates and numbers of thousands of digits raise a plain ValueError.
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        first = in_one_line(error, 300)
        raise InputError("a YAML file", str(path), f"It does not parse: {first}.") from error
    if not isinstance(facts, dict):
        raise InputError("settings, one `name: value` a line", str(path), "See `config.yaml`.")
    for name, value in facts.items():
        if name != "versions":
            _refuse_odd(name, value)
    schema = facts.pop("schema_version", SCHEMA_VERSION)
    if schema != SCHEMA_VERSION:
        raise InputError(
            f"schema_version {SCHEMA_VERSION}", str(schema), "Use the keras_tl that wrote it."
        )
    facts.pop("versions", None)
    known = [field.name for field in fields(TrainConfig)]
    for name in facts:
        if name not in known:
            hint = did_you_mean(str(name), known, "See `keras-tl train --help`.")
            raise InputError(f"settings of a run in {path}", repr(name), hint)
    return facts


def _text(path: Path) -> str:
    """The content of a file. Reading a pipe or a device might never end."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "It is no file")
    if path.exists() and path.stat().st_size > LARGEST:
        raise OSError(errno.EFBIG, f"It has more than {LARGEST:,} bytes")
    return path.read_text(encoding="utf-8")


def _parse(text: str) -> Any:
    """Reads YAML without aliases, tags and deep nesting, which can exhaust memory or time."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"it has the alias *{event.anchor}")
        # Tags change the type of a value, and PyYAML's own fail in many ways.
        if tag := getattr(event, "tag", None):
            raise ValueError(f"it has the tag {tag}")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError(f"it has lists or mappings in each other, {depth} deep")
    whole = yaml.compose(text, Loader=yaml.SafeLoader)
    if isinstance(whole, yaml.MappingNode):
        # PyYAML would take the last one.
        counts = Counter(str(key.value) for key, _ in whole.value)
        if twice := [key for key, count in counts.items() if count > 1]:
            raise ValueError(f"it has {twice[0]} more than once")
    return yaml.safe_load(text)


def _refuse_odd(name: Any, value: Any) -> None:
    """Refuses what cannot be a setting's value, before a message would show it."""
    fix = "See `config.yaml`."
    if not isinstance(value, SCALARS):
        kind = f"a {type(value).__name__} for {name!r}"
        raise InputError("one value for each setting", kind, fix)
    length = len(value) if isinstance(value, str) else 0
    bits = value.bit_length() if isinstance(value, int) else 0
    if length > LONGEST or bits > LONGEST:
        kind = f"{length} characters" if length else f"a number of {bits} bits"
        raise InputError(f"a value of some {LONGEST} characters for {name!r}", kind, fix)


def beside(settings: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Merges settings of a file with given ones, which take precedence.

    A file that a run wrote holds defaults too, and some depend on other settings: the rate of a
    fine-tuning on the backbone. Where the file has such a default, it is worked out again from the
    given settings.

    Args:
        settings: Those of the file, see `read_config`.
        given: The others.

    Returns:
        Settings for `make_config`.

    Raises:
        InputError: The file's settings are invalid by themselves.
    """
    if not settings:
        return dict(given)
    file = {"data": "", "out": "", **settings}
    whole = make_config(file)
    kept = dict(settings)
    for name in FOLLOWING & settings.keys():
        try:
            default = getattr(make_config(_without(file, name)), name)
        except InputError:  # the file's other settings need this value
            continue
        if default == getattr(whole, name):
            kept = _without(kept, name)
    if given.get("fine_tune", "lora") != "lora":
        # The file's rank is that of the adapters which are not wanted now.
        kept = _without(kept, "lora_rank")
    return {**kept, **given}


def _without(settings: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != name}


def make_config(settings: dict[str, Any]) -> TrainConfig:
    """Builds a configuration from settings by name.

    Raises:
        InputError: A setting is missing, or of another type than it should be.
    """
    for name in ("data", "out"):
        if name not in settings:
            raise InputError(f"{name!r} among the settings", "none", "Give it.")
    settings = dict(settings)
    hints = get_type_hints(TrainConfig)
    for name, value in list(settings.items()):
        kind = hints[name]
        takes_floats = float in (kind, *get_args(kind))
        if takes_floats and isinstance(value, str):
            value = settings[name] = _number(value)
        # An int may stand for a float (a learning rate of 1), but True not for a number.
        fits = isinstance(value, kind | int if takes_floats else kind)
        if not fits or (isinstance(value, bool) and kind is not bool):
            wanted = getattr(kind, "__name__", str(kind))
            raise InputError(f"{name} of type {wanted}", repr(value), "Mend the value.")
    return TrainConfig(**settings)


def _number(text: str) -> float | str:
    """The float that a text gives: YAML reads 1e-3, without a point, as text."""
    try:
        return float(text)
    except ValueError:
        return text
