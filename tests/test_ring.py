"""Sums over a ring, of threads that are connected as processes are."""

import socket
import threading
import time
from contextlib import suppress

import numpy as np
import pytest

from keras_tl import ring
from keras_tl.ring import Ring, join

SECONDS = 20


def at_once(functions):
    """What each function returns or raises, all of them run at the same time."""
    found = [None] * len(functions)

    def run(index, function):
        try:
            found[index] = function()
        except Exception as error:
            found[index] = error

    threads = [
        threading.Thread(target=run, args=pair, daemon=True) for pair in enumerate(functions)
    ]
    for thread in threads:
        thread.start()
    until = time.monotonic() + SECONDS
    for thread in threads:
        thread.join(max(until - time.monotonic(), 0))
    assert not any(thread.is_alive() for thread in threads), "somebody waits for ever"
    return found


def rings_of(count):
    """Rings of socket pairs, and the ends: first who sends, then the one behind."""
    pairs = [socket.socketpair() for _ in range(count)]
    for end in (end for pair in pairs for end in pair):
        end.setblocking(False)
    rings = [Ring(i, count, pairs[i - 1][1], pairs[i][0]) for i in range(count)]
    return rings, pairs


def arrays_of(count, *shapes):
    random = np.random.default_rng(count)
    return [[random.normal(size=shape).astype("float32") for shape in shapes] for _ in range(count)]


def check(rings, arrays):
    """Sums are those of float64, up to the rounding of float32, and the same everywhere."""
    sums = at_once([lambda r=r, a=a: r.sum(*a) for r, a in zip(rings, arrays, strict=True)])
    assert not [error for error in sums if isinstance(error, Exception)]
    for number, expected in enumerate(zip(*arrays, strict=True)):
        first = sums[0][number]
        exact, size = np.sum(expected, axis=0, dtype="f8"), np.abs(expected).sum(axis=0)
        assert first.shape == exact.shape and first.dtype == np.float32
        # Of n numbers n - 1 sums are rounded, each by 2 ** -24 of what there is at most.
        assert (np.abs(first - exact) <= (len(arrays) - 1) * 2**-24 * size).all()
        for other in sums[1:]:
            assert other[number].tobytes() == first.tobytes()


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize(
    "shapes",
    [[(7, 3), (), (4, 1, 2), (11,)], [(100, 11)], [(), ()], [(1,)], [(0, 3), (2, 2)]],
)
def test_sums_are_those_of_float64_and_the_same_everywhere(count, shapes):
    rings, _ = rings_of(count)
    # Some steps, one after the other: nothing of one may be left for the next.
    for step in range(3):
        arrays = [[array * 10**step for array in own] for own in arrays_of(count, *shapes)]
        given = [[array.copy() for array in own] for own in arrays]
        check(rings, arrays)
        for mine, before in zip(arrays, given, strict=True):
            assert all(map(np.array_equal, mine, before)), "what was given has changed"


@pytest.mark.parametrize("count", [2, 3])
def test_no_socket_holds_a_part(count):
    rings, _ = rings_of(count)
    check(rings, arrays_of(count, (count * 2**21,), (5,)))


@pytest.mark.parametrize("size", [10, 2**21])
def test_who_is_lost_ends_all(size):
    """Not the neighbours only: those behind them wait for nobody."""
    rings, pairs = rings_of(5)
    array = np.ones(size, "float32")

    def is_lost():
        time.sleep(0.1)
        pairs[4][0].close()
        pairs[3][1].close()

    functions = [lambda r=r: r.sum(array) for r in rings[:4]]
    for error in at_once([*functions, is_lost])[:4]:
        assert isinstance(error, ConnectionError) and str(error) == ring.GONE
    for error in at_once(functions):
        assert isinstance(error, ConnectionError) and str(error) == ring.GONE


class Meeting:
    """What processes tell each other, of threads; `before_ports` is run before ports are told."""

    def __init__(self, hosts, before_ports=lambda ports: None):
        self.hosts, self.count = hosts, len(hosts)
        self.told, self.calls = [None] * self.count, 0
        self.barrier = threading.Barrier(self.count)
        self.before_ports = before_ports

    def tell(self, index, value):
        self.told[index] = value
        if self.barrier.wait(SECONDS) == 0:
            self.calls += 1
            # The first that is told is the word, then come the ports.
            if self.calls == 2:
                self.before_ports([int(port[0]) for port in self.told])
        self.barrier.wait(SECONDS)
        told = list(self.told)
        self.barrier.wait(SECONDS)
        return told


class Process:
    """One of the workers of a meeting."""

    def __init__(self, meeting, index):
        self.meeting, self.index = meeting, index
        self.count, self.hosts = meeting.count, meeting.hosts

    def share(self, value):
        return self.meeting.tell(self.index, value)[0]

    def gather(self, array):
        return self.meeting.tell(self.index, array)


def joined(hosts, **options):
    meeting = Meeting(hosts, **options)
    return at_once([lambda i=i: join(Process(meeting, i)) for i in range(len(hosts))])


def check_sums(rings):
    assert all(isinstance(each, Ring) for each in rings), rings
    check(rings, arrays_of(len(rings), (50, 3), ()))


@pytest.mark.parametrize("count", [2, 3])
def test_processes_find_each_other(count):
    check_sums(joined(["127.0.0.1"] * count))


def test_names_that_are_loopback_to_the_machine_itself(monkeypatch):
    """To itself a machine may be 127.0.1.1 (Debian), where others do not reach it."""
    connect = socket.create_connection
    monkeypatch.setattr(
        socket, "create_connection", lambda address, wait: connect(("127.0.0.1", address[1]), wait)
    )
    check_sums(joined(["127.0.1.1", "127.0.1.2"]))


@pytest.mark.parametrize("word", [b"0" * ring.WORD_BYTES, b"0", b"", None])
def test_strangers_are_turned_away(word, monkeypatch):
    """Those that come first; None says nothing and stays."""
    monkeypatch.setattr(ring, "PATIENCE", 3.0)
    strangers = []

    def knock(ports):
        for port in ports:
            strangers.append(socket.create_connection(("127.0.0.1", port), SECONDS))
            if word is not None:
                strangers[-1].sendall(word)
                strangers[-1].shutdown(socket.SHUT_WR)

    rings = joined(["127.0.0.1"] * 3, before_ports=knock)
    assert len(strangers) == 3
    check_sums(rings)
    for stranger in strangers:
        stranger.settimeout(SECONDS)
        with suppress(ConnectionResetError):
            assert stranger.recv(1) == b"", "not turned away"
        stranger.close()


def test_a_door_that_is_not_reached_is_known_to_all(monkeypatch):
    """The second one's: of its name nothing is heard (192.0.2.0/24 is nobody's), or a refusal."""
    monkeypatch.setattr(ring, "PATIENCE", 0.5)
    assert joined(["127.0.0.1", "192.0.2.1", "127.0.0.1"]) == [None] * 3

    def refuse(address, wait, connect=socket.create_connection):
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            # Bound, not listening.
            return connect(nobody.getsockname(), wait) if refused.pop() else connect(address, wait)

    refused = [False, True]
    monkeypatch.setattr(socket, "create_connection", refuse)
    assert joined(["127.0.0.1"] * 2) == [None] * 2
    assert not refused
