import json
import logging
import zipfile

import h5py
import keras
import numpy as np
import pytest

from keras_tl.backbones import graph
from keras_tl.backbones.weight_files import load_weights
from keras_tl.errors import InputError

LAYERS = keras.layers
X = np.random.default_rng(2).uniform(0, 1, (2, 6, 6, 3)).astype(np.float32)


def backbone(seed, head_name="top_conv", depth=3):
    """Layers with names, and five numbered ones of which three have equal shapes."""
    inputs = keras.Input((6, 6, 3))
    x = LAYERS.Conv2D(4, 3, padding="same", name="stem_conv")(inputs)
    for _ in range(depth):
        x = LAYERS.Conv2D(4, 1)(x)
        x = LAYERS.BatchNormalization()(x)
    left, right = LAYERS.Conv2D(4, 1)(x), LAYERS.SeparableConv2D(4, 3, padding="same")(x)
    x = LAYERS.Conv2D(2, 1, name=head_name)(left + right)
    model = keras.Model(inputs, x, name="tiny_1.0")
    rng = np.random.default_rng(seed)
    model.set_weights([rng.uniform(0.1, 0.9, w.shape) for w in model.get_weights()])
    return model


def classifier(body, nested=True):
    """A classifier around `body`, called as a layer or continued."""
    inputs = keras.Input((6, 6, 3))
    x = body(inputs, training=False) if nested else body.output
    x = LAYERS.GlobalAveragePooling2D()(x)
    return keras.Model(inputs if nested else body.input, LAYERS.Dense(5)(x))


def fresh():
    return graph.rebuild(backbone(seed=99), stable_names=True)


def check(path, body, unused=0):
    """Loads `path` into a fresh backbone and compares it with `body`."""
    target = fresh()
    assert not np.allclose(target(X), body(X), rtol=1e-3)
    report = load_weights(target, path)
    np.testing.assert_allclose(target(X), body(X), rtol=1e-5)
    assert len(report.matched) == 10
    assert report.untouched == ()
    assert len(report.unused) == unused
    return report


def without_names(path):
    """Makes a Keras 3 file what earlier versions wrote: no layer names beside the weights."""

    def strip(_, entry):
        if "name" in entry.attrs:
            del entry.attrs["name"]

    with h5py.File(path, "a") as file:
        file.visititems(strip)


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras", ".h5"])
@pytest.mark.parametrize("wrap", ["plain", "nested", "continued"])
def test_what_keras_3_saves(tmp_path, suffix, wrap):
    body = backbone(seed=1)
    model = body if wrap == "plain" else classifier(body, nested=wrap == "nested")
    path = tmp_path / f"model{suffix}"
    model.save_weights(path) if suffix == ".weights.h5" else model.save(path)
    report = check(path, body, unused=0 if wrap == "plain" else 1)
    if report.unused:
        assert report.unused[0].startswith("dense")


@pytest.mark.parametrize("nested", [True, False])
def test_older_keras_3_weights_are_told_by_class_and_order(tmp_path, nested):
    body = backbone(seed=1)
    classifier(body, nested).save_weights(tmp_path / "model.weights.h5")
    without_names(tmp_path / "model.weights.h5")
    check(tmp_path / "model.weights.h5", body, unused=1)


def test_older_keras_3_archives_have_names_in_their_configuration(tmp_path):
    body = backbone(seed=1)
    classifier(body).save(tmp_path / "new.keras")
    with zipfile.ZipFile(tmp_path / "new.keras") as archive:
        archive.extractall(tmp_path)
    without_names(tmp_path / "model.weights.h5")
    with zipfile.ZipFile(tmp_path / "old.keras", "w") as archive:
        for member in ("config.json", "metadata.json", "model.weights.h5"):
            archive.write(tmp_path / member, member)
    report = check(tmp_path / "old.keras", body, unused=1)
    assert report.unused[0].startswith("dense")


