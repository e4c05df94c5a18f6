import io
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from keras_tl import cli, freezing, frozen_prefix, plans, preparing
from keras_tl.backbones import tokenizers
from keras_tl.backbones.host import Tokenize, behind_host, host_layer, tokenize_of
from keras_tl.config import TrainConfig
from keras_tl.data.arrays import from_arrays
from keras_tl.data.open import open_data
from keras_tl.errors import CheckError, InputError
from keras_tl.evaluation.predictions import predict_images
from keras_tl.export.saved_model import export_saved_model
from keras_tl.export.text_model import verify_text_model
from keras_tl.job import train
from keras_tl.measuring import evaluate_run, predict_files, predict_texts
from keras_tl.model_info import ModelInfo
from keras_tl.preparing import build_model, model_info_of, plan_for, prepare_data
from keras_tl.training.fit import run_phases
from keras_tl.training.phases import Phase
from tests import hub_modules
from tests.tiny_encoder import write_reviews, write_tiny_bert


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("texts")
    write_tiny_bert(root / "bert")
    write_reviews(root / "reviews.csv")
    return root


def settings(folder, **changes):
    given = {
        "data": str(folder / "reviews.csv"),
        "out": str(folder / "run"),
        "backbone": str(folder / "bert"),
        "text_column": "text",
        "max_tokens": 16,
        "epochs": 12,
        "learning_rate": 2e-2,
        "fine_tune": 1,
        "fine_tune_epochs": 2,
        "fine_tune_learning_rate": 3e-3,
    }
    return TrainConfig(**(given | changes))


@pytest.fixture(scope="module")
def run(folder):
    return train(settings(folder), verbose=0)


def test_a_run_of_texts_is_whole_and_learns(run):
    metrics = run.metrics
    assert metrics["accuracy"] > 0.8
    assert [phase["name"] for phase in metrics["phases"]] == ["head", "fine-tuning"]
    # The head's phase reads one vector of each text, the fine-tuning what the first block gives.
    assert metrics["phases"][0]["frozen_prefix_ends_at"] == ["pool_and_words"]
    assert metrics["phases"][1]["frozen_prefix_ends_at"] == [
        "mask",
        "bag_of_words",
        "block_0_output_norm",
    ]
    assert metrics["baseline"]["kind"].startswith("TF-IDF")
    info = run.info
    assert info.image_input is None
    assert (info.text_input.max_tokens, info.text_input.windows) == (16, 1)
    assert run.path(run.REPORT).is_file()


def test_predictions_are_those_of_the_saved_keras_model(run):
    table = pd.read_csv(run.path(run.PREDICTIONS))
    reviews = pd.read_csv(run.config.data)
    rows = [int(name.split()[1]) - 2 for name in table["id"]]
    texts = reviews["text"].iloc[rows].tolist()
    by_keras = run.model()(tf.constant(texts)).numpy()
    wanted = table[["p_negative", "p_positive"]].to_numpy()
    np.testing.assert_allclose(by_keras, wanted, atol=2e-3)
    outputs, source = predict_texts(run, texts)
    np.testing.assert_allclose(outputs, by_keras, atol=1e-5)
    assert [item for (item,) in source.items] == texts


@pytest.mark.slow
def test_the_second_run_with_another_head_computes_nothing_again(folder, run):
    config = settings(folder, out=str(folder / "again"), learning_rate=1e-2, seed=0)
    again = train(config, verbose=0)
    assert [phase["images_through_frozen_prefix"] for phase in again.metrics["phases"]] == [0, 0]


@pytest.mark.slow
def test_stored_features_train_as_the_whole_model_does(folder):
    def trained(store):
        config = settings(folder, audit=False)
        tf.keras.utils.set_random_seed(3)
        data = prepare_data(config)
        model = build_model(config, data)
        for layer in model.layers:
            # What is drawn at random would differ.
            if hasattr(layer, "rate"):
                layer.rate = 0.0
        phase = Phase(freezing.AllButLast(1), 2, 1e-2)
        how = {"batch_size": 8, "seed": 1, "feature_store": store, "engine": "tensorflow"}
        history = run_phases(model, [phase], data.train, data.val, **how, verbose=0).history
        return history, predict_images(model, data.test)

    (cached, outputs), (plain, wanted) = trained(True), trained(False)
    np.testing.assert_allclose(
        [row["loss"] for row in cached], [row["loss"] for row in plain], rtol=2e-3
    )
    np.testing.assert_allclose(outputs, wanted, atol=5e-3)


def test_the_host_layer_is_left_out_once(folder):
    config = settings(folder)
    data = prepare_data(config)
    model = build_model(config, data)
    numeric = behind_host(model)
    assert numeric.input.dtype == "int32"
    assert behind_host(model) is numeric
    assert behind_host(numeric) is numeric
    strings = tf.constant(["the film was good", ""])
    np.testing.assert_allclose(numeric(tokenize_of(model)(strings)), model(strings), atol=1e-6)
    parts = frozen_prefix.split(model)
    assert parts.prefix is None or parts.prefix.input.dtype == "int32"


