"""TF-Hub modules, made here as publishers make them, used as a user would use them."""

import hashlib
import http.server
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile

import hub_modules
import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_tl import freezing
from keras_tl.backbones.encoders import load_encoder, load_tokenizer
from keras_tl.backbones.graph import rebuild, to_freezable, to_stock
from keras_tl.backbones.host import Tokenize, behind_host, tokenize_of
from keras_tl.backbones.hub import (
    load_hub_backbone,
    load_hub_encoder,
    load_hub_layer,
    load_hub_text,
    load_hub_tokenizer,
)
from keras_tl.backbones.hub_handles import parted
from keras_tl.backbones.hub_layer import HubLayer
from keras_tl.backbones.hub_tokens import _pieces_of
from keras_tl.builders.hub import build_hub_model
from keras_tl.errors import InputError

PIXELS = np.random.default_rng(0).uniform(0, 255, (4, 16, 16, 3)).astype(np.float32)
TEXTS = tf.constant(["good film", "very bad film", "", "unheard of"])
PAIRS = tf.constant([["good film", "very bad"], ["a title very bad film", "a text"]])


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Every module, as a folder and as the object it was saved from."""
    folder = tmp_path_factory.mktemp("hub")
    makers = {
        "image": hub_modules.ImageModule,
        "text": lambda: hub_modules.TextModule(folder),
        "preprocessor": lambda: hub_modules.Preprocessor(folder),
        "encoder": hub_modules.Encoder,
    }
    made = {}
    for name, make in makers.items():
        module = make()
        made[name] = (hub_modules.publish(module, folder / name), module)
    return made


@pytest.fixture
def image_folder(published, tmp_path):
    return shutil.copytree(published["image"][0], tmp_path / "image")


def features(model, x):
    layer = model.get_layer("hub_module")
    return keras.Model(model.input, layer.output)(x).numpy()


def moved_weights(model):
    """Weights as fine-tuning might leave them."""
    layer = model.get_layer("hub_module")
    layer.set_weights([w * 1.25 + 0.01 for w in layer.get_weights()])
    return model


def test_an_image_module_gives_what_it_gave(published):
    folder, module = published["image"]
    model = build_hub_model(folder, outputs=3)
    names = [layer.name for layer in model.layers]
    assert names == ["pixels", "preprocessing", "hub_module", "head_dropout", "head_predictions"]
    expected = module(tf.constant(PIXELS / 255), training=False).numpy()
    np.testing.assert_allclose(features(model, PIXELS), expected, atol=1e-6)
    # The twin: pixels that were not scaled.
    unscaled = module(tf.constant(PIXELS), training=False).numpy()
    assert np.abs(features(model, PIXELS) - unscaled).max() > 1
    assert model(PIXELS).shape == (4, 3)


def test_variables_are_weights_and_frozen_by_default(published):
    model = build_hub_model(published["image"][0], outputs=3)
    layer = model.get_layer("hub_module")
    assert [w.path.split("/")[-1] for w in layer.weights] == [
        "conv_kernel",
        "bn_gamma",
        "bn_moving_mean",
    ]
    assert layer.count_params() == 3 * 3 * 3 * 4 + 4 + 4
    assert not layer.trainable_weights and not model.losses
    layer.trainable = True
    assert [w.path.split("/")[-1] for w in layer.trainable_weights] == ["conv_kernel", "bn_gamma"]
    # An alias: what Keras sets, the module computes with.
    layer.weights[1].assign([0, 0, 0, 0])
    assert not features(model, PIXELS).any()


def test_training_mode_and_losses_follow_trainable(published):
    layer = load_hub_backbone(published["image"][0]).get_layer("hub_module")
    images = tf.constant(PIXELS / 255)
    mean, kernel = layer.weights[2].numpy(), layer.weights[0].numpy()
    frozen = layer(images, training=True)
    np.testing.assert_array_equal(frozen, layer(images, training=False))
    np.testing.assert_array_equal(layer.weights[2].numpy(), mean)
    assert not layer.losses
    layer.trainable = True
    active = layer(images, training=True).numpy()
    assert np.abs(layer.weights[2].numpy() - mean).max() > 1e-3
    assert (active == 0).any() and not np.allclose(active, frozen)
    np.testing.assert_allclose(layer.losses[0], 0.01 * np.sum(kernel**2), rtol=1e-5)


@pytest.mark.parametrize(
    ("policy", "trains"),
    [
        (freezing.All(), False),
        (freezing.AllButLast(1), True),
        (freezing.Nothing(), True),
        (freezing.UpTo("hub_module"), False),
    ],
)
def test_a_module_is_one_block(published, policy, trains):
    model = build_hub_model(published["image"][0], outputs=3)
    policy.apply(model)
    assert model.get_layer("hub_module").trainable is trains
    parts = {part.name: part.layers for part in freezing.sections(model)}
    assert list(parts) == ["stem", "hub_module", "head"]
    assert parts["hub_module"] == ("hub_module",)


def test_an_encoder_in_the_place_of_its_preprocessor_is_one_line(published):
    encoder, preprocessor = published["encoder"][0], published["preprocessor"][0]
    with pytest.raises(InputError, match=r"ENCODER\+PREPROCESSOR, in this order") as caught:
        load_hub_text(f"{preprocessor}+{encoder}", max_tokens=8)
    assert "\n" not in str(caught.value)


def test_sections_of_text_models(published):
    strings = build_hub_model(published["text"][0], outputs=2)
    assert [p.name for p in freezing.sections(strings)] == ["hub_module", "head"]
    encoder, preprocessor = published["encoder"][0], published["preprocessor"][0]
    pair = build_hub_model(encoder, outputs=2, preprocessor=preprocessor, max_tokens=8)
    assert [p.name for p in freezing.sections(pair)] == ["stem", "hub_module", "head"]
    assert [p.name for p in freezing.sections(behind_host(pair))] == ["stem", "hub_module", "head"]


def test_a_text_module_takes_strings(published):
    folder, module = published["text"]
    model = build_hub_model(folder, outputs=2)
    np.testing.assert_allclose(features(model, TEXTS), module(TEXTS), atol=1e-6)
    assert np.abs(features(model, TEXTS)[0] - features(model, TEXTS)[1]).max() > 0.1
    assert model.predict(np.array(["good"], object), verbose=0).shape == (1, 2)


@pytest.mark.parametrize("texts", [TEXTS, PAIRS])
def test_an_encoder_and_its_preprocessor(published, texts):
    count = texts.shape.rank
    model = load_hub_encoder(
        published["encoder"][0], published["preprocessor"][0], max_tokens=8, texts=count
    )
    preprocessor, encoder = published["preprocessor"][1], published["encoder"][1]
    segments = [texts] if count == 1 else tf.unstack(texts, axis=1)
    pieces = [preprocessor.tokenize(segment) for segment in segments]
    packed = preprocessor.bert_pack_inputs(pieces, tf.constant(8))
    expected = encoder(packed, training=False)["pooled_output"].numpy()
    np.testing.assert_allclose(model(texts), expected, atol=1e-6)
    # The twin: an encoder that also looks at padding.
    blind = {**packed, "input_mask": tf.ones_like(packed["input_mask"])}
    assert not np.allclose(model(texts), encoder(blind, training=False)["pooled_output"], atol=1e-2)
    tokens = tokenize_of(model)(texts)
    assert tokens.dtype == tf.int32 and tokens.shape == (len(texts), 2, 8)
    np.testing.assert_allclose(behind_host(model)(tokens), expected, atol=1e-6)
    in_pipeline = next(iter(tf.data.Dataset.from_tensors(texts).map(tokenize_of(model))))
    np.testing.assert_array_equal(in_pipeline, tokens)


def test_tokens_of_whole_texts_are_counted(published):
    """By hand: special ones, padding and what is cut do not count."""
    handle = f"{published['encoder'][0]}+{published['preprocessor'][0]}"
    singles = Tokenize(load_hub_tokenizer(handle, max_tokens=5))
    assert singles.counts
    texts = [("good film",), ("",), ("a b c d e f g h",)]
    assert singles.count(texts).tolist() == [2, 0, 8]
    pairs = Tokenize(load_hub_tokenizer(handle, max_tokens=8, texts=2))
    assert pairs.count([("good film", "very bad indeed"), ("", "a")]).tolist() == [5, 1]


def test_word_pieces_within_words_are_counted():
    pieces = tf.ragged.constant([[[1, 2], [3]], [], [[4, 5, 6]]], dtype=tf.int32)
    assert _pieces_of(pieces).numpy().tolist() == [3, 0, 3]


def test_a_module_is_a_layer_of_a_model_of_ones_own(published, tmp_path):
    folder, module = published["image"]
    layer = load_hub_layer(folder, name="first")
    images = keras.Input((16, 16, 3))
    model = keras.Model(images, keras.layers.Dense(2)(layer(images)))
    pixels = PIXELS / 255
    np.testing.assert_allclose(layer(pixels), module(tf.constant(pixels)), atol=1e-6)
    assert not layer.trainable_weights
    layer.trainable = True
    kernel = layer.weights[0].numpy()
    model.compile("sgd", "mse")
    model.fit(pixels, np.ones((4, 2)), verbose=0)
    assert np.abs(layer.weights[0].numpy() - kernel).max() > 0
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again(pixels), model(pixels), atol=1e-6)
    assert load_hub_layer(published["text"][0])(TEXTS).shape == (4, 5)


def test_a_layer_of_an_encoder_has_one_of_its_outputs(published):
    folder, module = published["encoder"]
    words = {name: tf.ones([2, 8], tf.int32) for name in ("input_word_ids", "input_mask")}
    words["input_type_ids"] = tf.zeros([2, 8], tf.int32)
    layer = load_hub_layer(folder, sample=words, output="sequence_output")
    expected = module(words, training=False)["sequence_output"]
    np.testing.assert_allclose(layer(words), expected, atol=1e-6)
    with pytest.raises(InputError, match=r"signature says what it takes.*Give sample, 2 inputs"):
        load_hub_layer(folder)


def test_a_layer_made_of_a_handle_is_refused():
    with pytest.raises(InputError, match=r"the handle 'https://tfhub.dev/x'.*load_hub_layer"):
        HubLayer("https://tfhub.dev/x")


def test_a_plus_sign_in_a_path_parts_no_handles(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("c++/mod", "pre+1"):
        (tmp_path / name).mkdir(parents=True)
    url = "https://tfhub.dev/encoder/1"
    assert parted("c++/mod") == ("c++/mod", "")
    assert parted("c++/mod+pre+1") == ("c++/mod", "pre+1")
    assert parted(f"{url}+pre+1") == (url, "pre+1")
    assert parted(f"{url}+{url}") == (url, url)
    assert parted("no+such+thing") == ("no", "such+thing")
    assert parted(url) == (url, "")


def test_handles_of_texts(published):
    encoder, preprocessor = published["encoder"][0], published["preprocessor"][0]
    both = f"{encoder}+{preprocessor}"
    model = load_hub_text(both, max_tokens=8)
    same = load_hub_encoder(encoder, preprocessor, max_tokens=8)
    np.testing.assert_array_equal(model(TEXTS), same(TEXTS))
    alone = Tokenize(load_hub_tokenizer(both, max_tokens=8))
    assert alone.key == tokenize_of(model).key
    np.testing.assert_array_equal(alone(TEXTS), tokenize_of(model)(TEXTS))
    assert alone.key != Tokenize(load_hub_tokenizer(both, max_tokens=9)).key
    # What a policy sets says nothing of the tokens.
    freezing.All().apply(model)
    assert alone.key == tokenize_of(model).key
    strings = load_hub_text(str(published["text"][0]))
    np.testing.assert_allclose(strings(TEXTS), published["text"][1](TEXTS), atol=1e-6)
    for handle, options, message in (
        (both, {"windows": 2}, "1 window for a TF-Hub module"),
        (str(published["text"][0]), {"texts": 2}, "single texts"),
        (str(published["image"][0]), {}, "a TF-Hub module of texts"),
    ):
        with pytest.raises(InputError, match=message):
            load_hub_text(handle, **options)
    for load in (load_encoder, load_tokenizer):
        with pytest.raises(InputError, match="truncate=head for a TF-Hub module"):
            load(f"hub:{both}", truncate="head-tail")
        with pytest.raises(InputError, match="markup=keep for a TF-Hub module"):
            load(f"hub:{both}", markup="drop")
    for weights in (None, "pretraned"):
        with pytest.raises(InputError, match=f'"pretrained" for a TF-Hub module.*{weights}'):
            load_encoder(f"hub:{both}", weights=weights)


def test_another_output_of_an_encoder(published):
    folders = published["encoder"][0], published["preprocessor"][0]
    model = load_hub_encoder(*folders, max_tokens=8, output="sequence_output")
    assert model.output_shape == (None, 8, 6)
    with pytest.raises(InputError, match=r"an output of the module.*Did you mean pooled_output"):
        load_hub_encoder(*folders, output="pooled_outputs")


def test_copies_have_the_fine_tuned_weights(published):
    model = moved_weights(build_hub_model(published["image"][0], outputs=3))
    expected = features(model, PIXELS)
    for copy in (to_stock(model), to_freezable(model), rebuild(model)):
        np.testing.assert_allclose(copy(PIXELS), model(PIXELS), atol=1e-6)
    clone = keras.models.clone_model(model)
    np.testing.assert_allclose(features(clone, PIXELS), expected, atol=1e-6)
    clone.get_layer("hub_module").set_weights(
        [w * 0 for w in clone.get_layer("hub_module").get_weights()]
    )
    np.testing.assert_array_equal(features(model, PIXELS), expected)


@pytest.mark.parametrize("kind", ["image", "text", "encoder"])
def test_a_keras_file_is_whole(published, tmp_path, monkeypatch, kind):
    folders = {n: shutil.copytree(f, tmp_path / n) for n, (f, _) in published.items()}
    options = {"preprocessor": folders["preprocessor"]} if kind == "encoder" else {}
    inputs = PIXELS if kind == "image" else TEXTS
    model = build_hub_model(folders[kind], outputs=2, max_tokens=9, **options)
    freezing.Nothing().apply(moved_weights(model))
    expected = model(inputs).numpy()
    model.save(tmp_path / "model.keras")
    for folder in folders.values():
        shutil.rmtree(folder)
    monkeypatch.setenv("KERAS_TL_CACHE", str(tmp_path / "another machine's cache"))
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(inputs), expected)
    assert loaded.get_layer("hub_module").trainable
    # As one SavedModel that needs nothing else.
    loaded.export(tmp_path / "exported", verbose=False)
    shutil.rmtree(tmp_path / "another machine's cache")
    shutil.move(tmp_path / "exported", tmp_path / "moved")
    exported = tf.saved_model.load(str(tmp_path / "moved"))
    np.testing.assert_allclose(exported.serve(tf.constant(inputs)), expected, atol=1e-6)


def test_weights_load_into_a_built_model(published, tmp_path):
    model = moved_weights(build_hub_model(published["image"][0], outputs=3))
    model.save_weights(tmp_path / "x.weights.h5")
    other = build_hub_model(published["image"][0], outputs=3)
    assert np.abs(other(PIXELS) - model(PIXELS)).max() > 1e-3
    other.load_weights(tmp_path / "x.weights.h5")
    np.testing.assert_array_equal(other(PIXELS), model(PIXELS))


def test_a_keras_file_does_not_hold_weights_twice(published, tmp_path):
    model = load_hub_backbone(published["image"][0])
    model.save(tmp_path / "model.keras")
    names = zipfile.ZipFile(tmp_path / "model.keras").namelist()
    assert [n for n in names if n.startswith("assets/")] == [
        "assets/layers/hub_layer/saved_model.pb"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("first", ["import keras_tl, keras", "import keras, keras_tl"])
def test_another_process_loads_it(image_folder, tmp_path, first):
    model = moved_weights(build_hub_model(image_folder, outputs=3))
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", PIXELS)
    np.save(tmp_path / "y.npy", model(PIXELS))
    shutil.rmtree(image_folder)
    code = (
        f"{first}, numpy as np\n"
        "model = keras.models.load_model('model.keras')\n"
        "np.testing.assert_allclose(model(np.load('x.npy')), np.load('y.npy'), atol=1e-6)\n"
    )
    environment = os.environ | {"KERAS_TL_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("below", [".", "module/1"])
def test_an_archive(image_folder, tmp_path, below):
    with tarfile.open(tmp_path / "module.tar.gz", "w:gz") as archive:
        archive.add(image_folder, below)
    model = build_hub_model(tmp_path / "module.tar.gz", outputs=3)
    same = build_hub_model(image_folder, outputs=3)
    np.testing.assert_array_equal(features(model, PIXELS), features(same, PIXELS))


def test_archives_that_are_none(tmp_path):
    (tmp_path / "cut.tar.gz").write_bytes(b"\x1f\x8b cut")
    with pytest.raises(InputError, match=r"a \.tar\.gz of a SavedModel"):
        build_hub_model(tmp_path / "cut.tar.gz", outputs=3)
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with tarfile.open(tmp_path / "outside.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "saved_model.pb", "../outside.pb")
    with pytest.raises(InputError, match="outside"):
        build_hub_model(tmp_path / "outside.tar.gz", outputs=3)


@pytest.mark.parametrize(
    "handle",
    [
        "https://tfhub.dev/google/imagenet/tiny/feature_vector/1",
        "https://www.kaggle.com/models/google/tiny/TensorFlow2/feature-vector/1",
    ],
)
def test_a_url_is_found_in_the_cache(image_folder, tmp_path, monkeypatch, handle):
    cache = tmp_path / "tfhub"
    shutil.copytree(image_folder, cache / hashlib.sha1(handle.encode()).hexdigest())
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(cache))
    # Neither network nor package is asked.
    monkeypatch.setitem(sys.modules, "tensorflow_hub", None)
    assert build_hub_model(handle, outputs=3).output_shape == (None, 3)


@pytest.mark.slow
def test_the_package_downloads_into_the_cache(image_folder, tmp_path, monkeypatch):
    with tarfile.open(tmp_path / "module.tar.gz", "w:gz") as archive:
        archive.add(image_folder, ".")
    content = (tmp_path / "module.tar.gz").read_bytes()

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    cache = tmp_path / "tfhub"
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(cache))
    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        handle = f"http://127.0.0.1:{server.server_port}/module/1"
        model = build_hub_model(handle, outputs=3)
        server.shutdown()
    same = build_hub_model(image_folder, outputs=3)
    np.testing.assert_array_equal(features(model, PIXELS), features(same, PIXELS))
    # Now without the server, from where the package put it.
    assert (cache / hashlib.sha1(handle.encode()).hexdigest() / "saved_model.pb").is_file()
    build_hub_model(handle, outputs=3)


def test_a_download_that_fails_says_what_to_do(tmp_path, monkeypatch):
    class Hub:
        @staticmethod
        def resolve(handle):
            raise OSError("HTTP Error 403:\nForbidden")

    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    monkeypatch.setitem(sys.modules, "tensorflow_hub", Hub)
    with pytest.raises(InputError, match=r"download https.*403: Forbidden.*\.tar\.gz") as error:
        build_hub_model("https://tfhub.dev/google/x/1", outputs=3)
    assert "\n" not in str(error.value)
    monkeypatch.setitem(sys.modules, "tensorflow_hub", None)
    with pytest.raises(InputError, match=r"tensorflow-hub.*setuptools<82"):
        build_hub_model("https://tfhub.dev/google/x/1", outputs=3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "which is none of them"),
        (lambda folder: folder.mkdir(), "without saved_model.pb"),
        (lambda folder: _with(folder, "saved_model.pb", b"\xff\xff"), "cannot be read"),
        (lambda folder: _with(folder, "tfhub_module.pb", b""), "the TF1 Hub format"),
        (lambda folder: _version_1(folder), "a SavedModel of TensorFlow 1"),
    ],
)
def test_what_is_no_module_is_refused(tmp_path, make, message):
    make(tmp_path / "module")
    with pytest.raises(InputError, match=message) as error:
        build_hub_model(tmp_path / "module", outputs=3)
    assert "\n" not in str(error.value)


def _with(folder, name, content):
    folder.mkdir()
    (folder / name).write_bytes(content)


def _version_1(folder):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, (None, 2), "x")
        tf.compat.v1.saved_model.simple_save(session, str(folder), {"x": x}, {"y": x * 2})


def test_wrong_kinds_of_modules(published):
    with pytest.raises(InputError, match="load_hub_encoder"):
        build_hub_model(published["encoder"][0], outputs=2)
    with pytest.raises(InputError, match="a preprocessor, received a module without"):
        load_hub_encoder(published["encoder"][0], published["text"][0])
    with pytest.raises(InputError, match="image size of 16 for this module, received 32"):
        build_hub_model(published["image"][0], outputs=2, image_size=32)
    with pytest.raises(InputError, match="1 or 2 texts"):
        load_hub_encoder(published["encoder"][0], published["preprocessor"][0], texts=3)


def keras_model():
    keras.utils.set_random_seed(2)
    pixels = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3)(pixels)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Dropout(0.5)(x))
    return keras.Model(pixels, x)


@pytest.mark.parametrize("way", ["export", "save"])
def test_what_keras_writes_is_a_module_too(tmp_path, way):
    source = keras_model()
    if way == "export":
        source.export(tmp_path / "module", verbose=False)
    else:
        tf.saved_model.save(source, str(tmp_path / "module"))
    model = build_hub_model(tmp_path / "module", outputs=2, value_range=(0, 255))
    np.testing.assert_allclose(features(model, PIXELS), source(PIXELS), rtol=1e-4, atol=1e-4)
    freezing.Nothing().apply(model)
    layer = model.get_layer("hub_module")
    assert len(layer.trainable_weights) == 4 and len(layer.non_trainable_weights) == 2
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(PIXELS, training=True)[:, 0] ** 2)
    gradients = tape.gradient(loss, [w.value for w in layer.trainable_weights])
    assert all(gradient is not None for gradient in gradients)


def test_a_value_range_of_its_own(published):
    folder, module = published["image"]
    model = build_hub_model(folder, outputs=3, value_range=(-1, 1))
    expected = module(tf.constant(PIXELS / 127.5 - 1), training=False)
    np.testing.assert_allclose(features(model, PIXELS), expected, atol=1e-5)


def test_mixed_precision_leaves_the_module_in_float32(published):
    folder, module = published["image"]
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build_hub_model(folder, outputs=3, hidden=(8,))
        assert model.get_layer("hub_module").compute_dtype == "float32"
        assert model.get_layer("head_dense_1").compute_dtype == "bfloat16"
        expected = module(tf.constant(PIXELS / 255), training=False)
        np.testing.assert_allclose(features(model, PIXELS), expected, atol=1e-6)
        assert model(PIXELS).dtype == tf.float32
    finally:
        keras.config.set_dtype_policy(previous)
