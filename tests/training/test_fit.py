import json

import keras
import numpy as np
import pytest

from keras_tl import engines, freezing
from keras_tl.data import augment
from keras_tl.data.arrays import from_arrays
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.errors import CheckError, InputError
from keras_tl.feature_cache import FeatureStore
from keras_tl.training import fit
from keras_tl.training.phases import Phase
from keras_tl.training.schedules import Constant


def run_phases(*arguments, **options):
    return fit.run_phases(*arguments, **{"verbose": 0, **options})


def samples(three_colors, augmentation="none", part=slice(None)):
    images, labels = three_colors
    source = from_arrays(images[part], labels[part])
    return Samples(source, ImageInput(size=16), augment.get(augmentation))


def phase(policy, epochs=2, rate=0.05, **options):
    return Phase(policy, epochs, rate, Constant(), "sgd", **{"weight_decay": 0.0, **options})


def without_dropout(model):
    """Dropout draws from a state of its own; without it two runs are the same arithmetic."""
    model.get_layer("head_dropout").rate = 0.0
    for name in ("one_drop", "two_drop"):
        model.get_layer(name).rate = 0.0
    return model


def test_without_a_store_it_is_what_plain_fit_gives(tiny_model, three_colors):
    model, data = without_dropout(tiny_model), samples(three_colors)
    start = model.get_weights()
    result = run_phases(
        model, [phase(freezing.AllButLast(1))], data, batch_size=8, seed=3, feature_store=False
    )
    trained = model.get_weights()

    model.set_weights(start)
    freezing.AllButLast(1).apply(model)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "categorical_crossentropy")
    losses = []
    for epoch in range(2):
        order = np.random.default_rng(np.random.SeedSequence([3, epoch])).permutation(60)
        images = three_colors[0][order[:56]].astype("float32")
        targets = np.eye(3, dtype="float32")[three_colors[1][order[:56]]]
        history = model.fit(images, targets, batch_size=8, shuffle=False, verbose=0)
        losses += history.history["loss"]
    assert [row["loss"] for row in result.history] == pytest.approx(losses, abs=1e-6)
    for value, expected in zip(trained, model.get_weights(), strict=True):
        np.testing.assert_allclose(value, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("policy", "augmentation"),
    [
        (freezing.All(), "none"),
        (freezing.AllButLast(1), "light"),
        pytest.param(freezing.All(), "dihedral", marks=pytest.mark.slow),
        pytest.param(freezing.All(), "light", marks=pytest.mark.slow),
        pytest.param(freezing.AllButLast(1), "none", marks=pytest.mark.slow),
        pytest.param(freezing.AllButLast(1), "dihedral", marks=pytest.mark.slow),
    ],
)
def test_with_a_store_it_is_what_training_the_whole_gives(
    tiny_model, three_colors, tmp_path, policy, augmentation
):
    model = without_dropout(tiny_model)
    train = samples(three_colors, augmentation, slice(0, 45))
    val = samples(three_colors, augmentation, slice(45, 60))
    start = model.get_weights()
    found = []
    for store in (FeatureStore(tmp_path, dtype="float32"), False):
        model.set_weights(start)
        plan = [phase(policy, epochs=3)]
        result = run_phases(model, plan, train, val, batch_size=8, feature_store=store)
        found.append((result, model.get_weights()))
    (cached, weights), (plain, expected) = found
    assert cached.phases[0].cut and not plain.phases[0].cut
    for row, want in zip(cached.history, plain.history, strict=True):
        assert row["loss"] == pytest.approx(want["loss"], abs=1e-5)
        assert row["val_loss"] == pytest.approx(want["val_loss"], abs=1e-5)
    for value, want in zip(weights, expected, strict=True):
        np.testing.assert_allclose(value, want, atol=1e-5)


def test_a_stale_store_would_be_seen(tiny_model, three_colors, tmp_path, monkeypatch):
    """The twin of the parity test: with a store that ignores the view, it must fail."""
    model, store = without_dropout(tiny_model), FeatureStore(tmp_path, dtype="float32")
    start = model.get_weights()
    monkeypatch.setattr(Samples, "fingerprint", lambda self, view: {})
    found = []
    for feature_store in (store, False):
        model.set_weights(start)
        data = samples(three_colors, "dihedral")
        plan = [phase(freezing.AllButLast(1), epochs=3)]
        result = run_phases(model, plan, data, batch_size=8, feature_store=feature_store)
        found.append([row["loss"] for row in result.history])
    assert max(abs(a - b) for a, b in zip(*found, strict=True)) > 1e-5


