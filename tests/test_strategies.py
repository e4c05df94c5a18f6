"""Where training runs, and what is refused."""

import json
import re

import keras
import pytest
import tensorflow as tf

from keras_tl import strategies
from keras_tl.cli import main
from keras_tl.errors import InputError
from keras_tl.strategies import Place, check_supported, choose, current, in_scope

TWO = {"cluster": {"worker": ["a:1", "b:1"]}}


def task(kind, index):
    """A TF_CONFIG of two processes."""
    return json.dumps(TWO | {"task": {"type": kind, "index": index}})


@pytest.fixture
def gpus(monkeypatch):
    """As if there were three GPUs, the last of them divided up; gives those that were changed."""
    changed, now = [], tf.config
    strategies.grow_memory_as_needed.cache_clear()
    monkeypatch.setattr(now, "list_physical_devices", lambda kind: [kind + n for n in "012"])
    divided = {"GPU2": ["its parts"]}
    monkeypatch.setattr(now, "get_logical_device_configuration", divided.get)
    monkeypatch.setattr(now.experimental, "set_memory_growth", lambda *what: changed.append(what))
    yield changed
    strategies.grow_memory_as_needed.cache_clear()


@pytest.fixture(autouse=True)
def none_chosen(monkeypatch):
    monkeypatch.setattr(strategies, "_chosen", {})
    monkeypatch.setattr(strategies, "wait_for_all", lambda *_: pytest.fail("It waits for others."))
    monkeypatch.delenv("TF_CONFIG", raising=False)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"strategy": "miror"}, "Did you mean mirrored?"),
        ({"workers": ("a:1", "b:1"), "worker_index": 0}, "the strategy multiworker for workers"),
        ({"strategy": "multiworker", "worker_index": 1}, "workers for a worker index"),
        ({"tpu": "mine"}, "the strategy tpu for a TPU's name or zone, received mine with 'auto'"),
        ({"strategy": "cpu", "tpu_zone": "europe-west4-a"}, "received europe-west4-a with 'cpu'"),
        ({"strategy": "multiworker", "workers": ("a:1", "b:1")}, "a worker index in 0 to 1"),
        (
            {"strategy": "multiworker", "workers": ("a:1", "b:1"), "worker_index": 2},
            "received worker 2 of 2",
        ),
        (
            {"strategy": "multiworker", "workers": ("a:1", "b"), "worker_index": 0},
            "host:port for each worker, received 'b'",
        ),
        (
            {"strategy": "multiworker", "workers": ("a:999999", "b:1"), "worker_index": 0},
            "received 'a:999999'. Give its port, 1 to 65535",
        ),
    ],
)
def test_places_that_there_are_not(settings, said):
    with pytest.raises(InputError, match=said.replace("?", r"\?")):
        Place(**settings)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "TF_CONFIG with a cluster and a task"),
        (json.dumps({"cluster": ["a:1"]}), "TF_CONFIG with a cluster and a task"),
        (json.dumps({"cluster": {"worker": ["a:1"], "ps": ["b:1"]}}), "received one with ps"),
        ('["a:1"]', "TF_CONFIG with a cluster and a task"),
        (json.dumps({"cluster": {"worker": "a:1"}}), "TF_CONFIG with a cluster and a task"),
        (json.dumps({"cluster": {"worker": [22, 23]}}), "host:port for each worker, received 22"),
        (json.dumps({"cluster": {"chief": ["a:1", "b:1"]}}), "one chief, received 2 of them"),
        (json.dumps(TWO), "a task out of 2 worker, received the task None"),
        (json.dumps(TWO | {"task": "worker"}), "received the task 'worker'"),
        (task("worker", 5), "received the task {'type': 'worker', 'index': 5}"),
        (task("worker", "x"), "received the task {'type': 'worker', 'index': 'x'}"),
        (task("worker", -1), "received the task"),
        (task("worker", True), "received the task"),
        (task("worker", None), "received the task"),
        (task("ps", 0), "received the task {'type': 'ps', 'index': 0}"),
        (task(["worker"], 0), "received the task"),
    ],
)
def test_environments_that_cannot_be_used(text, said, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match=re.escape(said)):
        choose()


def test_a_task_may_be_a_number_or_its_text(monkeypatch):
    for index in (1, "1"):
        monkeypatch.setenv("TF_CONFIG", task("worker", index))
        assert strategies._cluster() == TWO["cluster"]
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        assert strategies.members(resolver) == (["a:1", "b:1"], 1)


def test_one_process_needs_no_cluster(monkeypatch):
    cluster = {"cluster": {"worker": ["127.0.0.1:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    assert choose() is tf.distribute.get_strategy()
    with pytest.raises(InputError, match="workers of the strategy multiworker, received none"):
        strategies._make(Place("multiworker"))


def test_workers_come_before_anything_is_computed():
    tf.constant(1) + 1
    place = Place("multiworker", ("127.0.0.1:1", "127.0.0.1:2"), 0)
    with pytest.raises(InputError, match="several workers before TensorFlow computes anything"):
        choose(place)


def test_a_process_has_one_strategy_of_several_devices(monkeypatch):
    assert choose() is choose(Place("cpu")) is tf.distribute.get_strategy()
    kind = tf.distribute.MirroredStrategy
    monkeypatch.setattr(strategies, "_make", lambda place: kind.__new__(kind))
    first = choose(Place("mirrored"))
    assert choose() is choose(Place("mirrored")) is strategies.current() is first
    with pytest.raises(InputError, match="received 'cpu' behind 'mirrored'"):
        choose(Place("cpu"))


def test_one_cpu_stays_one_cpu(monkeypatch):
    choose(Place("cpu"))
    monkeypatch.setenv("TF_CONFIG", task("worker", 0))
    monkeypatch.setattr(strategies, "_multi_worker", lambda place: pytest.fail("It waits."))
    assert choose() is tf.distribute.get_strategy()


def test_a_tpu_that_is_not_there():
    with pytest.raises(InputError, match="a TPU 'local'"):
        choose(Place("tpu"))


def test_what_keras_does_not_train_with(monkeypatch):
    kind = tf.distribute.experimental.ParameterServerStrategy
    with pytest.raises(InputError, match="received ParameterServerStrategy"):
        check_supported(kind.__new__(kind))
    check_supported(tf.distribute.get_strategy())
    # With TensorFlow, not every Keras can make one.
    monkeypatch.setattr(keras.distribution, "distribution", lambda: "a DataParallel")
    with pytest.raises(InputError, match=r"keras\.distribution, which does nothing"):
        check_supported(tf.distribute.get_strategy())


def test_a_wrong_place_is_one_line(capsys, tmp_path):
    command = ["train", str(tmp_path), "--out", str(tmp_path / "run"), "--strategy", "tpus"]
    assert main(command) == 2
    assert "Did you mean tpu?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "begin", [current, lambda: in_scope(len)("ab"), lambda: choose(Place("cpu"))]
)
def test_memory_of_gpus_grows_wherever_a_program_begins(begin, gpus, monkeypatch):
    monkeypatch.setattr(strategies, "_hide_gpus", lambda: None)
    begin()
    assert gpus == [("GPU0", True), ("GPU1", True)]
    begin()
    assert len(gpus) == 2


def test_only_that_gpus_are_in_use_is_passed_over(gpus, monkeypatch):
    def refuse(device, on):
        raise RuntimeError(said)

    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", refuse)
    said = "Physical devices cannot be modified after being initialized"
    current()
    strategies.grow_memory_as_needed.cache_clear()
    said = "the driver is too old"
    with pytest.raises(RuntimeError, match="too old"):
        current()
