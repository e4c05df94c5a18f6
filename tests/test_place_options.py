"""What is not divided among several processes is refused there."""

import argparse
from types import SimpleNamespace

import pytest

from keras_tl import cli
from keras_tl.errors import InputError
from keras_tl.place_options import choose_alone, launch, leave_to_chief, parse

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


def test_one_process_goes_on_and_several_do_not(processes):
    options = argparse.Namespace(strategy="cpu", epochs=3)
    chosen = processes(1)
    choose_alone(options, "a comparison")
    assert [place.strategy for place in chosen] == ["cpu"]
    processes(2)
    with pytest.raises(InputError, match="one process for a comparison, received several"):
        choose_alone(options, "a comparison")


def test_a_recipe_gets_its_own_options_alone(processes):
    processes(1)
    assert vars(parse(argparse.ArgumentParser(), ["--strategy", "cpu"])) == {}
    processes(2)
    with pytest.raises(InputError, match="one process for this recipe"):
        parse(argparse.ArgumentParser(), SEVERAL)


def test_one_that_can_share_its_work_goes_on_in_several(processes):
    chosen = processes(2)
    parser = argparse.ArgumentParser()
    assert vars(parse(parser, SEVERAL, several=True)) == {}
    assert chosen[0].workers == ("a:1", "b:2")


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


@pytest.mark.parametrize("command", ["compare", "lr-find"])
def test_commands_that_several_would_each_do_whole_are_refused(processes, capsys, command):
    chosen = processes(2)
    assert cli.main([command, "no-such-photos", *SEVERAL]) == 2
    assert "one process for" in capsys.readouterr().err
    assert chosen[0].workers == ("a:1", "b:2")
