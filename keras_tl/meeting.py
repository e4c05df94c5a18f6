"""Lets processes wait for each other before TensorFlow makes them wait.

While TensorFlow waits for the others, Python cannot run: nothing could say what it waits for,
SIGTERM and Ctrl-C would do nothing, and TensorFlow replaces the handler of SIGTERM for good.
"""

import logging
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from keras_tl.errors import InputError

# Seconds until a wait is logged, between two attempts to connect, and that one may take.
PATIENCE, PAUSE, LOOK = 3.0, 0.3, 2.0
PORTS = range(1, 2**16)
# Connections that wait at a door, one of each other process.
MOST_PROCESSES = 4096

log = logging.getLogger("keras_tl")


def check_address(address: object) -> None:
    """Refuses what is not the address of a process.

    Args:
        address: What was given for one.

    Raises:
        InputError: It is no text of the form host:port, or there is no such port.
    """
    host, _, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
    # Python refuses to convert very long numbers.
    if not host or not (port.isascii() and port.isdigit() and len(port) < 6 and int(port) in PORTS):
        fix = f"Give its port, {PORTS[0]} to {PORTS[-1]}."
        raise InputError("host:port for each worker", repr(address), fix)


def wait_for_all(addresses: Sequence[str], index: int) -> None:
    """Waits until every process listens at its address: in this function, or TensorFlow already.

    Args:
        addresses: host:port of each process.
        index: Which of them this one is.

    Raises:
        InputError: This process cannot listen at its own.
    """
    missing = [address for n, address in enumerate(addresses) if n != index]
    until, told = time.monotonic() + PATIENCE, False
    with _door(addresses[index]):
        while missing := [address for address in missing if not _is_there(address)]:
            if not told and time.monotonic() > until:
                told = True
                # A warning, since recipes choose where to train before they set up logging.
                noun = "process" if len(missing) == 1 else "processes"
                log.warning("Waiting for %d %s: %s", len(missing), noun, ", ".join(missing))
            time.sleep(PAUSE)


@contextmanager
def own_sigterm() -> Iterator[None]:
    """Restores the handler of SIGTERM, which TensorFlow replaces by one that does nothing."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _door(address: str) -> socket.socket:
    """A listening socket that shows the others this process; it need not accept connections."""
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        port = int(address.rpartition(":")[2])
        return socket.create_server(
            ("", port), family=family, dualstack_ipv6=both, backlog=MOST_PROCESSES
        )
    except OSError as error:
        received = f"{address}: {error.strerror}"
        raise InputError("a free port for this process", received, "Give another one.") from error


def _is_there(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), LOOK).close()
    except OSError:
        # Nobody listens yet, or the name is unknown yet, as while machines are starting.
        return False
    return True
