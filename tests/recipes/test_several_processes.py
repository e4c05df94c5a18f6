"""Recipes that train more than once, in two processes: what one gives, and the chief says it."""

import json

import pandas as pd
import pytest
from PIL import Image
from processes import NOTING_SHARES, shares_noted, told_by

from tests.tiny_encoder import write_reviews, write_tiny_bert

# Without what is drawn on each device.
FEW_SHOT = """
import functools
import keras_tl as ktl
from keras_tl.place_options import launch
from keras_tl.recipes import few_shot
ktl.build_image_model = functools.partial(ktl.build_image_model, dropout=0.0)
launch(few_shot.main)
"""
SENTIMENT = """
import functools
import keras_tl as ktl
from keras_tl.place_options import launch
from keras_tl.recipes import sentiment_across_domains
settings = {"dropout": 0.0, "epochs": 3, "fine_tune": "none", "audit": False}
ktl.TrainConfig = functools.partial(ktl.TrainConfig, **settings)
launch(sentiment_across_domains.main)
"""

pytestmark = [pytest.mark.slow, pytest.mark.hour]


def table_of(said, heading):
    """The lines of what was printed, from a heading on."""
    lines = said.splitlines()
    return lines[next(i for i, line in enumerate(lines) if line.startswith(heading)) :]


def test_few_shot(tmp_path, three_colors):
    for index, (pixels, label) in enumerate(zip(*three_colors, strict=True)):
        path = tmp_path / "photos" / "abc"[label] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    options = [tmp_path / "photos", "--backbone", "StillNet", "--epochs", "3"]
    options += ["--shots", "4", "--seeds", "0"]
    program = NOTING_SHARES + FEW_SHOT
    [(alone, _)] = told_by(program, options, tmp_path / "one", 1)
    (chief, _), (other, _) = told_by(program, options, tmp_path / "two", 2)
    assert len(table_of(alone, "images of a class")) == 2
    assert table_of(chief, "images of a class") == table_of(alone, "images of a class")
    assert other == ""
    whole, parts = (shares_noted(tmp_path / name, n) for name, n in (("one", 1), ("two", 2)))
    assert (parts.sum(axis=0) == whole[0]).all() and whole.sum() >= 60
    assert abs(parts[0] - parts[1]).max() <= 1


def test_sentiment_across_domains(tmp_path):
    encoder = write_tiny_bert(tmp_path / "bert")
    settings = json.loads((encoder / "config.json").read_text())
    still = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0)
    (encoder / "config.json").write_text(json.dumps(settings | still))
    first = write_reviews(tmp_path / "first.csv")
    second = pd.read_csv(write_reviews(tmp_path / "second.csv", count=80, seed=5))
    second["text"] = second["text"].str.replace("film", "book")
    second.to_csv(tmp_path / "second.csv", index=False)
    options = [first, tmp_path / "second.csv", "--out", "run", "--backbone", encoder]
    options += ["--labels", "0", "8", "--max-tokens", "16"]
    [(alone, _)] = told_by(SENTIMENT, options, tmp_path / "one", 1)
    (chief, _), (other, _) = told_by(SENTIMENT, options, tmp_path / "two", 2)
    assert len(table_of(alone, "On its own domain")) == 4
    assert table_of(chief, "On its own domain") == table_of(alone, "On its own domain")
    assert other == "" and not (tmp_path / "two" / "1" / "run").exists()
