"""Backbones compared on tiny ones, as the Python API and the command line do it."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest
from PIL import Image
from processes import NOTING_SHARES, shares_noted, told_by

from keras_tl import cli, comparison
from keras_tl.backbones import registry
from keras_tl.compare_config import CompareConfig
from keras_tl.comparison import compare
from keras_tl.comparison_table import format_comparison
from keras_tl.config import TrainConfig
from keras_tl.data.arrays import from_arrays
from keras_tl.errors import InputError
from keras_tl.job import train
from keras_tl.training import passes
from tests.conftest import TINY_NET, tiny_net

COMMAND = """
from keras_tl import cli
sys.exit(cli.main(["compare", *sys.argv[1:]]))
"""
# One whose weights only the second process cannot get.
FAR = """
def far_net(**options):
    if sys.argv[-1] == "1":
        raise OSError("the network is unreachable")
    return still_net(**options)

registry.register(dataclasses.replace(conftest.TINY_NET, name="FarNet", factory=far_net))
"""


def blind_net(image_size, weights, include_top):
    """A TinyNet that sees nothing: its output is almost the same for every image."""
    model = tiny_net(image_size, weights, include_top)
    model.get_layer("stem_conv").set_weights([np.full((3, 3, 3, 8), 1e-9)])
    return model


def unreachable_net(image_size, weights, include_top):
    raise OSError("the network is unreachable")


@pytest.fixture(scope="module", autouse=True)
def _nets():
    known = dict(registry._SPECS)
    # Their layers have other names' prefixes only where recognised by name: same graph, same row.
    registry.register(replace(TINY_NET, name="BlindNet", factory=blind_net))
    registry.register(replace(TINY_NET, name="FarNet", factory=unreachable_net))
    registry.register(replace(TINY_NET, name="LargeNet", min_image_size=64))
    yield
    registry._SPECS.clear()
    registry._SPECS.update(known)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    colors = {"red": (200, 60, 60), "green": (60, 200, 60), "blue": (60, 60, 200)}
    for name, color in colors.items():
        (folder / name).mkdir()
        for index in range(50):
            pixels = np.array(color) + random.normal(0, 40, (16, 16, 3))
            image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
            image.save(folder / name / f"{index}.png")
    return folder


def config(photos, backbones="TinyNet", **settings):
    plain = {"weights": "none", "image_size": 16, "augment": "none", "audit": False}
    settings = plain | settings
    return CompareConfig(str(photos), backbones, **settings)


@pytest.mark.slow
def test_what_sees_is_ranked_before_what_does_not(photos, tmp_path):
    out = tmp_path / "new" / "figures.json"
    found = compare(config(photos, "BlindNet,tinynet", out=str(out)), verbose=0)
    assert [candidate.backbone for candidate in found.ranking] == ["TinyNet", "BlindNet"]
    best, worst = found.ranking
    assert best.verdict.probe.score > 0.95 > worst.verdict.probe.score
    assert best.h_score > worst.h_score
    assert best.log_me > worst.log_me
    assert found.tied_with_best == 1
    # A backbone's own parameters, by plain Keras.
    assert best.parameters == tiny_net(16, None, False).count_params()
    # 150 images less the test split of 15 %.
    assert found.images == len(best.verdict.probe.outputs) == 128
    facts = json.loads(out.read_text())
    assert [row["backbone"] for row in facts["ranking"]] == ["TinyNet", "BlindNet"]
    assert facts["ranking"][0]["probe"]["score"] == best.verdict.probe.score


def test_among_equals_the_fastest_comes_first():
    found = compare_two_equals(seconds=(9.0, 2.0))
    assert [candidate.backbone for candidate in found] == ["b", "a"]
    assert [candidate.backbone for candidate in compare_two_equals((2.0, 9.0))] == ["a", "b"]


def test_of_equals_that_are_not_all_timed_the_smallest_comes_first():
    for seconds in ((2.0, None), (None, 2.0), (None, None)):
        found = compare_two_equals(seconds)
        assert [candidate.backbone for candidate in found] == ["b", "a"]
        shown = format_comparison(comparison.Comparison(tuple(found), 2, {}, 100))
        assert "so the smallest, since not all are timed, comes first" in shown


def compare_two_equals(seconds):
    from keras_tl.evaluation.probes import linear_probe

    random = np.random.default_rng(0)
    labels = np.arange(100) % 2
    features = (labels[:, None] + random.normal(size=(100, 4))).astype(np.float32)
    candidates = []
    for name, taken, width, size in zip("ab", seconds, (4, 3), (20, 10), strict=True):
        probe = linear_probe(features[:, :width], labels)
        verdict = comparison.Verdict(False, "", probe, 0.5, 50, 0.0, 0.01, 1.0)
        candidates.append(
            comparison.Candidate(name, 16, size, 0.1, width, verdict, 1.0, 1.0, 0, 9.0, taken)
        )
    ranking, first = comparison._ranked(candidates)
    assert first == 2
    return ranking


@pytest.mark.slow
def test_one_that_fails_does_not_lose_the_others(photos):
    names = "FarNet,LargeNet,TinyNet"
    found = compare(config(photos, names, weights="imagenet"), verbose=0)
    assert [candidate.backbone for candidate in found.ranking] == ["TinyNet"]
    assert set(found.failures) == {"FarNet", "LargeNet"}
    assert "unreachable" in found.failures["FarNet"]
    assert "at least 64" in found.failures["LargeNet"]
    text = format_comparison(found)
    assert "FarNet: " in text and "1. TinyNet" in text
    with pytest.raises(InputError, match="unreachable"):
        compare(config(photos, "FarNet", weights="imagenet"), verbose=0)


def test_a_wrong_name_is_refused_before_any_work(photos, monkeypatch):
    monkeypatch.setattr(comparison, "prepare_data", lambda *_: pytest.fail("work was done"))
    with pytest.raises(InputError, match="Did you mean TinyNet"):
        compare(config(photos, "BlindNet,TinyNut"))


def test_where_figures_cannot_be_written_is_said_before_any_work(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "prepare_data", lambda *_: pytest.fail("work was done"))
    with pytest.raises(InputError, match="where a file can be written, received the folder"):
        compare(config(photos, "TinyNet", out=str(tmp_path)), verbose=0)


@pytest.mark.slow
def test_what_is_stored_is_not_computed_again_and_serves_a_run(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_TL_CACHE", str(tmp_path / "cache"))
    settings = {"augment": "light", "seed": 3}
    first = compare(config(photos, **settings), verbose=0).ranking[0]
    again = compare(config(photos, **settings), verbose=0).ranking[0]
    assert (first.computed, again.computed) == (128, 0)
    assert again.images_per_second == first.images_per_second  # that of the first time
    assert again.verdict.probe.score == first.verdict.probe.score

    weights = tmp_path / "tiny.weights.h5"
    keras.utils.set_random_seed(3)
    save_weights(weights)
    stored = {"weights": str(weights), **settings}
    compare(config(photos, **stored), verbose=0)
    computed = spy_on_passes(monkeypatch)
    run = train(train_config(photos, tmp_path / "run", **stored), verbose=0)
    # View 0 of train and the val images were there for head and fine-tuning; view 1 and the test
    # images were not.
    counts = run.metrics["images"]
    assert sum(computed) < 3 * counts["train"] + 2 * counts["test"]
    assert computed[0] == 0


def save_weights(path):
    from keras_tl.backbones.load import load_backbone

    load_backbone("TinyNet", weights=None).save_weights(path)


def train_config(photos, out, **settings):
    return TrainConfig(
        str(photos),
        str(out),
        backbone="TinyNet",
        image_size=16,
        epochs=2,
        fine_tune_epochs=1,
        **settings,
    )


def spy_on_passes(monkeypatch):
    computed = []
    features = passes.PrefixPass.features

    def spy(self, images, view=None):
        found = features(self, images, view)
        computed.append(self.passes[-1].computed)
        return found

    monkeypatch.setattr(passes.PrefixPass, "features", spy)
    return computed


@pytest.mark.slow
def test_few_shots_are_said_and_so_is_what_is_left_out(photos):
    settings = {"few_shot": True, "shots": "1,5,60", "seeds": "0,1,2"}
    found = compare(config(photos, **settings), verbose=0)
    assert [row.shots for row in found.ranking[0].few_shot] == [1, 5]
    assert found.left_out_shots == (60,)
    text = format_comparison(found)
    assert "5 a class" in text
    assert "too few images: 60" in text


def test_at_most_so_many_images_are_looked_at(photos):
    found = compare(config(photos, images=50), verbose=0)
    assert found.images == 50
    assert found.ranking[0].computed <= found.images


@pytest.mark.parametrize("task", ["multi-label", "regression"])
def test_other_tasks(three_colors, task):
    images, labels = three_colors
    targets = np.eye(3, dtype=np.float32)[labels]
    if task == "regression":
        targets = labels[:, None].astype(np.float32) * 100
    source = from_arrays(images, targets, task=task)
    found = compare(config("-"), source=source, verbose=0)
    [best] = found.ranking
    assert best.verdict.probe.metric == {"multi-label": "mean_average_precision"}.get(task, "r2")
    assert best.verdict.probe.score > 0.7
    assert best.h_score is None
    assert format_comparison(found)
    with pytest.raises(InputError, match="few-shot"):
        compare(config("-", few_shot=True), source=source, verbose=0)


@pytest.mark.slow
def test_the_command_prints_the_ranking(photos, capsys):
    arguments = ["compare", str(photos), "--backbones", "TinyNet,BlindNet", "--weights", "none"]
    assert cli.main([*arguments, "--image-size", "16", "--folds", "3"]) == 0
    out = capsys.readouterr().out
    assert out.index("1. TinyNet") < out.index("2. BlindNet")
    assert "test split was not looked at" in out
    assert " --weights none --image-size 16 --backbone TinyNet --out RUN" in out


@pytest.mark.slow
def test_two_processes_share_the_passes_and_find_what_one_does(photos, tmp_path):
    command = [photos, "--backbones", "StillNet,TinyNet", "--weights", "none", "--engine"]
    command += ["tensorflow", "--feature-dtype", "float32", "--few-shot", "--shots", "2,5"]
    command += ["--no-audit", "--out", "figures.json"]
    program = NOTING_SHARES + COMMAND
    told_by(program, command, tmp_path / "one", 1)
    (chief, _), (other, _) = told_by(program, command, tmp_path / "two", 2)
    assert "test split was not looked at" in chief and other == ""
    assert not (tmp_path / "two" / "1" / "figures.json").exists()
    whole, parts = (shares_noted(tmp_path / name, n) for name, n in (("one", 1), ("two", 2)))
    np.testing.assert_array_equal(parts.sum(axis=0), whole[0])
    assert np.ptp(parts, axis=0).max() <= 1 and whole.sum() == 2 * 128
    found, expected = (
        {row["backbone"]: row for row in json.loads(path.read_text())["ranking"]}
        for path in (tmp_path / name / "0" / "figures.json" for name in ("two", "one"))
    )
    assert found.keys() == {"StillNet", "TinyNet"}
    for name, row in found.items():
        for figure in ("h_score", "log_me"):
            assert row[figure] == pytest.approx(expected[name][figure], abs=1e-4)
        for part in ("probe", "few_shot", "computed", "features", "parameters"):
            assert row[part] == expected[name][part]


@pytest.mark.slow
def test_what_one_process_cannot_look_at_ends_each_in_a_line(photos, tmp_path):
    command = [photos, "--backbones", "FarNet", "--no-audit"]
    said = told_by(FAR + COMMAND, command, tmp_path, 2, code=[75, 2])
    for (_, errors), reason in zip(said, ("one that does not answer", "FarNet"), strict=True):
        assert f"received {reason}" in errors.splitlines()[-1] and "Traceback" not in errors
