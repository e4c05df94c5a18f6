"""Processes that wait for each other here, before TensorFlow does it.

Where TensorFlow waits for the others it keeps Python from running: nobody could say what it waits
for, SIGTERM and Ctrl-C would do nothing, and it takes SIGTERM for itself and keeps it.
"""

import logging
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from keras_tl.errors import InputError

# Seconds in which all may come without a word of it, between two looks, and that one look takes.
PATIENCE, PAUSE, LOOK = 3.0, 0.3, 2.0
PORTS = range(1, 2**16)

log = logging.getLogger("keras_tl")


def check_address(address: object) -> None:
    """Refuses what is not the address of a process.

    Args:
        address: What was given for one.

    Raises:
        InputError: It is no text of the form host:port, or there is no such port.
    """
    host, _, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
    # Of very long numbers Python makes none.
    if not host or not (port.isascii() and port.isdigit() and len(port) < 6 and int(port) in PORTS):
        fix = f"Give its port, {PORTS[0]} to {PORTS[-1]}."
        raise InputError("host:port for each worker", repr(address), fix)


def wait_for_all(addresses: Sequence[str], index: int) -> None:
    """Waits until every process is at its address: in this function, or in TensorFlow already.

    Args:
        addresses: host:port of each process.
        index: Which of them this one is.

    Raises:
        InputError: This process cannot be at its own.
    """
    missing = [address for n, address in enumerate(addresses) if n != index]
    until, told = time.monotonic() + PATIENCE, False
    with _door(addresses[index]):
        while missing := [address for address in missing if not _is_there(address)]:
            if not told and time.monotonic() > until:
                told = True
                # A warning: recipes choose where to train before they choose what is logged.
                noun = "process" if len(missing) == 1 else "processes"
                log.warning("Waiting for %d %s: %s", len(missing), noun, ", ".join(missing))
            time.sleep(PAUSE)


@contextmanager
def own_sigterm() -> Iterator[None]:
    """Gives SIGTERM back to whom it belonged; TensorFlow takes it, and does nothing at it."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _door(address: str) -> socket.socket:
    """Where the others see that this process is there; nobody needs to be let in for that."""
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        port = int(address.rpartition(":")[2])
        return socket.create_server(("", port), family=family, dualstack_ipv6=both)
    except OSError as error:
        received = f"{address}: {error.strerror}"
        raise InputError("a free port for this process", received, "Give another one.") from error


def _is_there(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), LOOK).close()
    except OSError:
        # Nobody listens, or nobody knows the name yet, as where machines are still being started.
        return False
    return True
