"""What recipes refuse before they train, where they write their tables, and how they go on."""

import json
import sys
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
from keras_tl.recipes import (
    fake_news_bert,
    few_shot,
    hub_image_classifier,
    medical_images,
    multi_label,
    regression,
    sentiment_across_domains,
    solar_cells,
    vehicles_vgg16,
)
from PIL import Image

import keras_tl as ktl
from keras_tl import cli
from keras_tl.errors import InputError
from keras_tl.runs import Run
from tests.tiny_encoder import write_reviews, write_tiny_bert

ON_CELLS = (medical_images, multi_label, regression)


class Trained(Exception):
    """What stands for a training."""


@pytest.fixture
def trainings(monkeypatch):
    """The settings of all that would have been trained."""
    begun = []

    def train(config, **_):
        begun.append(config)
        raise Trained

    monkeypatch.setattr(ktl, "train", train)
    return begun


@pytest.fixture
def cells(monkeypatch, tmp_path_factory):
    """Six hundred solar cells, ten stretches of sixty."""
    folder, random = tmp_path_factory.mktemp("cells"), np.random.default_rng(0)
    paths = [folder / f"{index}.png" for index in range(600)]
    for path in paths:
        Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)).save(path)
    table = pd.DataFrame({"path": map(str, paths), "probability": np.arange(600) % 4 / 3})
    table["type"] = np.resize(["mono", "poly"], 600)
    monkeypatch.setattr(solar_cells, "read_cells", table.copy)


def write_table(folder, **columns):
    """Sixty noisy images, and a table of them."""
    random = np.random.default_rng(0)
    for index in range(60):
        pixels = random.integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    paths = [f"{index}.png" for index in range(60)]
    pd.DataFrame({"path": paths, **columns}).to_csv(folder / "table.csv", index=False)
    return str(folder / "table.csv")


@pytest.mark.usefixtures("cells")
@pytest.mark.parametrize("recipe", ON_CELLS, ids=lambda recipe: recipe.__name__)
@pytest.mark.parametrize("ending", ["", "/"])
def test_the_table_of_cells_is_beside_the_run(tmp_path, trainings, recipe, ending):
    with pytest.raises(Trained):
        recipe.main(["--out", f"{tmp_path}/run{ending}"])
    assert [path.name for path in tmp_path.iterdir()] == ["run-cells.csv"]
    assert trainings[0].data == str(tmp_path / "run-cells.csv")
    assert len(pd.read_csv(trainings[0].data)) == 600


@pytest.mark.usefixtures("cells")
@pytest.mark.parametrize("recipe", ON_CELLS, ids=lambda recipe: recipe.__name__)
def test_nothing_is_written_where_settings_or_folder_cannot_be_used(tmp_path, trainings, recipe):
    out = tmp_path / "run"
    with pytest.raises(InputError, match="epochs"):
        recipe.main(["--out", str(out), "--epochs", "-1"])
    assert list(tmp_path.iterdir()) == []
    out.mkdir()
    (out / Run.METRICS).write_text("{}")
    with pytest.raises(InputError, match="finished run"):
        recipe.main(["--out", str(out)])
    assert list(tmp_path.iterdir()) == [out]
    assert not trainings


@pytest.mark.usefixtures("cells")
@pytest.mark.parametrize("share", ["0", "1.5", "-1", "nan"])
def test_screening_refuses_a_specificity_first(tmp_path, trainings, share):
    with pytest.raises(InputError, match="specificity above 0 and at most 1"):
        medical_images.main(["--out", str(tmp_path / "run"), "--specificity", share])
    assert list(tmp_path.iterdir()) == [] and not trainings


@pytest.mark.parametrize(
    ("labels", "told"), [(["ill", "well"], "one of them il,"), (["ill", "well", "dead"], "with 3")]
)
def test_screening_refuses_classes_first(tmp_path, trainings, labels, told):
    patients = [f"p{index // 2}" for index in range(60)]
    table = write_table(tmp_path, label=np.resize(labels, 60), patient=patients)
    options = [table, "--out", str(tmp_path / "run"), "--positive"]
    with pytest.raises(InputError, match=told):
        medical_images.main([*options, "il" if len(labels) == 2 else "ill"])
    assert not trainings and not (tmp_path / "run").exists()
    if len(labels) == 2:
        with pytest.raises(Trained):
            medical_images.main([*options, "ill"])


