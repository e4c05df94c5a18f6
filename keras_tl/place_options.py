"""The options that say where to train, for commands and recipes."""

import argparse
import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from keras_tl.errors import InputError
from keras_tl.exit_codes import exit_code_of
from keras_tl.quiet import quiet

if TYPE_CHECKING:
    from keras_tl.strategies import Place
    from keras_tl.workers import Workers

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


def parse(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None = None,
    *,
    several: bool = False,
) -> argparse.Namespace:
    """Parses the options of a recipe, and these ones, which choose the strategy of the process.

    Args:
        parser: The recipe's own options.
        arguments: What stands behind its name; None takes the process's own.
        several: Whether several processes can share its work; see `leave_to_chief`.

    Returns:
        The recipe's own options.

    Raises:
        InputError: Several processes, and the recipe is for one.
    """
    place_options(parser)
    options = parser.parse_args(arguments)
    if several:
        _choose(options)
    else:
        choose_alone(options, "this recipe")
    for name in PLACE:
        vars(options).pop(name, None)
    return options


def launch(main: Callable[[], None]) -> NoReturn:
    """Runs a recipe as a program, which tells of bad input in one line and exit code 2."""

    def together() -> None:
        with contextlib.suppress(_LeftToChiefError):
            main()
        # Who ends first would be missed.
        _workers().barrier()

    sys.exit(exit_code_of(together, Path(sys.argv[0]).name))


def leave_to_chief() -> None:
    """Ends a recipe here in all processes but the chief, which alone has the finished run.

    They wait, in `launch`, until the chief is through with the rest.
    """
    if not _workers().is_chief:
        raise _LeftToChiefError


class _LeftToChiefError(Exception):
    """Nothing is left to do in this process."""


def choose_alone(options: argparse.Namespace, what: str) -> None:
    """Chooses the strategy of the process for what is not divided among several.

    Args:
        options: Those of `place_options`.
        what: What is to be done, for the error.

    Raises:
        InputError: There are several processes.
    """
    if _choose(options).count > 1:
        fix = "Take another strategy, or keras-tl train."
        raise InputError(f"one process for {what}", "several", fix)


def _choose(options: argparse.Namespace) -> "Workers":
    """The processes of the strategy that the options say."""
    with quiet():
        from keras_tl import strategies, workers

    return workers.Workers(strategies.choose(place_of(options)))


def _workers() -> "Workers":
    """Those of the strategy that was chosen."""
    from keras_tl import strategies, workers

    return workers.Workers(strategies.current())


def _addresses(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))