def test_another_tokenizer_has_another_key(folder):
    config = settings(folder)
    layer = host_layer(build_model(config, prepare_data(config)))
    other = type(layer).from_config({**layer.get_config(), "max_tokens": 12})
    same = type(layer).from_config({**layer.get_config(), "name": "another"})
    assert Tokenize(layer).key == Tokenize(same).key != Tokenize(other).key
    # [CLS] and [SEP] do not count; "film" is a word, "xy" two pieces.
    counts = Tokenize(layer).count([("the film xy",), ("",)])
    assert counts.tolist() == [[4, 4, 4, 1], [0, 0, 0, 1]]


@pytest.mark.slow
def test_pairs_go_through_training_and_prediction(folder):
    config = settings(folder, out=str(folder / "pairs"), text_column="title,text", pair=True)
    run = train(replace(config, fine_tune=0), verbose=0)
    assert run.info.text_input.texts == 2
    outputs, _ = predict_texts(run, [("good book", "the film was great")])
    assert outputs.argmax() == 1
    served = tf.saved_model.load(str(run.path(run.SAVED_MODEL))).signatures["serving_default"]
    answer = served(text=tf.constant(["good book"]), text_pair=tf.constant(["the film was great"]))
    np.testing.assert_allclose(answer["probabilities"].numpy(), outputs, atol=1e-5)
    with pytest.raises(InputError, match="Expected pairs of texts, received single texts"):
        predict_texts(run, ["good book"])


def test_a_savedmodel_of_another_model_is_found_out(folder, run):
    config = settings(folder)
    other = build_model(config, prepare_data(config))
    with pytest.raises(CheckError, match="serving_default"):
        verify_text_model(run.path(run.SAVED_MODEL), other, run.info)


def test_new_texts_are_measured(folder, run):
    path = write_reviews(folder / "new.csv", count=20, seed=9)
    metrics = evaluate_run(run, str(path), verbose=0)
    assert metrics["samples"] == 20
    assert metrics["accuracy"] > 0.7


def test_a_model_of_texts_is_measured_on_texts(folder, run):
    with pytest.raises(InputError, match="texts, of which the model is, received the other kind"):
        evaluate_run(run, str(folder), verbose=0, text_column=None)


def test_columns_that_evaluation_has_no_use_for_need_not_be_there(folder, run, monkeypatch):
    path = write_reviews(folder / "renamed.csv", count=20, seed=9)
    table = pd.read_csv(path).rename(columns={"text": "body", "label": "verdict"})
    table.to_csv(path, index=False)
    named = {"text_column": "body", "label_column": "verdict"}
    columns = {**named, "group_column": "author", "id_column": "number", "split_column": "part"}
    expected = evaluate_run(run, str(path), verbose=0, **named)
    config = replace(run.config, **columns)
    monkeypatch.setattr(type(run), "config", config)
    assert evaluate_run(run, str(path), verbose=0) == expected


def test_images_are_refused_by_a_model_of_texts(run, tmp_path):
    with pytest.raises(InputError, match="Expected a model of images, received one of texts"):
        predict_files(run, [str(tmp_path / "a.jpg")])


def command(*arguments):
    return cli.main([str(argument) for argument in arguments])


def test_texts_are_predicted_from_arguments_files_lines_and_tables(
    run, folder, tmp_path, capsys, monkeypatch
):
    note = tmp_path / "note.txt"
    note.write_text("the book was awful")
    table = tmp_path / "more.csv"
    table.write_text("text\nthe plot was great\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a dull film\n\nvery fine\n")))
    asked = ("a lovely story", note, "-", table)
    assert command("predict", run.folder, *asked, "--format", "json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["id"] for row in rows] == [
        "a lovely story",
        str(note),
        "line 1",
        "line 3",
        f"{table} line 2",
    ]
    texts = [
        "a lovely story",
        "the book was awful",
        "a dull film",
        "very fine",
        "the plot was great",
    ]
    wanted = run.model()(tf.constant(texts)).numpy()
    assert len(rows) == len(wanted)


def test_a_folder_of_texts_is_predicted_and_nothing_is_refused(run, tmp_path, capsys):
    (tmp_path / "below").mkdir()
    for name, text in (("b.txt", "a dull film"), ("below/a.txt", "very fine"), ("c.jpg", "no")):
        (tmp_path / name).write_text(text)
    assert command("predict", run.folder, tmp_path, "--format", "json") == 0
    ids = [row["id"] for row in json.loads(capsys.readouterr().out)]
    assert ids == [str(tmp_path / "b.txt"), str(tmp_path / "below" / "a.txt")]
    (tmp_path / "empty").mkdir()
    for nothing, said in (("", "a text in which"), (tmp_path / "empty", "no .txt file")):
        assert command("predict", run.folder, nothing) == 2
        line = capsys.readouterr().err.strip()
        assert said in line and "\n" not in line


