"""What recipes do with several processes."""

import argparse
from types import SimpleNamespace

import pytest

from keras_tl.place_options import launch, leave_to_chief, parse

SEVERAL = ["--strategy", "multiworker", "--workers", "a:1,b:2", "--worker-index", "1"]


@pytest.fixture
def processes(monkeypatch):
    """As if so many processes had found each other; gives the places, and where all waited."""
    chosen = []

    def several(count, index=0):
        here = SimpleNamespace(count=count, is_chief=index == 0)
        here.barrier = lambda: chosen.append("barrier")
        monkeypatch.setattr("keras_tl.strategies.choose", lambda place: chosen.append(place))
        monkeypatch.setattr("keras_tl.workers.Workers", lambda _: here)
        return chosen

    return several


def test_a_recipe_gets_its_own_options_alone(processes):
    chosen = processes(2)
    parser = argparse.ArgumentParser()
    parser.add_argument("--shots", type=int)
    assert vars(parse(parser, [*SEVERAL, "--shots", "3"])) == {"shots": 3}
    [place] = chosen
    assert (place.strategy, place.workers) == ("multiworker", ("a:1", "b:2"))


@pytest.mark.parametrize(("index", "done"), [(0, ["training", "the rest"]), (1, ["training"])])
def test_what_is_behind_training_is_the_chiefs_and_the_others_wait(processes, index, done):
    chosen, seen = processes(2, index), []

    def main():
        seen.append("training")
        leave_to_chief()
        seen.append("the rest")

    with pytest.raises(SystemExit) as ended:
        launch(main)
    assert (ended.value.code, seen, chosen) == (0, done, ["barrier"])
