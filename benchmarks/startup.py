"""CPU seconds (user and system) of starting up, each in a process of its own.

    python benchmarks/startup.py

The empty interpreter is run in turn with the others and is not subtracted.
"""

import resource
import statistics
import subprocess
import sys

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import keras_tl": [sys.executable, "-c", "import keras_tl"],
    "keras-tl --help": [sys.executable, "-m", "keras_tl", "--help"],
}
# What the project promises, in seconds.
LIMITS = {"import keras_tl": 0.15, "keras-tl --help": 0.3}
ROUNDS = 7


def cpu_seconds(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    """Prints the medians; returns 1 where one is over its limit."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS + 1):
        for name, command in COMMANDS.items():
            seconds[name].append(cpu_seconds(command))
    late = False
    for name, measured in seconds.items():
        median = statistics.median(measured[1:])  # the first one reads from disk
        limit = LIMITS.get(name)
        late |= limit is not None and median > limit
        print(f"| {name} | {median:.3f} s | {'' if limit is None else f'limit {limit} s'} |")
    return int(late)


if __name__ == "__main__":
    sys.exit(main())
