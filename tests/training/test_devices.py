"""The frozen pass, training aids and checkpoints on two devices, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import numpy as np, tensorflow as tf, keras, sys, warnings
# What validates has as many steps as it says.
warnings.filterwarnings("error", message="Your input ran out of data")
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
sys.path.insert(0, {tests!r})
import conftest
from keras_tl import freezing
from keras_tl.backbones import registry
from keras_tl.builders.image import build_image_model
from keras_tl.data.arrays import from_arrays
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.training.anchors import L2SP
from keras_tl.training.averaging import EMA, SWA
from keras_tl.training.fit import run_phases
from keras_tl.training.phases import Phase
from keras_tl.training.schedules import Constant, OneCycle

registry.register(conftest.TINY_NET)
labels = np.arange(60) % 3
images = np.random.default_rng(0).integers(0, 255, (60, 16, 16, 3)).astype("uint8")
data = Samples(from_arrays(images, labels), ImageInput(size=16))
last = freezing.AllButLast(1)
phases = [
    Phase(freezing.All(), 2, 0.1, OneCycle(), "sgd", averaging=EMA(0.5)),
    Phase(last, 2, 1e-3, OneCycle(), "adamw", weight_decay=0.1, layer_decay=0.5),
    Phase(last, 3, 0.02, Constant(), "sgd", l2_sp=L2SP(), layer_decay=0.5, averaging=SWA(0.3)),
]
found = []
for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
    with strategy.scope():
        keras.utils.set_random_seed(1)
        model = build_image_model("TinyNet", outputs=3, weights=None, dropout=0.0)
        for name in ("one_drop", "two_drop"):
            model.get_layer(name).rate = 0.0
    start = model.get_layer("two_conv").kernel.numpy()
    result = run_phases(
        model, phases, data, data, batch_size=8, strategy=strategy, verbose=0, feature_store=False
    )
    losses = [row[name] for row in result.history for name in ("loss", "val_loss")]
    found.append((losses, model.get_layer("two_conv").kernel.numpy()))
(one, kernel), (two, mirrored) = found
np.testing.assert_allclose(one, two, atol=2e-3)
moved = np.abs(kernel - start).max()
assert np.abs(kernel - mirrored).max() < moved / 50, (np.abs(kernel - mirrored).max(), moved)
print("AGREED", strategy.num_replicas_in_sync)
"""

GRADIENTS = """
import numpy as np, tensorflow as tf, keras
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from keras_tl.training.sharing import Sharing

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

def stepped(shares, make, shared=True):
    # One step from zero, of the gradients that each device has.
    with strategy.scope():
        weight = keras.Variable(np.zeros(2, "float32"))
        optimizer = make()
        optimizer.build([weight])
        if shared:
            Sharing(strategy).add_up_gradients(optimizer)

    @tf.function
    def step(gradient):
        scale = getattr(optimizer, "dynamic_scale", 1.0)
        strategy.run(lambda g: optimizer.apply([g * scale], [weight]), args=(gradient,))

    step(strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(shares[context.replica_id_in_sync_group])
    ))
    scale = getattr(optimizer, "dynamic_scale", None)
    return weight.numpy(), None if scale is None else float(tf.convert_to_tensor(scale.value))

def clipped():
    return keras.optimizers.SGD(1.0, clipnorm=1.0)

# The whole gradient is (3, 4), of norm 5.
alike = [[1.5, 2.0], [1.5, 2.0]]
np.testing.assert_allclose(stepped(alike, clipped)[0], [-0.6, -0.8], atol=1e-6)
np.testing.assert_allclose(stepped(alike, clipped, shared=False)[0], [-1.2, -1.6], atol=1e-6)
# Shares that take each other back are not clipped before.
np.testing.assert_allclose(stepped([[9.0, 0], [-8.5, 0]], clipped)[0], [-0.5, 0.0], atol=1e-6)

def scaled():
    return keras.optimizers.LossScaleOptimizer(clipped(), initial_scale=8.0)

weight, scale = stepped(alike, scaled)
np.testing.assert_allclose(weight, [-0.6, -0.8], atol=1e-6)
assert scale == 8.0
for shares in ([[1.0, 1.0], [np.inf, 1.0]], [[np.inf, 1.0], [1.0, 1.0]]):
    weight, scale = stepped(shares, scaled)
    np.testing.assert_array_equal(weight, [0.0, 0.0])
    assert scale == 4.0
assert not np.isfinite(stepped([[1.0, 1.0], [np.inf, 1.0]], scaled, shared=False)[0]).all()
print("AS OF ONE")
"""