def test_training_state_is_passed_over(tmp_path):
    body = backbone(seed=1)
    model = classifier(body)
    model.compile("adam", "mse", run_eagerly=True)
    model.fit(X, np.zeros((2, 5)), verbose=0)
    model.save(tmp_path / "trained.keras")
    check(tmp_path / "trained.keras", body, unused=1)


def test_numbers_of_another_process_do_not_shift_layers(tmp_path):
    # Keras calls the first of a process conv2d, ours is conv2d_1: equal names would be wrong.
    keras.backend.clear_session()
    body = backbone(seed=1)
    assert "conv2d_1" in [layer.name for layer in body.layers]
    body.save_weights(tmp_path / "body.weights.h5")
    report = check(tmp_path / "body.weights.h5", body)
    assert "conv2d_4" in report.matched


# Keras 2, written by hand


def keras2_weights(layer, names=None):
    """A layer's weights under Keras 2's names, trainable ones first."""
    own = {"DepthwiseConv2D": {"kernel": "depthwise_kernel"}}.get(type(layer).__name__, {})
    prefix = (names or {}).get(layer.name, layer.name)
    ordered = layer.trainable_weights + layer.non_trainable_weights
    return [(f"{prefix}/{own.get(w.name, w.name)}:0", w.numpy(), w.trainable) for w in ordered]


def write_group(parent, name, weights):
    group = parent.create_group(name)
    group.attrs["weight_names"] = [weight_name.encode() for weight_name, _, _ in weights]
    for weight_name, value, _ in weights:
        group.create_dataset(weight_name, data=value)


def write_keras2(path, body, *, nested, whole_model=True, names=None):
    """Writes the layout of Keras 2's `model.save("x.h5")` or `save_weights("x.h5")`."""
    head = [
        ("dense/kernel:0", np.ones((1280, 5), np.float32), True),
        ("dense/bias:0", np.ones(5, np.float32), True),
    ]
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole_model else file
        if nested:
            weights = [w for layer in body.layers for w in keras2_weights(layer, names)]
            weights.sort(key=lambda weight: not weight[2])
            groups = {"input_2": [], body.name: weights, "global_average_pooling2d": []}
        else:
            groups = {
                (names or {}).get(layer.name, layer.name): keras2_weights(layer, names)
                for layer in body.layers
            }
        groups["dense"] = head
        root.attrs["layer_names"] = [name.encode() for name in groups]
        root.attrs["backend"] = b"tensorflow"
        root.attrs["keras_version"] = b"2.4.0"
        for name, weights in groups.items():
            write_group(root, name, weights)


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("whole_model", [True, False])
def test_keras_2_files(tmp_path, nested, whole_model):
    body = backbone(seed=1)
    write_keras2(tmp_path / "old.h5", body, nested=nested, whole_model=whole_model)
    report = check(tmp_path / "old.h5", body, unused=1)
    assert report.unused == ("dense",)


@pytest.fixture(scope="module")
def mobilenet():
    model = keras.applications.MobileNetV2(
        weights=None, include_top=False, input_shape=(32, 32, 3), name="mobilenetv2_1.00_224"
    )
    rng = np.random.default_rng(5)
    model.set_weights([rng.uniform(0.5, 1, w.shape) * 0.1 for w in model.get_weights()])
    return model


@pytest.mark.parametrize("nested", [True, False])
def test_a_keras_2_mobilenet_v2_classifier(tmp_path, mobilenet, nested):
    write_keras2(tmp_path / "flowers.h5", mobilenet, nested=nested)
    target = graph.rebuild(
        keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(32, 32, 3)),
        stable_names=True,
    )
    report = load_weights(target, tmp_path / "flowers.h5")
    pixels = np.random.default_rng(0).uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32)
    np.testing.assert_allclose(target(pixels), mobilenet(pixels), rtol=1e-5)
    assert len(report.matched) == 104
    assert report.untouched == ()
    assert report.unused == ("dense",)
    assert "dense" in str(report)


