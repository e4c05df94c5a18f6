"""Processes that wait for each other, and what ends the waiting."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from processes import places, told_by

from keras_tl import meeting
from keras_tl.errors import InputError
from keras_tl.meeting import check_address, own_sigterm, wait_for_all

# The first process waits for the second within TensorFlow; the other has the handler it began with.
WAITING = """
import signal, threading, time
from keras_tl.place_options import processes

def tell(seconds):
    threading.Timer(seconds, os.kill, [os.getpid(), signal.SIGTERM]).start()

workers = processes()
workers.barrier()
if workers.is_chief:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    tell(1)
    workers.barrier()
else:
    tell(6)
    time.sleep(60)
"""


def addresses(count):
    """Of so many processes on this machine."""
    return places(count)[0][3].split(",")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(meeting, "PATIENCE", 0.0)
    monkeypatch.setattr(meeting, "PAUSE", 0.02)


@pytest.mark.parametrize("address", ["a:1", "a.b:65535", "[::1]:22", "127.0.0.1:12345"])
def test_addresses(address):
    check_address(address)


@pytest.mark.parametrize(
    "address", ["a", ":1", "a:", "a:0", "a:65536", "127.0.0.1:999999", "a:-1", "a:²", 12345, None]
)
def test_addresses_that_there_are_not(address):
    with pytest.raises(InputError, match="1 to 65535"):
        check_address(address)
    with pytest.raises(InputError, match="host:port"):
        check_address("a:" + "9" * 5000)


def test_all_go_on_when_the_last_has_come(caplog):
    three = addresses(3)

    def come(index):
        wait_for_all(three, index)
        # As TensorFlow does next.
        return socket.create_server(("127.0.0.1", int(three[index].rpartition(":")[2])))

    with ThreadPoolExecutor(3) as threads:
        first = [threads.submit(come, index) for index in range(2)]
        time.sleep(0.3)
        assert not any(each.done() for each in first)
        servers = [each.result(10) for each in [*first, threads.submit(come, 2)]]
    for server in servers:
        server.close()
    assert f"Waiting for 1 process: {three[2]}" in caplog.messages
    assert len(caplog.messages) <= 3


def test_who_is_in_tensorflow_already_is_there():
    two = addresses(2)
    with socket.create_server(("127.0.0.1", int(two[1].rpartition(":")[2]))):
        wait_for_all(two, 0)


def test_a_port_that_is_taken_is_a_line():
    two = addresses(2)
    with (
        socket.create_server(("127.0.0.1", int(two[0].rpartition(":")[2]))),
        pytest.raises(InputError, match=f"received {two[0]}: Address already in use"),
    ):
        wait_for_all(two, 0)


def test_ctrl_c_ends_the_waiting():
    # Who runs the tests may have it ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT]).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            wait_for_all(addresses(2), 0)
    finally:
        signal.signal(signal.SIGINT, before)


def test_sigterm_is_given_back():
    def mine(*_):
        pass

    before = signal.signal(signal.SIGTERM, mine)
    try:
        with own_sigterm():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)]
)
def test_a_command_that_waits_for_others_ends_at_once(number, code, tmp_path):
    command = ["train", tmp_path, "--out", tmp_path / "run", *places(2)[0]]
    command = [sys.executable, "-m", "keras_tl", *map(str, command)]
    how = {"stderr": subprocess.PIPE, "text": True}
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, preexec_fn=heed, **how) as process:
        assert process.stderr.readline().startswith("Waiting for 1 process: 127.0.0.1:")
        process.send_signal(number)
        started = time.monotonic()
        said = process.communicate(timeout=60)[1]
        assert process.returncode == code and time.monotonic() - started < 10
    assert said == ("keras-tl: interrupted\n" if code == 130 else "")


@pytest.mark.slow
def test_sigterm_ends_who_waits_within_tensorflow_and_who_does_not(tmp_path):
    told_by(WAITING, [], tmp_path, 2, code=[143, -signal.SIGTERM], timeout=100)
