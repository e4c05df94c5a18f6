import pytest

from keras_tl import freezing
from keras_tl.config import TrainConfig
from keras_tl.errors import InputError
from keras_tl.plans import fine_tuning_phase, head_phase, make_plan


def policies(images=1000, **settings):
    config = TrainConfig("photos", "run", **settings)
    return [phase.freezing for phase in make_plan(config, images)]


def test_auto_trains_the_last_third_of_the_blocks():
    assert policies() == [freezing.All(), freezing.AllButLast(5)]  # of 16


def test_auto_leaves_fine_tuning_out_where_there_are_few_images():
    assert policies(images=99) == [freezing.All()]


@pytest.mark.parametrize(
    ("fine_tune", "second"),
    [("none", []), ("all", [freezing.Nothing()]), (3, [freezing.AllButLast(3)]), (0, [])],
)
def test_fine_tune_says_what_trains(fine_tune, second):
    assert policies(fine_tune=fine_tune) == [freezing.All(), *second]


def test_from_random_weights_everything_trains_in_one_phase():
    assert policies(weights="none") == [freezing.Nothing(batch_norm="trained")]


def test_the_phases_of_auto_can_be_had_whatever_the_settings_say():
    config = TrainConfig("photos", "run", weights="none", fine_tune="none")
    assert head_phase(config).freezing == freezing.All()
    assert fine_tuning_phase(config).freezing == freezing.AllButLast(5)


def test_settings_reach_the_phases():
    config = TrainConfig("photos", "run", epochs=3, learning_rate=0.5, fine_tune_learning_rate=0.25)
    head, tuned = make_plan(config, 1000)
    assert (head.epochs, head.learning_rate) == (3, 0.5)
    assert (tuned.epochs, tuned.learning_rate) == (12, 0.25)


@pytest.mark.parametrize(
    "wrong", [{"schedule": "cosin"}, {"optimizer": "sdg"}, {"epochs": 0, "fine_tune": "none"}]
)
def test_what_cannot_be_planned_is_refused(wrong):
    with pytest.raises(InputError):
        policies(**wrong)