def test_few_shot_learns_from_all_splits(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ktl, "run_phases", lambda *_, **__: None)
    monkeypatch.setattr(ktl, "measure", lambda *_, **__: ({"accuracy": 0.625}, None))
    splits = np.repeat(["train", "val", "test"], 20)
    table = write_table(tmp_path, label=np.resize(["a", "b", "c"], 60), split=splits)
    sizes = ["--backbone", "TinyNet", "--epochs", "1"]
    few_shot.main([table, "--shots", "2", "20", "30", "--seeds", "0", *sizes])
    rows = capsys.readouterr().out.splitlines()[1:]
    # One seed has no interval.
    assert rows[0].split()[0] == "2" and rows[0].endswith("62.5 ± –")
    left_out = "Left out, since a class has too few images, or its groups leave none:"
    assert rows[1:] == [f"{left_out} 20 30"]


@pytest.mark.parametrize(
    ("options", "told"),
    [(["--seeds", "0", "-1"], "seeds of at least 0"), (["--shots", "0"], "shots of at least 1")],
)
def test_few_shot_refuses_numbers(options, told):
    with pytest.raises(InputError, match=told):
        few_shot.main(["nowhere", *options])


@pytest.mark.parametrize(
    ("labels", "task"), [(["a", "a|b"], "multi-label"), ([0.25, 1.5], "regression")]
)
@pytest.mark.parametrize("recipe", ["few_shot", "hub", "vehicles"])
def test_what_has_not_one_class_each_is_refused(tmp_path, recipe, labels, task):
    table = write_table(tmp_path, label=np.resize(labels, 60))
    run = {
        "few_shot": lambda: few_shot.main([table, "--backbone", "TinyNet"]),
        "hub": lambda: hub_image_classifier.retrain(table, None, tmp_path / "out", 1, 0),
        "vehicles": lambda: vehicles_vgg16.run(table, str(tmp_path / "out"), "none", 1, 2),
    }
    with pytest.raises(InputError, match=f"one class for each image.* {task}"):
        run[recipe]()


def test_a_regression_has_one_target(tmp_path, trainings):
    table = write_table(tmp_path, age=np.arange(60.0), weight=np.arange(60.0))
    with pytest.raises(InputError, match="one column as the target, received 'age,weight'"):
        regression.main([table, "--target", "age,weight", "--out", str(tmp_path / "run")])
    assert not trainings and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("labels", "task"), [(["a", "a|b"], "multi-label"), ([0.25, 1.5], "regression")]
)
def test_news_have_one_class_each(tmp_path, trainings, labels, task):
    table = pd.read_csv(write_reviews(tmp_path / "news.csv"))
    table["label"] = np.resize(labels, len(table))
    table.to_csv(tmp_path / "news.csv", index=False)
    options = [
        "--columns",
        "text",
        "--max-tokens",
        "16",
        "--encoder",
        str(write_tiny_bert(tmp_path / "bert")),
    ]
    with pytest.raises(InputError, match=f"one class for each story, received {task}"):
        fake_news_bert.main([str(tmp_path / "news.csv"), "--out", str(tmp_path / "run"), *options])
    assert not trainings


def test_the_hubs_recipe_refuses_to_train_what_it_cannot_measure(tmp_path):
    table = write_table(tmp_path, label=np.resize(["a", "b"], 60), split=["train"] * 60)
    with pytest.raises(InputError, match="0 in a test or val split"):
        hub_image_classifier.retrain(table, None, tmp_path / "out", 1, 0)
    assert not (tmp_path / "out").exists()