def test_a_second_run_makes_no_pass_and_another_view_does(tiny_model, three_colors, tmp_path):
    store = FeatureStore(tmp_path)
    plan = [phase(freezing.All())]

    def computed(augmentation):
        data = samples(three_colors, augmentation)
        result = run_phases(tiny_model, plan, data, feature_store=store)
        return [done.computed for done in result.phases[0].passes]

    assert computed("none") == [60]
    assert computed("none") == [0]
    assert computed("dihedral") == [60, 60]
    # Other pretrained weights are another prefix.
    tiny_model.get_layer("stem_bn").moving_mean.assign(np.ones(8))
    assert computed("none") == [60]


@pytest.mark.slow
def test_phases_are_planned_together(tiny_model, three_colors, tmp_path):
    """The head's pass stores the cut of the fine-tuning too, for the views that both read."""
    store = FeatureStore(tmp_path, dtype="float32")
    model, data = without_dropout(tiny_model), samples(three_colors, "dihedral")
    plan = [phase(freezing.All(), epochs=2), phase(freezing.AllButLast(1), epochs=4)]
    start = model.get_weights()
    result = run_phases(model, plan, data, data, feature_store=store)
    head, tuned = ([(p.view, p.computed) for p in report.passes] for report in result.phases)
    assert head == [(0, 60), (1, 60), (None, 60)]
    assert tuned == [(0, 0), (1, 0), (2, 60), (3, 60), (None, 0)]
    trained = model.get_weights()

    model.set_weights(start)
    run_phases(model, plan, data, data, feature_store=False)
    for value, expected in zip(trained, model.get_weights(), strict=True):
        np.testing.assert_allclose(value, expected, atol=1e-5)


def test_phases_with_one_cut_store_each_row_once(tiny_model, three_colors, tmp_path):
    """Two of this phase's cut, and of two later ones the one that reads more views."""
    store = FeatureStore(tmp_path, dtype="float32")
    model, data = without_dropout(tiny_model), samples(three_colors, "dihedral")
    head, block = freezing.All(), freezing.AllButLast(1)
    plan = [phase(head, 1), phase(head, 2), phase(block, 1), phase(block, 3)]
    run_phases(model, plan, data, feature_store=store)
    rows = [len(json.loads(p.read_text())["body"]["keys"]) for p in tmp_path.glob("*/*.json")]
    assert sum(rows) == 2 * 60 + 3 * 60


@pytest.mark.slow
def test_what_phases_share_is_traced_once(tiny_model, three_colors, tmp_path, monkeypatch):
    """Also to settle the dtype; and by who finds all stored, never."""
    traced, reference = [], engines.reference

    def noting(prefix):
        traced.append(len(prefix.outputs))
        return reference(prefix)

    monkeypatch.setattr(engines, "reference", noting)
    data = samples(three_colors, "none")
    plan = [phase(freezing.All(), epochs=1), phase(freezing.AllButLast(1), epochs=1)]
    start = tiny_model.get_weights()
    for _ in range(2):
        tiny_model.set_weights(start)
        run_phases(tiny_model, plan, data, data, feature_store=FeatureStore(tmp_path))
    assert traced == [2]


@pytest.mark.slow
def test_three_phases_share_passes_without_mixing_them_up(tiny_model, three_colors, tmp_path):
    """View 0 of the last phase is stored already, so views 0 and 1 serve different prefixes."""
    store = FeatureStore(tmp_path, dtype="float32")
    model, data = without_dropout(tiny_model), samples(three_colors, "dihedral")
    start = model.get_weights()
    run_phases(model, [phase(freezing.UpTo("stem_out"), epochs=1)], data, feature_store=store)
    plan = [
        phase(freezing.All(), epochs=3),
        phase(freezing.UpTo("one"), epochs=1),
        phase(freezing.UpTo("stem_out"), epochs=3),
    ]
    model.set_weights(start)
    cached = run_phases(model, plan, data, feature_store=store)
    model.set_weights(start)
    plain = run_phases(model, plan, data, feature_store=False)
    for row, want in zip(cached.history, plain.history, strict=True):
        assert row["loss"] == pytest.approx(want["loss"], abs=1e-5)


def test_a_regression_counts_errors_in_deviations(tiny_model, three_colors):
    """Targets in thousands and in thousandths weigh the same, and a plain rate will do."""
    from keras_tl.builders.image import build_image_model

    images, labels = three_colors
    targets = np.stack([labels * 1e6, labels * 1e-3], axis=1)
    data = Samples(from_arrays(images, targets, task="regression"), ImageInput(size=16))
    mean, scale = data.targets().mean(axis=0), data.targets().std(axis=0)
    model = build_image_model(
        "TinyNet",
        outputs=2,
        task="regression",
        weights=None,
        dropout=0.0,
        target_mean=tuple(map(float, mean)),
        target_scale=tuple(map(float, scale)),
    )
    plan = [phase(freezing.All(), epochs=1, rate=1e-9)]
    result = run_phases(model, plan, data, task="regression", batch_size=60)
    errors = (model.predict(images.astype("float32"), verbose=0) - data.targets()) / scale
    assert result.history[0]["loss"] == pytest.approx((errors**2).mean(), rel=1e-3)