def test_layers_that_keras_3_renamed_are_matched_in_order(tmp_path):
    body = backbone(seed=1)
    old = {layer.name: f"Old{k}/Layer" for k, layer in enumerate(body.layers)}
    write_keras2(tmp_path / "old.h5", body, nested=True, names=old)
    check(tmp_path / "old.h5", body, unused=1)


def test_names_divided_over_several_attributes(tmp_path):
    body = backbone(seed=1)
    write_keras2(tmp_path / "old.h5", body, nested=False)
    with h5py.File(tmp_path / "old.h5", "a") as file:
        root = file["model_weights"]
        names = list(root.attrs["layer_names"])
        del root.attrs["layer_names"]
        root.attrs["layer_names0"], root.attrs["layer_names1"] = names[:4], names[4:]
    check(tmp_path / "old.h5", body, unused=1)


# What does not fit


def test_a_partial_match_is_loaded_and_said(tmp_path, caplog):
    body = backbone(seed=1, head_name="other_conv")
    classifier(body).save_weights(tmp_path / "model.weights.h5")
    target = fresh()
    with caplog.at_level(logging.WARNING, "keras_tl"):
        # The classifier's Dense keeps the leftovers from being in the same order.
        with h5py.File(tmp_path / "model.weights.h5", "a") as file:
            conv = next(name for name in file["layers/functional/layers"] if name == "conv2d_5")
            kernel = file[f"layers/functional/layers/{conv}/vars"]
            del kernel["0"]
            kernel["0"] = np.zeros((1, 1, 4, 7), np.float32)
        report = load_weights(target, tmp_path / "model.weights.h5")
    assert report.untouched == ("top_conv",)
    assert len(report.unused) == 2
    assert "fits in part" in caplog.text
    assert "1 layers of the model not in the file (top_conv)" in caplog.text
    np.testing.assert_array_equal(
        target.get_layer("stem_conv").get_weights()[0],
        body.get_layer("stem_conv").get_weights()[0],
    )


