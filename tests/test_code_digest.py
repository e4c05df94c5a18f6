"""What of the user's code counts, and what does not."""

import os
import subprocess
import sys
import types
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_tl.code_digest import code_digest

SOURCE = """
import functools, math, beside
SCALE = 2.0
MEAN = [1.0, {"a": 2}]
NAMES = ("a", "b")

def twice(f):
    @functools.wraps(f)
    def called(x):
        return 2 * f(x)
    return called

@twice
def decorated(x):
    return x - MEAN[0]

by = functools.partial(decorated, 3)

def helper(x):
    # A comment.
    return x * SCALE

def outer(factor):
    def inner(x):
        return helper(x) + factor
    return inner

class Base:
    limit = 3

    @property
    def most(self):
        return self.limit

class Own(Base):
    def call(self, x, by=4):
        beside.helper(x)
        return [helper(x) for _ in range(2)] if x in {"one", "two", "three"} else by

    @staticmethod
    def check(x):
        return math.sqrt(x)

call = outer(5)
"""


BESIDE = """
def helper(x):
    return x + 1

def other(x):
    return x
"""


def made(source, *changes):
    """A module of the user's, edited."""
    for old, new in changes:
        assert old in source
        source = source.replace(old, new)
    module = types.ModuleType("mine")
    exec(source, vars(module))
    return module


def digest(name, *changes, beside=BESIDE):
    sys.modules["beside"] = made(beside)
    return code_digest(getattr(made(SOURCE, *changes), name))


@pytest.fixture(autouse=True)
def _forgets_the_module():
    yield
    sys.modules.pop("beside", None)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("helper", ("x * SCALE", "x / SCALE")),
        ("helper", ("SCALE = 2.0", "SCALE = 3.0")),
        ("call", ("x * SCALE", "x / SCALE")),
        ("call", ("outer(5)", "outer(6)")),
        ("Own", ("x * SCALE", "x / SCALE")),
        ("Own", ("range(2)", "range(3)")),
        ("Own", ("by=4", "by=5")),
        ("Own", ('"two"', '"too"')),
        ("Own", ("limit = 3", "limit = 4")),
        ("Own", ("return self.limit", "return -self.limit")),
        ("Own", ("math.sqrt", "math.cbrt")),
        ("decorated", ("2 * f", "3 * f")),
        ("decorated", ("x - MEAN", "x + MEAN")),
        ("decorated", ('{"a": 2}', '{"a": 3}')),
        ("by", ("decorated, 3", "decorated, 4")),
        ("by", ("2 * f", "3 * f")),
    ],
)
def test_what_is_edited_counts(name, change):
    assert digest(name) == digest(name) != digest(name, change)


@pytest.mark.parametrize("name", ["helper", "call", "Own"])
def test_comments_places_and_what_is_not_named_do_not_count(name):
    assert digest(name) == digest(name, ("    # A comment.\n", ""), ('("a", "b")', "()"))


def test_code_of_the_users_other_modules_counts():
    assert digest("Own", beside=BESIDE.replace("x + 1", "x + 2")) != digest("Own")
    assert digest("Own", beside=BESIDE.replace("return x\n", "return -x\n")) == digest("Own")


def test_code_of_libraries_does_not_count():
    assert code_digest(keras.layers.Dense, keras.activations.relu, len) == ""


CLASSES = """
import enum
import functools
from keras.ops import relu as act
import numpy as np
import tensorflow as tf
NUMBER = np.float32(2)
TABLE = np.arange(4)
NAMES = {("a", ("x", "y")), ("b", ("x", "y")), ("c", ("x", "y"))}
class A:
    def call(self, x): return act(x) * NUMBER
class B:
    def call(self, x): return x + TABLE[0] if x in NAMES else range(3)
class C(A, B):
    @tf.function
    def graph(self, x): return x * 5
    @functools.lru_cache
    def once(self, x): return x * 6
    @functools.cached_property
    def kept(self): return 7
class Other:
    def __call__(self, x): return x - 8
other = Other()
def both(x): return other(x)
"""


def classes(*changes, name="C"):
    module = made(CLASSES, *changes)
    return code_digest(*(getattr(module, each) for each in name.split()))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("C", ("x + TABLE", "x - TABLE")),
        ("A B", ("x + TABLE", "x - TABLE")),
        ("A", ("np.float32(2)", "np.float32(3)")),
        ("A", ("relu as act", "gelu as act")),
        ("B", ("np.arange(4)", "np.arange(5)")),
        ("B", ("range(3)", "range(4)")),
        ("C", ("x * 5", "x * 4")),
        ("C", ("x * 6", "x * 4")),
        ("C", ("return 7", "return 8")),
        ("both", ("x - 8", "x - 9")),
    ],
)
def test_all_of_several_classes_counts(name, change):
    assert classes(name=name) == classes(name=name) != classes(change, name=name)


def test_it_is_the_same_in_every_process():
    code = (
        "import sys; sys.path.insert(0, 'tests'); import test_code_digest as t; print(t.classes())"
    )
    folder = Path(__file__).parent.parent
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed, "TF_CPP_MIN_LOG_LEVEL": "3"},
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "13"
    }
    assert len(found) == 1


def test_collections_are_told_apart():
    assert code_digest([1, [2, 3]]) != code_digest([[1, 2], 3])
    assert code_digest({1: 2, 3: 4}) != code_digest([1, 2, 3, 4])
    objects = np.array([1, {"a": 2}], object)
    assert code_digest(objects) == code_digest(objects.copy())
