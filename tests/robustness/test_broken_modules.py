"""Modules of TF-Hub in folders that are damaged, hostile or something else."""

import shutil

import hub_modules
import pytest
import tensorflow as tf
from backbones.test_hub_check import (
    Harmful,
    edit,
    in_a_branch,
    in_a_data_set,
    in_a_loop,
    print_to_file,
    python,
    read_file,
    write_file,
)
from keras.src.saving.serialization_lib import SafeModeScope
from PIL import Image
from robustness.corpus import archives, modules
from robustness.corpus.case import EITHER, READ
from robustness.ending import assert_refused, deadline, ended, listing

from keras_tl.backbones.hub import load_hub_backbone
from keras_tl.builders.hub import build_hub_model
from keras_tl.errors import InputError


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A good module of each kind, as a folder."""
    folder = tmp_path_factory.mktemp("good")
    image = hub_modules.publish(hub_modules.ImageModule(), folder / "image")
    return {
        "image": image,
        "text": hub_modules.publish(hub_modules.TextModule(folder), folder / "text"),
    }


def files_of(folder):
    """The content of each file, by its name in the folder."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def check(case, handle, caplog):
    try:
        with deadline():
            model = load_hub_backbone(handle)
    except InputError as error:
        assert case.ends != READ, error
        assert "\n" not in str(error) and len(str(error)) < 2000
        assert case.said in str(error)
    else:
        assert case.ends in (READ, EITHER)
        assert model.layers
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("case", modules.FOLDERS, ids=lambda case: case.id)
def test_a_folder_is_read_or_refused_in_one_line(case, good, tmp_path, caplog):
    folder = shutil.copytree(good[case.module], tmp_path / "inside" / "module")
    case.change(folder)
    before = listing(tmp_path)
    check(case, folder, caplog)
    assert listing(tmp_path) == before


def test_the_modules_themselves_are_good(good):
    """The twin: what was damaged is read where it is not."""
    for handle in good.values():
        assert load_hub_backbone(handle).layers


HANDLES = {
    "": "",
    "nothing": "nothing/at/all",
    "a NUL": "a\0b",
    "a user that is not there": "~keras-tl-nobody/module",
    "a name of 5000 letters": "n" * 5000,
    "a surrogate alone": "a\ud800",
    "a device": "/dev/zero",
    "another scheme": "gs:/" + "/bucket/module",
}


@pytest.mark.parametrize("handle", HANDLES.values(), ids=HANDLES)
def test_a_handle_of_nothing_is_refused_in_one_line(handle):
    with deadline(), pytest.raises(InputError, match=r"none of them|without saved_model") as error:
        load_hub_backbone(handle)
    assert "\n" not in str(error.value) and len(str(error.value)) < 2000


# Graphs


def image_module(compute, *inputs):
    """A module that computes something of its variable and its inputs."""

    class Module(hub_modules.Published):
        def __init__(self):
            super().__init__()
            self.weight = tf.Variable([1.0])
            self.publish([self.weight])

        @tf.function(input_signature=inputs or (tf.TensorSpec((None, 16, 16, 3), tf.float32),))
        def __call__(self, *given):
            return compute(self.weight, *given)

    return Module()


def mean(x):
    return tf.reduce_mean(x, [1, 2])


def checked(x, check):
    """The mean, where a batch has as many images as it must."""
    with tf.control_dependencies([check(tf.shape(x)[0])]):
        return mean(x)


class Nothing(tf.train.Checkpoint):
    """Nothing in it can be called."""


class Untraced(tf.train.Checkpoint):
    """Nothing in it was called before it was saved."""

    @tf.function
    def __call__(self, x):
        return x


class OfVariable(hub_modules.Published):
    """A variable that cannot be a weight."""

    def __init__(self, **options):
        super().__init__()
        self.weight = tf.Variable(**options)
        self.publish([self.weight])

    @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 3), tf.float32)])
    def __call__(self, x):
        return mean(x) + tf.cast(tf.size(self.weight), tf.float32)


def pixels(*shape):
    return tf.TensorSpec(shape, tf.float32)


