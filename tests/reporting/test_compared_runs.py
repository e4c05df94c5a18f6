from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from run_folders import Page, make_run

from keras_tl.errors import InputError
from keras_tl.evaluation.bootstrap import mcnemar
from keras_tl.evaluation.metrics import decide
from keras_tl.reporting.comparison import write_comparison


def compare(runs, tmp_path):
    path = write_comparison([made.run for made in runs], tmp_path / "comparison.html")
    page = Page(path.read_text(encoding="utf-8"))
    assert "script" not in page.tags
    return page


def right(made):
    targets = made.source.split("test").targets() > 0.5
    return (decide(made.outputs, made.info) == targets).all(axis=1)


def test_two_runs_on_the_same_images(tmp_path):
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", seed=5, noise=1.6)]
    text = compare(runs, tmp_path).text
    one, two = map(right, runs)
    assert f"{100 * (two.mean() - one.mean()):+.1f} points" in text
    assert f"{(one & ~two).sum()} against {(~one & two).sum()} images" in text
    assert f"{mcnemar(one, two):.3g}" in text
    assert "a/run <b>&" in text and "b/run <b>&" in text
    # The seeds differ, the batch sizes do not.
    assert " seed 0 5 " in text and " batch_size 32 32 " not in text


def test_classes_in_another_order_are_matched_by_name(tmp_path):
    names = ("a", "b", "c")
    one = make_run(tmp_path / "one", names=names, noise=1.6)
    other = make_run(tmp_path / "other", names=names, noise=1.6)
    info = other.info
    turned = type(info)(info.image_input, names[::-1], info.task, backbone=info.backbone)
    turned.write(other.run.folder)
    text = compare([one, other], tmp_path).text
    assert "+0.0 points" in text and "0 against 0 images" in text


def test_only_images_that_both_have_measured_count(tmp_path):
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", seed=5, noise=1.6)]
    path = runs[1].run.path("predictions.csv")
    pd.read_csv(path).iloc[::-1].iloc[:17].to_csv(path, index=False)
    one, two = (right(made)[::-1][:17] for made in runs)
    text = compare(runs, tmp_path).text
    assert f"17 {100 * (two.mean() - one.mean()):+.1f} points" in text


def test_no_image_in_common_is_said(tmp_path):
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b")]
    path = runs[1].run.path("predictions.csv")
    table = pd.read_csv(path)
    table["id"] = [f"other {i}" for i in range(len(table))]
    table.to_csv(path, index=False)
    page = compare(runs, tmp_path)
    assert (
        "Measured on no image with the same content and truth as a/run <b>&, or on one group "
        "alone: b/run <b>&."
    ) in page.text


def test_other_images_of_the_same_names_are_not_matched(tmp_path):
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", seed=5, noise=1.6)]
    path = runs[1].run.path("splits.csv")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    tested = table["split"] == "test"
    table.loc[tested[tested].index[:13], "sha256"] = "0" * 64
    table.to_csv(path, index=False)
    assert f"{tested.sum() - 13} " in compare(runs, tmp_path).text
    one, two = (right(made)[13:] for made in runs)
    text = compare(runs, tmp_path).text
    assert f"{tested.sum() - 13} {100 * (two.mean() - one.mean()):+.1f} points" in text


@pytest.mark.parametrize(("groups", "said"), [(8, "b/run <b>& "), (1, "on one group alone: b/run")])
def test_groups_have_no_test_of_single_images(tmp_path, groups, said):
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", seed=5, noise=1.6)]
    for made in runs:
        path = made.run.path("splits.csv")
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        table["group"] = [f"patient {i % groups}" for i in range(len(table))]
        table.to_csv(path, index=False)
    text = compare(runs, tmp_path).text
    assert said in text and "McNemar" not in text


def test_values(tmp_path):
    runs = [
        make_run(tmp_path / name, task="regression", names=("depth",), noise=noise, seed=seed)
        for name, noise, seed in (("a", 1, 0), ("b", 3, 1))
    ]
    errors = [np.abs(m.outputs - m.source.split("test").targets()).mean() for m in runs]
    text = compare(runs, tmp_path).text
    assert f"{errors[1] - errors[0]:+.4g}" in text
    assert "McNemar" not in text


def test_files_that_are_missing_do_not_matter(tmp_path):
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b")]
    for name in ("history.csv", "config.yaml", "predictions.csv", "splits.csv"):
        runs[1].run.path(name).unlink()
    text = compare(runs, tmp_path).text
    assert "Without a history.csv: b/run" in text


def test_what_cannot_be_compared_is_refused(tmp_path):
    one = make_run(tmp_path / "a")
    values = make_run(tmp_path / "b", task="regression", names=("depth",))
    with pytest.raises(InputError, match="2 to 8 runs"):
        compare([one], tmp_path)
    with pytest.raises(InputError, match="runs of one task"):
        compare([one, values], tmp_path)
    values.run.path("metrics.json").unlink()
    with pytest.raises(InputError, match="finished runs"):
        compare([one, values], tmp_path)


def test_thresholds_that_were_set_later_are_a_difference(tmp_path):
    runs = [make_run(tmp_path / name, names=("a", "b")) for name in "xy"]
    replace(runs[1].info, thresholds=(0.3,)).write(runs[1].run.folder)
    assert " thresholds \u2013 0.3 " in compare(runs, tmp_path).text


def test_a_page_does_not_replace_a_runs_files(tmp_path):
    runs = [make_run(tmp_path / name) for name in "xy"]
    before = runs[0].run.path("metrics.json").read_bytes()
    for name in ("metrics.json", "new.html"):
        with pytest.raises(InputError, match="outside of runs' folders"):
            write_comparison([made.run for made in runs], runs[0].run.path(name))
    assert runs[0].run.path("metrics.json").read_bytes() == before
    with pytest.raises(InputError, match="where a file can be written"):
        write_comparison([made.run for made in runs], tmp_path)
