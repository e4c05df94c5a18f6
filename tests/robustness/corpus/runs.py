"""Damage to the files of a finished run."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from robustness.corpus.case import EITHER, REFUSED, cuts, flips

Damage = Callable[[bytes], bytes | None]
# Which command reads which file for its answer.
READERS = {
    "model.json": ("predict", "evaluate", "report", "export"),
    "config.yaml": ("predict",),
    "metrics.json": ("report",),
    "splits.csv": ("evaluate", "report", "export"),
    "predictions.csv": ("report",),
    "predictions_val.csv": ("report",),
    "history.csv": ("report",),
    "model.keras": ("predict", "evaluate", "export"),
}
# What a file can do without and still be what it is.
OPTIONAL = ("predictions.csv", "predictions_val.csv", "history.csv", "splits.csv")


@dataclass(frozen=True)
class Broken:
    """A run in which one file is damaged, and a command that reads it."""

    command: str
    name: str
    how: str
    damage: Damage
    ends: str = REFUSED

    @property
    def id(self) -> str:
        return f"{self.command}: {self.name} {self.how}"


def changed(**values: object) -> Damage:
    """A JSON object with other values; "a__b" is b in a."""

    def damage(content: bytes) -> bytes:
        facts = json.loads(content)
        for path, value in values.items():
            *parents, last = path.split("__")
            inside = facts
            for parent in parents:
                inside = inside[parent]
            if value is ...:
                del inside[last]
            else:
                inside[last] = value
        return json.dumps(facts).encode()

    return damage


def any_file(name: str) -> Iterator[tuple[str, Damage, str]]:
    missing = EITHER if name in OPTIONAL else REFUSED
    yield "missing", lambda _: None, missing
    yield "empty", lambda _: b"", EITHER if name in OPTIONAL else REFUSED
    yield "of zeros", lambda content: bytes(len(content)), REFUSED
    yield "that is a PNG", lambda _: b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", REFUSED
    yield "of another encoding", lambda content: content.decode("latin-1").encode("utf-16"), REFUSED
    for number in range(2):
        ends = EITHER if name.endswith((".csv", ".yaml")) else REFUSED
        yield (
            f"cut off, place {number}",
            lambda content, n=number: [cut for _, cut in cuts(content, 3, 20)][n],
            ends,
        )
    for number in range(2):
        yield (
            f"with flipped bits, seed {number}",
            lambda content, n=number: [flipped for _, flipped in flips(content, 2)][n],
            EITHER,
        )


MODEL_JSON = {
    "a list": lambda _: b"[]",
    "lists in lists": lambda _: b"[" * 100_000,
    "of a later version": changed(format_version=99),
    "of a version in words": changed(format_version="two"),
    "of a size in words": changed(image_input__size="16"),
    "of a size of null": changed(image_input__size=None),
    "of a size of 10^9": changed(image_input__size=10**9),
    "of a size of 16.5": changed(image_input__size=16.5),
    "of a limit in words": changed(image_input__max_pixels="many"),
    "of an antialias in words": changed(image_input__antialias="yes"),
    "of a resize that is a list": changed(image_input__resize=["squash"]),
    "of an unknown task": changed(task="guessing"),
    "of a task that is a list": changed(task=["single-label"]),
    "of classes in one text": changed(class_names="abc"),
    "of classes that are numbers": changed(class_names=[1, 2, 3]),
    "of classes of null": changed(class_names=None),
    "of no classes": changed(class_names=[]),
    "of too few classes": changed(class_names=["a", "b"]),
    "of thresholds in words": changed(thresholds=["a", "b", "c"]),
    "of thresholds of null": changed(thresholds=None),
    "of an unknown key": changed(colour="red"),
    "without classes": changed(class_names=...),
    "without a task": changed(task=...),
    "without an input": changed(image_input=None),
}
METRICS_JSON = {
    "a list": lambda _: b"[]",
    "a number": lambda _: b"7",
    "lists in lists": lambda _: b"[" * 100_000,
    "measured on a list": changed(measured_on=["test"]),
    "with images in words": changed(images="many"),
}


def runs() -> Iterator[Broken]:
    for name, commands in READERS.items():
        for how, damage, ends in any_file(name):
            for command in commands:
                if name == "config.yaml" and command == "evaluate" and ends == EITHER:
                    continue
                # A report says itself what it lacks.
                if (command, name, how) == ("report", "model.json", "missing"):
                    ends = EITHER
                yield Broken(command, name, how, damage, ends)
    for how, damage in MODEL_JSON.items():
        yield Broken("predict", "model.json", how, damage)
    for how, damage in METRICS_JSON.items():
        yield Broken("report", "metrics.json", how, damage)


CASES = [*runs()]