ODD = {
    "one number for all": lambda: image_module(lambda _, x: tf.reduce_mean(x)),
    "one number for each": lambda: image_module(lambda _, x: tf.reduce_mean(x, [1, 2, 3])),
    "five dimensions": lambda: image_module(lambda _, x: x[..., None]),
    "strings": lambda: image_module(lambda _, x: tf.as_string(mean(x))),
    "whole numbers": lambda: image_module(lambda _, x: tf.cast(mean(x), tf.int32)),
    "ragged rows": lambda: image_module(lambda _, x: tf.RaggedTensor.from_tensor(mean(x))),
    "a sparse tensor": lambda: image_module(lambda _, x: tf.sparse.from_dense(mean(x))),
    "a list": lambda: image_module(lambda _, x: [mean(x), mean(x)]),
    "nothing": lambda: image_module(lambda *_: None),
    "two outputs": lambda: image_module(lambda _, x: {"a": mean(x), "b": mean(x)}),
    "no outputs": lambda: image_module(lambda *_: {}),
    "outputs in an output": lambda: image_module(lambda _, x: {"default": {"a": mean(x)}}),
    "no features": lambda: image_module(lambda _, x: mean(x)[:, :0]),
    "two rows for each": lambda: image_module(lambda _, x: tf.concat([mean(x)] * 2, 0)),
    "one row for all": lambda: image_module(lambda _, x: mean(x)[:1]),
    "an assertion": lambda: image_module(
        lambda _, x: (
            mean(x) + tf.cast(tf.debugging.assert_equal(7, tf.shape(x)[0]) is None, "float")
        )
    ),
    "two inputs": lambda: image_module(lambda _, x, y: mean(x + y), *[pixels(None, 16, 16, 3)] * 2),
    "a list of inputs": lambda: image_module(lambda _, x: mean(x[0]), [pixels(None, 16, 16, 3)]),
    "ragged inputs": lambda: image_module(
        lambda w, _: w[None], tf.RaggedTensorSpec((None, None), tf.string, 1)
    ),
    "inputs of any shape": lambda: image_module(
        lambda _, x: mean(tf.reshape(x, [-1, 16, 16, 3])), tf.TensorSpec(None, tf.float32)
    ),
    "grey images": lambda: image_module(lambda _, x: mean(x), pixels(None, 16, 16, 1)),
    "oblong images": lambda: image_module(lambda _, x: mean(x), pixels(None, 16, 32, 3)),
    "images of 3.6 gigapixels": lambda: image_module(
        lambda _, x: mean(x), pixels(None, 60_000, 60_000, 3)
    ),
    "batches of one": lambda: image_module(lambda _, x: mean(x), pixels(1, 16, 16, 3)),
    "rows of strings": lambda: image_module(
        lambda _, x: tf.cast(tf.strings.length(x), tf.float32), tf.TensorSpec((None, 3), tf.string)
    ),
    "nothing to call": Nothing,
    "nothing traced": Untraced,
    "a variable of strings": lambda: OfVariable(initial_value=["a"]),
    "a variable of any shape": lambda: OfVariable(initial_value=[1.0], shape=[None]),
}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_a_module_of_something_else_is_refused_in_one_line(make, tmp_path):
    tf.saved_model.save(make(), str(tmp_path / "module"))
    with deadline(), pytest.raises(InputError) as error:
        build_hub_model(tmp_path / "module", outputs=2)
    assert "\n" not in str(error.value) and len(str(error.value)) < 2000


def test_a_constant_that_is_not_in_the_file_is_refused(good, tmp_path):
    """10 bytes that say that they are a gigabyte."""
    folder = shutil.copytree(good["text"], tmp_path / "module")

    def inflate(graph):
        for node in graph.graph_def.node:
            if node.op == "Const":
                tensor = node.attr["value"].tensor
                tensor.tensor_shape.dim.add().size = 10**8

    edit(folder, inflate)
    with pytest.raises(InputError, match=r"constants with their numbers, received one of 1e\+08"):
        load_hub_backbone(folder)


ACTS = (read_file, write_file, python, print_to_file, in_a_branch, in_a_loop, in_a_data_set)