def test_a_layer_that_cannot_be_made_is_one_line(run, monkeypatch, capsys):
    tokenizers._word_pieces.cache_clear()
    monkeypatch.setitem(sys.modules, "tensorflow_text", None)
    assert command("predict", run.folder, "a text") == 2
    line = capsys.readouterr().err.strip()
    assert "pip install 'keras_tl[text]'" in line and "\n" not in line


@pytest.mark.slow
def test_compare_speaks_of_texts_and_names_their_column(folder, capsys):
    asked = ("--text-column", "text", "--backbones", folder / "bert", "--max-tokens", 16)
    assert command("compare", folder / "reviews.csv", *asked) == 0
    printed = capsys.readouterr().out
    assert "texts/s" in printed and "image" not in printed
    words = f"reviews.csv --text-column text --max-tokens 16 --backbone {folder / 'bert'} --out RUN"
    assert words in printed


def test_images_are_no_texts_for_a_module_of_texts(folder, tmp_path):
    module = hub_modules.publish(hub_modules.TextModule(tmp_path), tmp_path / "module")
    config = TrainConfig(data="photos", out="", backbone=f"hub:{module}")
    with pytest.raises(InputError, match="module of images, received one of texts"):
        build_model(config, prepare_data(config, from_arrays(*two_colours())))


def two_colours():
    return np.arange(8, dtype=np.uint8).repeat(768).reshape(8, 16, 16, 3), ["a", "b"] * 4


def test_a_file_that_is_not_there_is_one_line(run, capsys):
    assert command("predict", run.folder, "mails.csv") == 2
    line = capsys.readouterr().err.strip()
    assert line.count("\n") == 0
    assert "mails.csv" in line


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"augment": "light"}, "augment='light' with texts"),
        ({"image_size": 64}, "image_size=64 with texts"),
        ({"pair": True}, "two text columns for a pair"),
        ({"max_tokens": 2}, "max_tokens of at least 4"),
        ({"truncate": "tail"}, "truncate to be one of auto, head, head-tail"),
        ({"markup": "strip"}, "markup to be one of auto, keep, drop"),
        ({"mixup": 0.2, "fine_tune": "all"}, "frozen in part for mixup"),
    ],
)
def test_settings_that_texts_do_not_have_are_refused(folder, wrong, said):
    with pytest.raises(InputError, match=said.replace("(", r"\(")):
        settings(folder, **wrong)


@pytest.mark.slow
def test_both_ends_of_long_texts_reach_training_and_the_export(folder, tmp_path):
    config = settings(folder, max_tokens=8, windows=1, bag_of_words=0)
    data = prepare_data(config)
    model = build_model(config, data)
    info = model_info_of(config, data)
    assert info.text_input.truncate == "head-tail"
    assert ModelInfo.from_json(info.to_json()) == info
    assert data.train.tokenize.key == tokenize_of(model).key
    head = replace(config, truncate="head")
    plain = build_model(head, prepare_data(head))
    plain.set_weights(model.get_weights())
    ends, beginning = "bad " * 3 + "good " * 20 + "dull " * 3, "bad " * 3 + "dull " * 3
    # As if its middle were not there; the other one reads six words of it.
    text = tf.constant([ends, beginning])
    whole, without = model(text).numpy()
    np.testing.assert_allclose(whole, without, atol=1e-6)
    assert abs(plain(text).numpy()[0] - without).max() > 1e-4
    # Compared with the Keras model before it is kept, on a text of 2,000 words too.
    export_saved_model(model, tmp_path / "exported", info)
    served = tf.saved_model.load(str(tmp_path / "exported")).signatures["serving_default"]
    answer = served(text=text)["probabilities"].numpy()
    np.testing.assert_allclose(answer, [without, without], atol=1e-6)


@pytest.mark.slow
def test_markup_is_dropped_from_training_to_the_export(folder, tmp_path, caplog):
    config = settings(folder)
    source = open_data(config.data, **config.columns)
    with caplog.at_level("INFO", "keras_tl"):
        assert prepare_data(config, source).text_input.markup == "keep"
        assert "HTML" not in caplog.text
        marked = replace(source, items=[(f"<p>{text}</p>",) for (text,) in source.items])
        data = prepare_data(config, marked)
    assert "100 % of the texts have HTML tags, which are left out" in caplog.text
    kept = prepare_data(replace(config, markup="keep"), marked)
    assert (data.text_input.markup, kept.text_input.markup) == ("drop", "keep")
    model, info = build_model(config, data), model_info_of(config, data)
    assert data.train.tokenize.key == tokenize_of(model).key
    assert kept.train.tokenize.key != data.train.tokenize.key
    text = tf.constant(["good <b>and</b> bad<br>story", "good and bad story"])
    marked, plain = model(text).numpy()
    np.testing.assert_array_equal(marked, plain)
    export_saved_model(model, tmp_path / "exported", info)
    served = tf.saved_model.load(str(tmp_path / "exported")).signatures["serving_default"]
    np.testing.assert_allclose(served(text=text)["probabilities"], [plain, plain], atol=1e-6)