def test_nothing_matched(tmp_path):
    inputs = keras.Input((3,))
    other = keras.Model(inputs, LAYERS.Dense(2, name="stem_conv")(inputs))
    other.save_weights(tmp_path / "other.weights.h5")
    target = fresh()
    before = target.get_weights()
    with pytest.raises(InputError, match="none of which fits"):
        load_weights(target, tmp_path / "other.weights.h5")
    for old, new in zip(before, target.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def save(model, path):
    model.save_weights(path) if path.name.endswith(".weights.h5") else model.save(path)
    return path


def refused(path, target, match):
    """Loads `path` into `target`: one line, and no weight has moved."""
    before = target.get_weights()
    with pytest.raises(InputError, match=match) as caught:
        load_weights(target, path)
    assert "\n" not in str(caught.value)
    for old, new in zip(before, target.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras", ".h5"])
@pytest.mark.parametrize("wrap", ["plain", "nested", "continued"])
def test_a_larger_network_is_refused(tmp_path, suffix, wrap):
    body = backbone(seed=1, depth=4)
    model = body if wrap == "plain" else classifier(body, nested=wrap == "nested")
    path = save(model, tmp_path / f"model{suffix}")
    refused(path, fresh(), "more layers within .*Choose the backbone")


@pytest.mark.parametrize("nested", [True, False])
def test_a_larger_network_of_keras_2_is_refused(tmp_path, nested):
    body = backbone(seed=1, depth=4)
    write_keras2(tmp_path / "old.h5", body, nested=nested)
    refused(tmp_path / "old.h5", fresh(), "more layers within")


def test_a_larger_network_without_names_is_refused(tmp_path):
    path = save(backbone(seed=1, depth=4), tmp_path / "model.weights.h5")
    without_names(path)
    refused(path, fresh(), "more layers within")


def named(depth, extra=False):
    """Blocks of a named convolution and batch normalization, each perhaps with one layer more."""
    x = inputs = keras.Input((6, 6, 3))
    for block in range(1, depth + 1):
        x = LAYERS.Conv2D(3, 1, name=f"block{block}_conv")(x)
        x = LAYERS.BatchNormalization(name=f"block{block}_bn")(x)
        if extra:
            x = LAYERS.Conv2D(3, 1, name=f"block{block}_se")(x)
    return keras.Model(inputs, LAYERS.Conv2D(5, 1, name="top_conv")(x))


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras", ".h5"])
@pytest.mark.parametrize("other", [{"depth": 3}, {"depth": 2, "extra": True}])
def test_a_larger_network_with_the_same_names_is_refused(tmp_path, suffix, other):
    path = save(named(**other), tmp_path / f"model{suffix}")
    refused(path, named(depth=2), r"more layers within \(block")


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras", ".h5"])
@pytest.mark.parametrize("nested", [True, False])
def test_any_head_is_passed_over(tmp_path, suffix, nested):
    body = named(depth=2)
    inputs = body.input
    if nested:
        inputs = keras.Input((6, 6, 1))
        # What makes three channels of one comes before the backbone.
        x = body(LAYERS.Conv2D(3, 1, name="to_rgb")(inputs))
    else:
        x = body.output
    for name in ("block3_conv", "head_conv", None):
        x = LAYERS.Conv2D(5, 1, name=name)(x)
        x = LAYERS.BatchNormalization()(x)
    x = LAYERS.GlobalAveragePooling2D()(x)
    for name in ("head_dense_1", None, "predictions"):
        x = LAYERS.Dense(4, name=name)(LAYERS.BatchNormalization()(x))
    path = save(keras.Model(inputs, x), tmp_path / f"model{suffix}")
    target = named(depth=2)
    report = load_weights(target, path)
    assert report.untouched == ()
    assert len(report.unused) == 12 + nested
    np.testing.assert_allclose(target(X), body(X), rtol=1e-5)


def test_a_layer_of_another_shape_is_a_partial_match(tmp_path, caplog):

    def network(units):
        x = inputs = keras.Input((9, 9, 3))
        for name, filters in (("block1_conv", 3), ("block1_se", units), ("block2_conv", 3)):
            x = LAYERS.Conv2D(filters, 1, padding="same", name=name)(x)
            x = LAYERS.Conv2D(3, 3, name=f"{name}_3")(x)
        return keras.Model(inputs, x)

    path = save(network(7), tmp_path / "model.weights.h5")
    with caplog.at_level(logging.WARNING, "keras_tl"):
        report = load_weights(network(3), path)
    assert report.untouched == report.unused == ("block1_se", "block1_se_3")
    assert "fits in part" in caplog.text


def test_nested_parts_without_names_are_not_mixed_up(tmp_path, caplog):
    """ConvNeXt's layer normalizations: the stem is a nested model, which comes first."""

    def network():
        inputs = keras.Input((6, 6, 3))
        norms = [LAYERS.LayerNormalization(name=f"norm_{name}") for name in ("stem", "one", "two")]
        stem = keras.Sequential([LAYERS.Conv2D(4, 1, name="stem_conv"), norms[0]], name="stem")
        x = LAYERS.Conv2D(4, 3, name="one_conv")(norms[1](stem(inputs)))
        model = keras.Model(inputs, norms[2](x))
        for k, norm in enumerate(norms):
            norm.gamma.assign(np.full(4, k + 2.0))
        return graph.rebuild(model, stable_names=True), model

    body, original = network()
    path = save(original, tmp_path / "model.weights.h5")
    target, _ = network()
    target.set_weights([np.zeros_like(w) for w in target.get_weights()])
    assert load_weights(target, path).untouched == ()
    np.testing.assert_allclose(target(X), body(X), rtol=1e-5)
    without_names(path)
    target.set_weights([np.zeros_like(w) for w in target.get_weights()])
    with caplog.at_level(logging.WARNING, "keras_tl"):
        report = load_weights(target, path)
    assert report.untouched == ("norm_stem", "norm_one", "norm_two")
    assert report.matched == ("stem_conv", "one_conv")
    assert "fits in part" in caplog.text
    assert not target.get_layer("norm_stem").gamma.numpy().any()


def test_a_nested_body_without_names_is_not_mixed_up_with_its_head(tmp_path):
    """The head's layers are alike, and come first in the file."""
    body = backbone(seed=1)
    inputs = keras.Input((6, 6, 3))
    x = LAYERS.Concatenate()([body(inputs), body(inputs)])
    x = LAYERS.BatchNormalization()(LAYERS.Conv2D(4, 1)(x))
    model = keras.Model(inputs, x)
    path = save(model, tmp_path / "model.weights.h5")
    without_names(path)
    check(path, body, unused=2)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("suffix", [".weights.h5", ".keras", ".h5"])
def test_weights_that_are_not_finite_are_refused(tmp_path, suffix, value):
    body = backbone(seed=1)
    bias = body.get_layer("stem_conv").bias
    bias.assign([0, 0, value, 0])
    path = save(body, tmp_path / f"model{suffix}")
    refused(path, fresh(), f"finite weights of stem_conv in model{suffix}, received some that")


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "model.keras"
    backbone(seed=1).save(path)
    return path


def broken(tmp_path, whole_file, how):
    path = tmp_path / "broken.h5"
    content = whole_file.read_bytes()
    with zipfile.ZipFile(whole_file) as archive:
        weights = archive.read("model.weights.h5")
    if how == "missing":
        return path
    if how == "zip without weights":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", "{}")
        return path
    if how == "a list for a configuration":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", "[]")
            archive.writestr("model.weights.h5", weights)
        return path
    if how == "bomb":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("model.weights.h5", bytes(10_000_000))
            archive.writestr("config.json", "{}")
        return path
    contents = {
        "empty": b"",
        "text": b"these are no weights",
        "half an archive": content[: len(content) // 2],
        "half an h5 file": weights[: len(weights) // 2],
        "broken configuration": content.replace(b'{"module"', b"{[module]"),
    }
    path.write_bytes(contents[how])
    return path


@pytest.mark.parametrize(
    "how",
    [
        "missing",
        "empty",
        "text",
        "half an archive",
        "half an h5 file",
        "broken configuration",
        "zip without weights",
        "a list for a configuration",
        "bomb",
    ],
)
def test_broken_files_are_one_line(tmp_path, whole_file, how):
    target = fresh()
    before = target.get_weights()
    with pytest.raises(InputError, match=r"Expected a \.weights\.h5") as caught:
        load_weights(target, broken(tmp_path, whole_file, how))
    assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(target.get_weights()[0], before[0])


def test_links_out_of_the_file_are_refused(tmp_path):
    body = backbone(seed=1)
    write_keras2(tmp_path / "target.h5", body, nested=False)
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file.attrs["layer_names"] = [b"stem_conv"]
        file["stem_conv"] = h5py.ExternalLink(tmp_path / "target.h5", "/model_weights/stem_conv")
    with pytest.raises(InputError, match="is a link"):
        load_weights(fresh(), tmp_path / "link.h5")


def test_code_in_a_configuration_is_not_run(tmp_path, whole_file):
    with zipfile.ZipFile(whole_file) as archive:
        config = json.loads(archive.read("config.json"))
        weights = archive.read("model.weights.h5")
    config["config"]["layers"].append(
        {"class_name": "Lambda", "module": "os", "config": {"name": "x", "function": "system"}}
    )
    with zipfile.ZipFile(tmp_path / "evil.keras", "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", weights)
    check(tmp_path / "evil.keras", backbone(seed=1))