@pytest.mark.parametrize("act", ACTS)
def test_a_graph_that_does_more_than_compute_is_not_run(act, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tf.saved_model.save(Harmful(act), "module")
    before = listing(tmp_path)
    with pytest.raises(InputError, match="a TF-Hub module that only computes") as error:
        load_hub_backbone("module")
    assert "\n" not in str(error.value) and listing(tmp_path) == before


def test_such_a_graph_would_do_so(tmp_path, monkeypatch):
    """The twin: where the user says so, it is called when it is opened, and writes its file."""
    monkeypatch.chdir(tmp_path)
    tf.saved_model.save(Harmful(write_file), "module")
    with SafeModeScope(False):
        load_hub_backbone("module")
    assert (tmp_path / "written.txt").is_file()


# Commands


@pytest.fixture(scope="module")
def data(tmp_path_factory, three_colors):
    """A few images, and a table of texts."""
    folder = tmp_path_factory.mktemp("data")
    for number, (image, label) in enumerate(zip(*three_colors, strict=True)):
        path = folder / "photos" / "abc"[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    rows = [f"{word} film {n},{word}" for n in range(8) for word in ("good", "bad")]
    (folder / "texts.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    return folder


def train(data, handle, out, texts=False):
    options = ["--text-column", "text", "--max-tokens", 8] if texts else ["--image-size", 16]
    options += ["--backbone", f"hub:{handle}", "--out", out, "--epochs", 1]
    options += ["--fine-tune", "none", "--no-audit"]
    return ["train", data / ("texts.csv" if texts else "photos"), *options]


SAMPLED = [case for case in modules.FOLDERS if case.ends not in (EITHER, READ)][::12]


@pytest.mark.parametrize("case", SAMPLED, ids=lambda case: case.id)
def test_a_training_on_a_broken_folder_ends_in_one_line(case, good, data, tmp_path, capsys):
    folder = shutil.copytree(good[case.module], tmp_path / "module")
    case.change(folder)
    before = listing(tmp_path)
    assert_refused(capsys, *train(data, folder, tmp_path / "run", texts=case.module == "text"))
    assert listing(tmp_path) == before


SAMPLED_ARCHIVES = [case for case in archives.ARCHIVES if case.ends not in (EITHER, READ)][::9]


@pytest.mark.parametrize("case", SAMPLED_ARCHIVES, ids=lambda case: case.id)
def test_a_training_on_a_broken_archive_ends_in_one_line(case, good, data, tmp_path, capsys):
    (tmp_path / "module.tar.gz").write_bytes(case.pack(files_of(good["image"])))
    before = listing(tmp_path)
    assert_refused(capsys, *train(data, tmp_path / "module.tar.gz", tmp_path / "run"))
    assert listing(tmp_path) == before


TEXT_FILES = [
    pytest.param(modules.GRAPH, "encoder", marks=pytest.mark.slow),
    (modules.GRAPH, "preprocessor"),
    pytest.param(modules.WEIGHTS, "encoder", marks=pytest.mark.slow),
    (modules.VOCABULARY, "preprocessor"),
]


@pytest.mark.parametrize(("name", "kind"), TEXT_FILES)
def test_a_training_on_a_broken_encoder_ends_in_one_line(
    name, kind, encoder, data, tmp_path, capsys
):
    folders = encoder | {kind: shutil.copytree(encoder[kind], tmp_path / kind)}
    path = folders[kind] / name
    path.write_bytes(path.read_bytes()[: 100 if name != modules.VOCABULARY else 0])
    before = listing(tmp_path)
    handle = f"{folders['encoder']}+{folders['preprocessor']}"
    assert_refused(capsys, *train(data, handle, tmp_path / "run", texts=True))
    assert listing(tmp_path) == before


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    encoder = hub_modules.publish(hub_modules.Encoder(), folder / "encoder")
    preprocessor = hub_modules.Preprocessor(folder)
    return {
        "encoder": encoder,
        "preprocessor": hub_modules.publish(preprocessor, folder / "preprocessor"),
    }


def test_a_module_that_fails_on_the_data_ends_in_one_line(data, tmp_path, capsys):
    """It is tried on two images; a batch has more."""
    few = image_module(lambda _, x: checked(x, lambda n: tf.debugging.assert_less(n, 3)))
    tf.saved_model.save(few, str(tmp_path / "module"))
    code, said = ended(capsys, *train(data, tmp_path / "module", tmp_path / "run"))
    last = said.splitlines()[-1]
    assert code == 2 and last.startswith("keras-tl: Expected a TF-Hub module that"), said
    assert not (tmp_path / "run" / "metrics.json").exists()
