import pytest

from keras_tl import freezing, plans
from keras_tl.config import TrainConfig
from keras_tl.data.arrays import from_arrays
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.errors import InputError
from keras_tl.feature_cache import FeatureStore
from keras_tl.plans import fine_tuning_phase, head_phase, make_plan
from keras_tl.training.anchors import L2SP
from keras_tl.training.averaging import EMA
from keras_tl.training.fit import run_phases
from keras_tl.training.schedules import OneCycle


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


@pytest.mark.parametrize(("fine_tune", "epochs"), [("auto", 15), ("all", 15), ("none", 3), (0, 3)])
def test_from_random_weights_epochs_are_those_asked_for(fine_tune, epochs):
    config = TrainConfig("photos", "run", weights="none", fine_tune=fine_tune, epochs=3)
    assert [phase.epochs for phase in make_plan(config, 1000)] == [epochs]


@pytest.mark.parametrize("fine_tune", [3, "lora", "bitfit"])
def test_from_random_weights_no_part_is_fine_tuned(fine_tune):
    with pytest.raises(InputError, match="pretrained weights"):
        policies(weights="none", fine_tune=fine_tune)


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


def test_named_plans_say_what_trains():
    assert policies(plan="feature-extraction") == [freezing.All()]
    assert policies(plan="full") == [freezing.Nothing()]
    assert policies(plan="lp-ft", images=10) == [freezing.All(), freezing.Nothing()]


def test_gradual_adds_groups_of_blocks_from_the_last_to_the_first():
    assert policies(plan="gradual") == [
        freezing.All(),
        freezing.AllButLast(5),
        freezing.AllButLast(11),
        freezing.Nothing(),
    ]  # of 16
    three = [freezing.AllButLast(n) for n in (1, 2, 3)]
    assert policies(plan="gradual", fine_tune=3) == [freezing.All(), *three]


def test_gradual_divides_its_epochs():
    phases = plans.gradual("EfficientNetLite0", epochs=11, blocks=6)
    assert [phase.epochs for phase in phases] == [30, 3, 3, 5]
    phases = plans.gradual("EfficientNetLite0", epochs=2, groups=3, patience=4)
    assert [phase.epochs for phase in phases] == [30, 1, 1]
    assert {phase.patience for phase in phases} == {4}
    assert len({phase.name for phase in phases}) == 3


def test_more_blocks_than_there_are_are_refused():
    with pytest.raises(InputError, match="1 to 16 blocks"):
        plans.gradual("EfficientNetLite0", blocks=17)


@pytest.mark.parametrize(
    "wrong",
    [
        {"plan": "lp-ft", "fine_tune": 3},
        {"plan": "feature-extraction", "fine_tune": "all"},
        {"plan": "gradual", "fine_tune": "none"},
        {"plan": "lpft"},
        {"plan": "lp-ft", "weights": "none"},
        {"l2_sp": 0.1, "weights": "none"},
        {"layer_decay": 0.0},
    ],
)
def test_plans_that_contradict_are_refused(wrong):
    with pytest.raises(InputError):
        policies(**wrong)


def test_training_aids_reach_every_phase():
    config = TrainConfig(
        "photos", "run", schedule="one-cycle", layer_decay=0.8, l2_sp=0.2, averaging="ema"
    )
    for phase in make_plan(config, 1000):
        assert phase.schedule == OneCycle()
        assert (phase.layer_decay, phase.averaging) == (0.8, EMA())
        assert (phase.l2_sp, phase.weight_decay) == (L2SP(alpha=0.2), 0.0)


def test_gradual_unfreezing_makes_one_pass(tiny_model, three_colors, tmp_path):
    """The head's pass stores what every later phase reads."""
    images, labels = three_colors
    data = Samples(from_arrays(images, labels), ImageInput(size=16))
    phases = plans.gradual("TinyNet", 1, epochs=2, blocks=2, groups=2)
    store = FeatureStore(tmp_path)
    result = run_phases(tiny_model, phases, data, feature_store=store, verbose=0)
    computed = [[done.computed for done in phase.passes] for phase in result.phases]
    assert computed == [[60], [0], [0]]
    assert len({phase.cut for phase in result.phases}) == 3