@pytest.mark.parametrize(
    ("second", "options", "message"),
    [
        ({"label_smoothing": 0.1}, {}, "label_smoothing of 0"),
        ({"sampling": "balanced"}, {}, "classes for balanced sampling"),
        ({}, {"class_weights": [1.0]}, "classes for class weights"),
    ],
)
def test_what_a_regression_has_no_use_for_is_refused_before_the_first_phase(
    tiny_model, three_colors, second, options, message
):
    images, labels = three_colors
    data = Samples(from_arrays(images, labels * 1.0, task="regression"), ImageInput(size=16))
    plan = [phase(freezing.All(), epochs=1), phase(freezing.All(), epochs=1, **second)]
    start = tiny_model.get_weights()
    with pytest.raises(InputError, match=message):
        run_phases(tiny_model, plan, data, task="regression", **options)
    for value, expected in zip(tiny_model.get_weights(), start, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_an_empty_val_is_no_val(tiny_model, three_colors):
    data = samples(three_colors)
    none = Samples(data.source.take(np.array([], int)), data.input_spec, data.augmentation)
    for store in (False, True):
        result = run_phases(
            tiny_model, [phase(freezing.All(), epochs=1)], data, none, feature_store=store
        )
        assert "val_loss" not in result.history[0]


def test_a_policy_that_does_not_fit_is_refused_before_any_training(tiny_model, three_colors):
    before = tiny_model.get_weights()
    plan = [phase(freezing.All()), phase(freezing.AllButLast(99))]
    with pytest.raises(InputError, match="1 to 2 blocks"):
        run_phases(tiny_model, plan, samples(three_colors), feature_store=False)
    for value, expected in zip(tiny_model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_what_a_phase_trains_is_not_stored_for_a_later_one(tiny_model, three_colors, tmp_path):
    """The planted fault: stage two is trained, then frozen again; its old outputs are stale."""
    model, data = without_dropout(tiny_model), samples(three_colors)
    plan = [phase(freezing.AllButLast(1)), phase(freezing.All())]
    result = run_phases(model, plan, data, feature_store=FeatureStore(tmp_path))
    assert [done.computed for done in result.phases[1].passes] == [60]


def test_the_fingerprint_knows_weights_graph_and_constants(tiny_model):
    from keras_tl.fingerprints import fingerprint

    x = keras.Input((4, 4, 3))
    flips = [keras.Model(x, keras.ops.flip(x, axis=axis)) for axis in (1, 2, 2)]
    first, second, third = map(fingerprint, flips)
    assert first != second == third
    before = fingerprint(tiny_model)
    tiny_model.get_layer("one_conv").trainable = False
    assert fingerprint(tiny_model) == before
    kernel = tiny_model.get_layer("one_conv").kernel
    kernel.assign(kernel + 1e-6)
    assert fingerprint(tiny_model) != before


def test_training_learns_and_the_best_epoch_is_restored(tiny_model, three_colors):
    train = samples(three_colors, part=slice(0, 45))
    val = samples(three_colors, part=slice(45, 60))

    def spoil_the_last_epoch(epoch, logs=None):
        if epoch == 9:
            kernel = tiny_model.get_layer("head_predictions").kernel
            kernel.assign(-kernel)

    result = run_phases(
        tiny_model,
        [phase(freezing.All(), epochs=10, rate=0.5)],
        train,
        val,
        batch_size=15,
        feature_store=False,
        callbacks=lambda _: [keras.callbacks.LambdaCallback(on_epoch_begin=spoil_the_last_epoch)],
    )
    losses = [row["val_loss"] for row in result.history]
    assert losses[-1] > 2 * min(losses)
    tiny_model.compile(loss="categorical_crossentropy", metrics=["accuracy"])
    loss, accuracy = tiny_model.evaluate(val.batches(15), verbose=0)
    assert loss == pytest.approx(min(losses), rel=1e-4)
    assert accuracy > 0.9


@pytest.mark.slow
def test_a_phase_that_only_makes_things_worse_leaves_the_weights_as_they_were(
    tiny_model, three_colors, caplog
):
    train = samples(three_colors, part=slice(0, 45))
    val = samples(three_colors, part=slice(45, 60))
    head = phase(freezing.All(), epochs=20)
    run_phases(tiny_model, [head], train, val, batch_size=8)
    start = tiny_model.get_weights()
    assert "No epoch" not in caplog.text
    ruinous = phase(freezing.AllButLast(1), rate=50.0, clip_norm=1.0)
    run_phases(tiny_model, [ruinous], train, val, batch_size=8)
    for value, expected in zip(tiny_model.get_weights(), start, strict=True):
        np.testing.assert_array_equal(value, expected)
    assert "No epoch had a lower validation loss than the start" in caplog.text
    run_phases(tiny_model, [ruinous], train, batch_size=8)
    assert any((v != w).any() for v, w in zip(tiny_model.get_weights(), start, strict=True))


def test_patience_ends_a_phase_early(tiny_model, three_colors):
    data = samples(three_colors)
    plan = [phase(freezing.All(), epochs=30, rate=1e4, patience=2)]
    assert len(run_phases(tiny_model, plan, data, data).history) < 30


def test_a_training_that_runs_away_is_stopped(tiny_model, three_colors):
    with pytest.raises(CheckError, match="Lower the learning rate"):
        run_phases(tiny_model, [phase(freezing.Nothing(), rate=1e20)], samples(three_colors))


def test_class_weights_weigh_the_loss(tiny_model, three_colors):
    model, data = without_dropout(tiny_model), samples(three_colors)
    plan = [phase(freezing.All(), epochs=1, rate=1e-9)]
    result = run_phases(model, plan, data, batch_size=60, class_weights=[3.0, 0.0, 1.0])
    probabilities = model.predict(three_colors[0].astype("float32"), verbose=0)
    losses = -np.log(probabilities[np.arange(60), three_colors[1]])
    weights = np.array([3.0, 0.0, 1.0])[three_colors[1]]
    assert result.history[0]["loss"] == pytest.approx((losses * weights).mean(), rel=1e-4)


def test_user_callbacks_save_the_whole_model(tiny_model, three_colors, tmp_path):
    path = tmp_path / "checkpoint.weights.h5"

    def checkpoint(_):
        return [keras.callbacks.ModelCheckpoint(path, save_weights_only=True)]

    run_phases(tiny_model, [phase(freezing.All())], samples(three_colors), callbacks=checkpoint)
    trained = tiny_model.get_weights()
    tiny_model.set_weights([np.zeros_like(value) for value in trained])
    tiny_model.load_weights(path)
    for value, expected in zip(tiny_model.get_weights(), trained, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_a_part_that_cannot_learn_stops_training(tiny_model, three_colors):
    tiny_model.get_layer("head_predictions").kernel.assign(np.zeros((16, 3)))
    with pytest.raises(CheckError, match="two_conv"):
        run_phases(tiny_model, [phase(freezing.AllButLast(1))], samples(three_colors))


def test_a_large_batch_is_lowered_and_no_images_are_refused(tiny_model, three_colors, caplog):
    result = run_phases(
        tiny_model, [phase(freezing.All(), epochs=1)], samples(three_colors), batch_size=500
    )
    assert len(result.history) == 1
    assert "batch size is 60" in caplog.text
    empty = samples(three_colors, part=slice(0, 3))
    empty = Samples(empty.source.take(np.array([], int)), empty.input_spec, empty.augmentation)
    with pytest.raises(InputError, match="at least one training image"):
        run_phases(tiny_model, [phase(freezing.All())], empty)


MIRRORED = """
import numpy as np, tensorflow as tf, keras, sys
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
sys.path.insert(0, {tests!r})
import conftest
from keras_tl import engines, freezing
from keras_tl.backbones import registry
from keras_tl.builders.image import build_image_model
from keras_tl.data.arrays import from_arrays
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.training.fit import run_phases
from keras_tl.training.phases import Phase
from keras_tl.training.schedules import Constant

registry.register(conftest.TINY_NET)
labels = np.arange(60) % 3
images = np.random.default_rng(0).integers(0, 255, (60, 16, 16, 3)).astype("uint8")
train = Samples(from_arrays(images, labels), ImageInput(size=16))
phases = [
    Phase(freezing.All(), 2, 0.05, Constant(), "sgd", weight_decay=0.0),
    Phase(freezing.AllButLast(1), 2, 0.05, Constant(), "sgd", weight_decay=0.0),
]
found = []
for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
    with strategy.scope():
        keras.utils.set_random_seed(1)
        model = build_image_model("TinyNet", outputs=3, weights=None, dropout=0.0)
        for name in ("one_drop", "two_drop"):
            model.get_layer(name).rate = 0.0
    for store in (True, False):
        result = run_phases(
            model, phases, train, batch_size=8, strategy=strategy, verbose=0, feature_store=store
        )
        found.append([row["loss"] for row in result.history])
np.testing.assert_allclose(found[0] + found[1], found[2] + found[3], atol=2e-3)
print("AGREED", strategy.num_replicas_in_sync)
"""


@pytest.mark.slow
def test_two_devices_give_what_one_gives(tmp_path):
    """In a process of its own: devices are divided before TensorFlow starts."""
    import subprocess
    import sys
    from pathlib import Path

    tests = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", MIRRORED.format(tests=tests)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "AGREED 2" in done.stdout, done.stderr[-2000:]
