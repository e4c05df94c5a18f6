"""A program in several processes of this machine, which find each other over loopback."""

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np

TESTS = str(Path(__file__).parent)
# What comes before any program: the place, before TensorFlow computes anything, and two backbones.
# StillNet is TinyNet without stochastic depth, which is drawn on each device.
START = f"""
import argparse, dataclasses, os, sys
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, {TESTS!r})
from keras_tl import strategies
from keras_tl.place_options import place_of, place_options
parser = argparse.ArgumentParser()
place_options(parser)
strategies.choose(place_of(parser.parse_known_args()[0]))
import conftest
from keras_tl.backbones import registry

def still_net(**options):
    model = conftest.tiny_net(**options)
    for name in ("one_drop", "two_drop"):
        model.get_layer(name).rate = 0.0
    return model

registry.register(conftest.TINY_NET)
registry.register(dataclasses.replace(conftest.TINY_NET, name="StillNet", factory=still_net))
"""
# Each process notes how many items it computes itself, pass by pass.
NOTING_SHARES = """
import json
from keras_tl.training import passes
share_of, shares = passes.share_of, []

def noted(missing, workers):
    mine = share_of(missing, workers)
    shares.append(len(mine))
    with open("shares.json", "w") as file:
        json.dump(shares, file)
    return mine

passes.share_of = noted
"""


def places(count):
    """The options that say where to train, for each of so many processes."""
    if count == 1:
        return [["--strategy", "cpu"]]
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        workers = ",".join(f"127.0.0.1:{each.getsockname()[1]}" for each in sockets)
    where = ["--strategy", "multiworker", "--workers", workers, "--worker-index"]
    return [[*where, str(index)] for index in range(count)]


def told_by(program, arguments, folder, count, code=0, timeout=400):
    """Runs a program in so many processes, each with a store of features of its own.

    Args:
        program: What comes behind `START`.
        arguments: Its options, but for those of the place.
        folder: Where the processes work: "0", "1" and so on in it.
        count: How many processes.
        code: The exit code that all are to end with, or one for each.
        timeout: Seconds that a process may take.

    Returns:
        What each process prints, and what it says on standard error.
    """
    processes = []
    for index, place in enumerate(places(count)):
        own = folder / str(index)
        own.mkdir(parents=True, exist_ok=True)
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", START + program, *map(str, arguments), *place],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=own,
                env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "KERAS_TL_CACHE": str(own / "cache")},
            )
        )
    try:
        said = [process.communicate(timeout=timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
    codes = [process.returncode for process in processes]
    expected = [code] * count if isinstance(code, int) else code
    assert codes == expected, (codes, [errors[-3000:] for _, errors in said])
    return said


def shares_noted(folder, count):
    """What `NOTING_SHARES` noted: int `[processes, passes]`."""
    return np.array(
        [json.loads((folder / str(i) / "shares.json").read_text()) for i in range(count)]
    )
