"""The options that say where to train, for commands and recipes."""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from keras_tl.exit_codes import exit_code_of
from keras_tl.quiet import quiet

if TYPE_CHECKING:
    from keras_tl.runs import Run
    from keras_tl.strategies import Place
    from keras_tl.workers import Workers

PLACE = ("strategy", "workers", "worker_index", "tpu", "tpu_zone")


def place_options(command: argparse.ArgumentParser) -> None:
    """Adds these options; see `keras_tl.strategies.Place`."""
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
) -> argparse.Namespace:
    """Parses a recipe's options, and these, with which it chooses the process's strategy.

    Args:
        parser: The recipe's own options.
        arguments: The arguments after its name; None takes the process's own.

    Returns:
        The recipe's own options.
    """
    place_options(parser)
    options = parser.parse_args(arguments)
    with quiet():
        from keras_tl import strategies

    strategies.choose(place_of(options))
    for name in PLACE:
        vars(options).pop(name, None)
    return options


def launch(main: Callable[[], None]) -> NoReturn:
    """Runs a recipe as a program, which reports bad input in one line and with exit code 2."""

    def shared() -> None:
        with together():
            main()

    sys.exit(exit_code_of(shared, Path(sys.argv[0]).name))


@contextmanager
def together() -> Iterator[None]:
    """Lets all processes of a command or recipe end at once."""
    try:
        with contextlib.suppress(_LeftToChiefError):
            yield
    except Exception:
        # Looked up only now, since the block may have chosen the strategy.
        with processes().losses_told():
            raise
    # A process that ends first would be taken for lost.
    processes().barrier()


def leave_to_chief() -> None:
    """Ends a command or recipe here in all processes but the chief, which prints and writes.

    The others wait, in `together`, until the chief has finished.
    """
    if not processes().is_chief:
        raise _LeftToChiefError


class _LeftToChiefError(Exception):
    """Nothing is left to do in this process."""


@contextmanager
def run_of_chief(folder: str | Path) -> Iterator["Run"]:
    """Opens a run that `train` has finished in all processes; only the chief prints and logs.

    Args:
        folder: The run's. The others get a temporary copy of what is needed of it.
    """
    from keras_tl.model_info import FILE_NAME
    from keras_tl.runs import Run, load_run

    workers = processes()
    with workers.results_in(folder) as own:
        workers.share_files(own, Run.MODEL, FILE_NAME, Run.CONFIG, Run.METRICS)
        yield load_run(own)


def processes() -> "Workers":
    """The processes of the strategy that was chosen."""
    from keras_tl import strategies, workers

    return workers.Workers(strategies.current())


def _addresses(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))