def test_vehicles_without_a_test_split_are_measured_on_val(tmp_path, monkeypatch, capsys):
    build = ktl.build_image_model

    def tiny(_, **options):
        return build("TinyNet", outputs=options["outputs"], weights=None, image_size=224)

    monkeypatch.setattr(ktl, "build_image_model", tiny)
    monkeypatch.setattr(ktl, "run_phases", lambda *_, **__: None)
    monkeypatch.setattr(ktl, "export_saved_model", lambda *_, **__: None)
    splits = ["train"] * 48 + ["val"] * 12
    table = write_table(tmp_path, label=np.resize(["car", "bus"], 60), split=splits)
    out = tmp_path / "out"
    vehicles_vgg16.main([table, "--out", str(out), "--epochs", "1", "--views", "2"])
    figures = json.loads((out / "metrics.json").read_text())
    assert (figures["measured_on"], figures["samples"]) == ("val", 12)
    assert "Measured on the val split" in capsys.readouterr().out
    assert len(pd.read_csv(out / "predictions.csv")) == 12


@pytest.mark.parametrize(
    ("word", "labels", "told"),
    [
        ("positive", "1", "0 or at least 2 labels"),
        ("positive", "-4", "0 or at least 2 labels"),
        ("other", "8", "labels among 'negative', 'positive'"),
        (None, "8", "second"),
    ],
)
def test_the_second_domain_is_looked_at_first(tmp_path, trainings, word, labels, told):
    encoder = str(write_tiny_bert(tmp_path / "bert"))
    first = write_reviews(tmp_path / "first.csv")
    if word:
        texts = first.read_text().replace("positive", word).replace("film", "book")
        (tmp_path / "second.csv").write_text(texts)
    options = ["--out", str(tmp_path / "run"), "--backbone", encoder, "--max-tokens", "16"]
    paths = [str(first), str(tmp_path / "second.csv")]
    with pytest.raises(InputError, match=told):
        sentiment_across_domains.main([*paths, *options, "--labels", "0", labels])
    assert not trainings


@pytest.fixture
def demo(tmp_path, monkeypatch, cells):
    """Runs the demo's recipe with options; the seeds it trained, of which 1 was killed once."""
    trained, killed = [], []

    def train(config, **_):
        assert len(pd.read_csv(config.data)) == 600
        trained.append(config.seed)
        if config.seed == 1 and not killed:
            killed.append(1)
            raise KeyboardInterrupt
        run = Run(config.out)
        run.folder.mkdir()
        run.path(run.CONFIG).write_text(config.with_absolute_paths().to_yaml())
        figures = {"accuracy": 0.8 + config.seed / 10, "seconds": {"training": 60}}
        run.path(run.METRICS).write_text(json.dumps(figures))
        return run

    def main(*options):
        monkeypatch.setattr(sys, "argv", ["solar_cells.py", "--out", f"{tmp_path}/run/", *options])
        trained.clear()
        with suppress(KeyboardInterrupt):
            solar_cells.main()
        return trained

    monkeypatch.setattr(ktl, "train", train)
    return main


def test_the_demo_goes_on_with_the_seeds_it_has(tmp_path, demo, capsys):
    assert demo("--seeds", "0", "1", "2") == [0, 1]
    assert demo("--seeds", "0", "1", "2") == [1, 2]
    assert demo("--seeds", "0", "1", "2") == []
    assert "mean 90.00 %, standard deviation 10.00" in capsys.readouterr().out
    tables = [f"run-{seed}-cells-seed-{seed}.csv" for seed in range(3)]
    assert sorted(path.name for path in tmp_path.glob("*.csv")) == tables


def test_the_demo_takes_no_run_of_other_settings(tmp_path, demo):
    assert demo("--seeds", "0") == [0]
    config = tmp_path / "run-0" / Run.CONFIG
    config.write_text(config.read_text().replace("epochs: 4\n", "epochs: 5\n"))
    with pytest.raises(InputError, match="finished run"):
        demo("--seeds", "0")


def test_the_demo_refuses_a_seed_before_any_training(tmp_path, demo, capsys):
    with pytest.raises(InputError, match="seed of at least 0"):
        demo("--seeds", "0", "-1")
    assert cli.main(["demo", "--seed", "-1", "--out", str(tmp_path / "run")]) == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith("keras-tl: Expected seed of at least 0") and "\n" not in line
    assert list(tmp_path.iterdir()) == []