def test_windows_read_most_texts_whole_but_no_more_than_can_be_fine_tuned(
    folder, tmp_path, monkeypatch
):
    # Of ten texts one has 40 words, six have 20, three have 4; a window has room for 6.
    lengths = np.tile([40, 20, 20, 20, 20, 20, 20, 4, 4, 4], 4)
    texts = [
        " ".join(["good", "bad"][index % 2] for _ in range(n)) for index, n in enumerate(lengths)
    ]
    table = pd.DataFrame({"text": texts, "label": ["a", "b"] * 20})
    table.to_csv(tmp_path / "long.csv", index=False)
    config = settings(folder, data=str(tmp_path / "long.csv"), max_tokens=8, audit=False)
    config = replace(config, fine_tune_epochs=None)

    def windows(**changes):
        changed = replace(config, **changes)
        data = prepare_data(changed)
        model = build_model(changed, data)
        assert model.layers[1].output.shape[-1] == changed.max_tokens * data.text_input.windows
        return data.text_input.windows, plan_for(model, data, changed)[1].epochs

    # Four fifths have at most 20 words: four windows of six.
    assert windows() == (4, 24)
    assert windows(max_tokens=12) == (2, 24)
    assert windows(max_tokens=22) == (1, 24)
    assert windows(windows=3) == (3, 24)
    # 28 texts train: two windows of each can be seen three times, and are.
    for module in (preparing, plans):
        monkeypatch.setattr(module, "WINDOWS_SEEN", 28 * 2 * 3)
    assert windows() == (2, 3)
    assert windows(max_tokens=22) == (1, 6)
    assert windows(val_fraction=0.4, test_fraction=0.4)[0] == 4


def test_a_source_of_images_is_no_source_of_texts(folder):
    with pytest.raises(InputError, match="a source of texts, received one of images"):
        prepare_data(settings(folder), from_arrays(*two_colours()))


def test_of_pairs_so_many_windows_are_read_as_the_second_text_needs(folder, tmp_path):
    # Beside a title of four words a window of 12 has room for five of eleven.
    words = ["good bad good bad", " ".join(["story"] * 11)]
    table = pd.DataFrame(
        [[*words, label] for label in "ab" * 20], columns=["title", "text", "label"]
    )
    table.to_csv(tmp_path / "pairs.csv", index=False)
    pairs = {"data": str(tmp_path / "pairs.csv"), "text_column": "title,text", "pair": True}
    config = replace(settings(folder, max_tokens=12, **pairs), fine_tune_epochs=None)
    data = prepare_data(config)
    assert data.text_input.windows == 3
    assert "truncated" not in {finding.kind for finding in data.audit.findings}
    (cut,) = [
        f for f in prepare_data(replace(config, windows=2)).audit.findings if f.kind == "truncated"
    ]
    assert f"{1 - 14 / 15:.1%} of all that is written" in cut.text
    assert "--windows 3 (or --max-tokens 30) would read 100% of them whole" in cut.text


def test_a_batch_of_texts_in_windows_is_computed_in_parts(folder):
    def parts(**changes):
        config = settings(folder, audit=False, batch_size=8, **changes)
        return preparing.micro_batches_of(config, prepare_data(config))

    assert [parts(windows=windows) for windows in (1, 2, 3, 8, 9)] == [1, 2, 4, 8, 8]
    assert parts(windows=4, micro_batches=2) == 2
    # 112 texts train.
    config = settings(folder, audit=False, windows=4, batch_size=128)
    assert preparing.micro_batches_of(config, prepare_data(config)) == 1


@pytest.mark.slow
def test_the_savedmodel_needs_tensorflow_and_its_text_operations_alone(run):
    program = (
        "import sys, tensorflow as tf, tensorflow_text\n"
        f"model = tf.saved_model.load({str(run.path(run.SAVED_MODEL))!r})\n"
        "answer = model.signatures['serving_default'](text=tf.constant(['a lovely story']))\n"
        "assert 'keras_tl' not in sys.modules\n"
        "print(answer['probabilities'].numpy()[0].tolist())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wanted = run.model()(tf.constant(["a lovely story"])).numpy()[0]
    np.testing.assert_allclose(json.loads(done.stdout), wanted, atol=1e-6)