ENGINE = """
import numpy as np, tensorflow as tf, keras, sys, tempfile
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
sys.path.insert(0, {tests!r})
import conftest
from keras_tl import engines, freezing, frozen_prefix
from keras_tl.backbones import registry
from keras_tl.builders.image import build_image_model
from keras_tl.data.arrays import from_arrays
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.strategies import Place, choose
from keras_tl.training.fit import run_phases
from keras_tl.training.phases import Phase
from keras_tl.training.resume import Checkpoint

registry.register(conftest.TINY_NET)
strategy = choose(Place("mirrored"))
assert strategy.num_replicas_in_sync == 2

def new():
    keras.utils.set_random_seed(1)
    return build_image_model("TinyNet", outputs=3, weights=None)

model = new()
freezing.AllButLast(1).apply(model)
prefix = frozen_prefix.split(model).prefix
engine = engines.reference(prefix)
assert isinstance(engine, engines.ReplicatedEngine)
images = np.random.default_rng(0).integers(0, 255, (61, 16, 16, 3)).astype("uint8")
expected = np.asarray(prefix(images, training=False))
for count in (8, 5, 1, 32):
    [found] = engine(images[:count])
    np.testing.assert_allclose(found, expected[:count], atol=1e-5)
for array in (images[::-1][:8],):
    assert np.abs(engine(array)[0] - expected[:8]).max() > 1e-3

labels = np.arange(61) % 3
train = Samples(from_arrays(images[:40], labels[:40]), ImageInput(size=16))
val = Samples(from_arrays(images[40:], labels[40:]), ImageInput(size=16))
phases = [Phase(freezing.All(), 3, 0.05), Phase(freezing.AllButLast(1), 3, 1e-3)]

class PowerCut(Exception):
    pass

def run(model, folder, epochs=None):
    def on_epoch(rows):
        if len(rows) == epochs:
            raise PowerCut
    checkpoint = folder and Checkpoint(folder, seconds=0.0)
    return run_phases(
        model, phases, train, val, batch_size=8, verbose=0, engine="tensorflow",
        feature_store=False, on_epoch=on_epoch, checkpoint=checkpoint,
    )

whole = new()
calm = run(whole, None).history
for epochs in (2, 5):
    with tempfile.TemporaryDirectory() as folder:
        try:
            run(new(), folder, epochs)
            raise AssertionError("it ran through")
        except PowerCut:
            pass
        resumed = new()
        history = run(resumed, folder).history
    assert [row["epoch"] for row in history] == [1, 2, 3, 1, 2, 3]
    for one, other in zip(calm, history):
        for name in ("loss", "val_loss"):
            np.testing.assert_allclose(one[name], other[name], atol=1e-5)
    for one, other in zip(whole.get_weights(), resumed.get_weights()):
        np.testing.assert_allclose(one, other, atol=1e-5)
print("AGREED", strategy.num_replicas_in_sync)
"""


@pytest.mark.slow
@pytest.mark.parametrize("script", [SCRIPT, ENGINE], ids=["aids", "engine and checkpoint"])
def test_two_devices_give_what_one_gives(script):
    tests = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", script.format(tests=tests)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "AGREED 2" in done.stdout, done.stderr[-2000:]


def test_gradients_of_two_devices_are_clipped_and_scaled_as_those_of_one():
    done = subprocess.run(
        [sys.executable, "-c", GRADIENTS], capture_output=True, text=True, timeout=300
    )
    assert "AS OF ONE" in done.stdout, done.stderr[-2000:]
