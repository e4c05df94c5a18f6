"""The sum of arrays over the processes of a training, through sockets of their own.

Between CPUs, TensorFlow's collectives cost several times what sending the bytes costs: for the 2.4
million gradients of four blocks of EfficientNetLite0 about 20 ms of CPU time, through a plain
socket 4. The processes form a ring (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms
for clusters of workstations", J. Parallel Distrib. Comput. 69(2), 2009): each sends only to the
next one, in all less than twice what there is to add, and every process gets the same bits.
"""

import ipaddress
import logging
import secrets
import select
import socket
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from keras_tl.workers import Workers

# Seconds to connect in; who cannot may be behind a firewall that is open for TensorFlow only.
PATIENCE = 10.0
# Share of it for one connection to send the secret, which the right one does at once.
SHARE_OF_A_GUEST = 0.1
WORD_BYTES = 16
# A machine that vanishes silently is noticed after about a minute.
KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
GONE = "Collective sum: another worker is gone"

log = logging.getLogger("keras_tl")


class Ring:
    """A place among processes that each send to the next one.

    Args:
        index: Which place this is.
        count: How many there are.
        before: A connection from the one that sends to this one; it does not block.
        after: One to the process that this one sends to.
    """

    def __init__(self, index: int, count: int, before: socket.socket, after: socket.socket):
        self.index, self.count = index, count
        self._before, self._after = before, after
        weakref.finalize(self, _close, before, after)

    def sum(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """Adds up arrays over all processes, which call this in the same order.

        Args:
            *arrays: Float32, of the same shapes in all processes.

        Returns:
            The sums, the same to the bit in all of them.

        Raises:
            ConnectionError: A process is gone.
        """
        total = np.concatenate([array.reshape(-1) for array in arrays])
        try:
            self._add_up(np.array_split(total, self.count))
        except OSError as error:
            # The processes beyond the neighbours must notice it too.
            for end in (self._before, self._after):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            raise ConnectionError(GONE) from error
        ends = np.cumsum([array.size for array in arrays])[:-1]
        sums = np.split(total, ends)
        return [part.reshape(array.shape) for part, array in zip(sums, arrays, strict=True)]

    def _add_up(self, parts: list[np.ndarray]) -> None:
        """Reduce-scatter: each process sums up one part; then all-gather: all sums go round."""
        received = np.empty_like(parts[0])
        for step in range(self.count - 1):
            own, other = self._part(parts, step), self._part(parts, step + 1)
            self._exchange(own, received[: len(other)])
            other += received[: len(other)]
        for step in range(self.count - 1):
            self._exchange(self._part(parts, step - 1), self._part(parts, step))

    def _part(self, parts: list[np.ndarray], back: int) -> np.ndarray:
        """The part of the process that is `back` places before this one."""
        return parts[(self.index - back) % self.count]

    def _exchange(self, out: np.ndarray, into: np.ndarray) -> None:
        """Sends and receives at the same time: no socket holds a whole part."""
        to_send, to_come = out.view(np.uint8).data, into.view(np.uint8).data
        while to_send or to_come:
            waiting = select.poll()
            if to_come:
                waiting.register(self._before, select.POLLIN)
            if to_send:
                waiting.register(self._after, select.POLLOUT)
            ready = {number for number, _ in waiting.poll()}
            if self._before.fileno() in ready:
                if not (count := self._before.recv_into(to_come)):
                    raise ConnectionError("closed")
                to_come = to_come[count:]
            if self._after.fileno() in ready:
                to_send = to_send[self._after.send(to_send) :]


def join(workers: Workers) -> Ring | None:
    """Makes the ring of a training; all its processes call this.

    Args:
        workers: The processes, two or more.

    Returns:
        This process's place; None in all processes if one cannot reach its neighbour.
    """
    word = bytes.fromhex(workers.share(secrets.token_hex(WORD_BYTES)))
    following = (workers.index + 1) % workers.count
    with _door(workers.hosts, workers.index) as door:
        ports = workers.gather(np.array([door.getsockname()[1]]))
        ends = _ends(door, (workers.hosts[following], int(ports[following][0])), word)
        met = workers.gather(np.array([bool(ends)]))
    if ends and all(bool(each[0]) for each in met):
        return Ring(workers.index, workers.count, *ends)
    _close(*ends)
    log.info("Workers reach each other at the ports they are given only: gradients go there too")
    return None


def _close(*ends: socket.socket) -> None:
    for end in ends:
        end.close()


def _door(hosts: Sequence[str], index: int) -> socket.socket:
    """Listens for the previous process, if possible only at this machine's known address."""
    with suppress(OSError):
        found = socket.getaddrinfo(hosts[index], 0, type=socket.SOCK_STREAM)[0]
        family, address = found[0], str(found[4][0])
        # A machine may resolve its own name to 127.0.1.1 (Debian), which others cannot reach.
        if len(set(hosts)) == 1 or not ipaddress.ip_address(address).is_loopback:
            return socket.create_server((address, 0), family=family)
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", 0))


def _ends(door: socket.socket, after: tuple[str, int], word: bytes) -> tuple[socket.socket, ...]:
    """Connections from the previous and to the next process; none if either fails."""
    until = time.monotonic() + PATIENCE
    try:
        sending = socket.create_connection(after, PATIENCE)
    except OSError:
        return ()
    try:
        sending.sendall(word)
        receiving = _let_in(door, word, until)
    except OSError:
        sending.close()
        return ()
    for end in (receiving, sending):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE.items():
            if hasattr(socket, name):
                end.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        end.setblocking(False)
    return receiving, sending


def _let_in(door: socket.socket, word: bytes, until: float) -> socket.socket:
    """The first connection that sends the secret word.

    Raises:
        TimeoutError: None did in time.
    """
    while (left := until - time.monotonic()) > 0:
        door.settimeout(left)
        guest, _ = door.accept()
        guest.settimeout(PATIENCE * SHARE_OF_A_GUEST)
        try:
            if secrets.compare_digest(guest.recv(len(word), socket.MSG_WAITALL), word):
                return guest
        except OSError:
            pass
        guest.close()
    raise TimeoutError
