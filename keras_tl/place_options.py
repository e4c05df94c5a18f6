"""The options that say where to train, for commands and recipes."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf

    from keras_tl.strategies import Place

PLACE = ("strategy", "workers", "worker_index", "tpu", "tpu_zone")


def place_options(command: argparse.ArgumentParser) -> None:
    """Adds them; see `keras_tl.strategies.Place`."""
    for name, kind, value, about in (
        ("--strategy", str, "NAME", "auto, cpu, mirrored, multiworker or tpu"),
        ("--workers", _addresses, "HOST:PORT,...", "multiworker: all processes, the chief first"),
        ("--worker-index", int, "I", "multiworker: which of them this one is, from 0"),
        ("--tpu", str, "NAME", "tpu: its name, or local on a TPU VM"),
        ("--tpu-zone", str, "ZONE", "tpu: its zone"),
    ):
        command.add_argument(name, type=kind, metavar=value, default=argparse.SUPPRESS, help=about)


def place_of(options: argparse.Namespace) -> "Place":
    """Where to train, as the options say."""
    from keras_tl.strategies import Place

    return Place(**{name: value for name, value in vars(options).items() if name in PLACE})


def strategy_of(options: argparse.Namespace) -> "tf.distribute.Strategy":
    """The strategy that the options name; see `keras_tl.strategies.choose`."""
    from keras_tl.strategies import choose

    return choose(place_of(options))


def _addresses(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))