def test_the_demos_command_takes_a_folder_with_a_slash(tmp_path, demo, monkeypatch):
    monkeypatch.setattr(cli, "_show_run", lambda run: 0)
    assert cli.main(["demo", "--out", f"{tmp_path}/run/"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run-cells-seed-0.csv"]


@pytest.mark.parametrize("recipe", [hub_image_classifier, vehicles_vgg16])
def test_a_folder_with_a_model_and_one_in_the_data_are_refused(tmp_path, recipe):
    """Else the new model would lie beside the figures of the old one, or be taken for a class."""
    for name in "ab":
        (tmp_path / "photos" / name).mkdir(parents=True)
    photos = str(tmp_path / "photos")
    with pytest.raises(InputError, match="a folder for the run outside the data"):
        recipe.main([photos, "--out", f"{photos}/run"])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / Run.MODEL).write_bytes(b"")
    with pytest.raises(InputError, match=r"which has a model\.keras"):
        recipe.main([photos, "--out", str(tmp_path / "run")])
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="which is a file"):
        recipe.main([photos, "--out", str(tmp_path / "file")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "photos", "run"]


def test_screening_needs_both_classes_to_choose_and_to_measure_on(tmp_path, trainings):
    labels = ["ill"] * 20 + ["well"] * 40
    patients = ["one"] * 20 + [f"p{index}" for index in range(40)]
    table = write_table(tmp_path, label=labels, patient=patients)
    with pytest.raises(InputError, match=r"ill and well in the (val|test) split, received 1"):
        medical_images.main([table, "--out", str(tmp_path / "run")])
    assert not trainings and not (tmp_path / "run").exists()


def test_texts_of_the_first_domain_are_no_second_one(tmp_path, trainings, capsys):
    encoder = str(write_tiny_bert(tmp_path / "bert"))
    first = pd.read_csv(write_reviews(tmp_path / "first.csv"))
    second = pd.read_csv(write_reviews(tmp_path / "second.csv", count=80, seed=5))
    second["text"] = second["text"].str.replace("film", "book")
    pd.concat([second, first.iloc[:7]]).to_csv(tmp_path / "second.csv", index=False)
    options = ["--out", str(tmp_path / "run"), "--backbone", encoder, "--max-tokens", "16"]
    paths = [str(tmp_path / "first.csv"), str(tmp_path / "second.csv")]
    with pytest.raises(Trained):
        sentiment_across_domains.main([*paths, *options])
    assert capsys.readouterr().out.startswith("7 texts of the second domain are in the first too")


def test_few_shot_measures_on_no_near_duplicate_of_what_it_learnt_from(tmp_path, monkeypatch):
    """Of noise with arbitrary labels, copies at another size would be recognised."""
    monkeypatch.setattr(ktl, "run_phases", lambda *_, **__: None)
    monkeypatch.setattr(ktl, "measure", lambda *_, **__: ({"accuracy": 0.5}, None))
    table = pd.read_csv(write_table(tmp_path, label=np.resize(["a", "b"], 60)))
    copies = []
    for path in table["path"]:
        with Image.open(tmp_path / path) as image:
            image.resize((64, 64), Image.Resampling.BICUBIC).save(tmp_path / f"copy of {path}")
        copies.append(f"copy of {path}")
    both = pd.concat([table, table.assign(path=copies)])
    both.to_csv(tmp_path / "table.csv", index=False)
    seen = []

    def draw(labels, count, *, seed, groups):
        seen.append(len(np.unique(groups)))
        return np.arange(2), np.arange(2, len(labels))

    monkeypatch.setattr("keras_tl.evaluation.probes.draw", draw)
    options = ["--backbone", "TinyNet", "--epochs", "1", "--shots", "1", "--seeds", "0"]
    few_shot.main([str(tmp_path / "table.csv"), *options])
    assert set(seen) == {60}
