"""The recipes of texts, whole, on made tables and a tiny encoder."""

import re

import pandas as pd
import pytest

from keras_tl.data.texts import from_texts
from keras_tl.runs import load_run
from tests.tiny_encoder import write_reviews, write_tiny_bert

pytestmark = pytest.mark.slow


@pytest.fixture
def encoder(tmp_path):
    return str(write_tiny_bert(tmp_path / "bert"))


def test_fake_news(tmp_path, encoder, capsys):
    from keras_tl.recipes import fake_news_bert

    table = pd.read_csv(write_reviews(tmp_path / "plain.csv", count=240))
    # What gives the label away: a source that only true stories name, not in datelines alone.
    given_away = table["label"] == "positive"
    told = "ROME (Reuters) - " + table.loc[given_away, "text"] + ", as Reuters reports"
    table.loc[given_away, "text"] = told
    table.to_csv(tmp_path / "news.csv", index=False)
    sizes = ["--max-tokens", "16", "--epochs", "3", "--fine-tune-epochs", "1"]
    out = ["--out", str(tmp_path / "run"), "--encoder", encoder]
    fake_news_bert.main([str(tmp_path / "news.csv"), *sizes, *out])
    said = capsys.readouterr().out
    run = load_run(tmp_path / "run")
    assert run.info.text_input.texts == 2
    assert "TF-IDF with logistic regression reaches" in said
    line = next(line for line in said.splitlines() if line.startswith("Without datelines and"))
    assert "euters" in line and "rome" not in line.lower()
    assert 0 <= float(re.search(r"accuracy (\d\.\d+)", line)[1]) <= 1


def test_datelines_are_taken_out():
    from keras_tl.recipes.fake_news_bert import without_datelines

    source = from_texts([("A title", "WASHINGTON (Reuters) - The senate said, Reuters reports.")])
    cleaned = without_datelines(source)
    assert cleaned.items == [("A title", "The senate said, Reuters reports.")]
    assert list(cleaned.hashes) == [""]


def test_sentiment_across_domains(tmp_path, encoder, capsys):
    from keras_tl.recipes import sentiment_across_domains

    first = write_reviews(tmp_path / "first.csv")
    second = pd.read_csv(write_reviews(tmp_path / "second.csv", count=80, seed=5))
    second["text"] = second["text"].str.replace("film", "book")
    few = second[second["label"] == "negative"].head(6)
    second = pd.concat([few, second[second["label"] == "positive"]])
    second.to_csv(tmp_path / "second.csv", index=False)
    sizes = ["--backbone", encoder, "--labels", "0", "4", "20", "--max-tokens", "16"]
    sentiment_across_domains.main(
        [str(first), str(tmp_path / "second.csv"), "--out", str(tmp_path / "run"), *sizes]
    )
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    shown = {row[0]: row[1:] for row in rows if row and row[0].isdigit()}
    # The half to learn from has three negative ones, where ten were asked for.
    assert list(shown) == ["0", "4", "13"]
    assert shown["0"][1] == "-"
    assert all(0 <= float(figure) <= 1 for figure in (shown["0"][0], *shown["4"], *shown["13"]))
