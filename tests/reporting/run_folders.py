"""Run folders made by code (what `train` writes, without training), and pages read back."""

import json
from dataclasses import dataclass, replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
from PIL import Image

from keras_tl.config import TrainConfig
from keras_tl.data.image_input import ImageInput
from keras_tl.data.source import Source, content_hash
from keras_tl.data.splits import write_splits
from keras_tl.data.text_input import TextInput
from keras_tl.evaluation.metrics import evaluate
from keras_tl.evaluation.predictions import predictions_frame
from keras_tl.model_info import ModelInfo
from keras_tl.runs import Run

# Names that break what does not escape them.
RUN = "run <b>&"
ODD_NAMES = ("<script>alert(1)</script>", "line\nbreak & \"quote\" 'x'", "röd 🟥")
SIZE = 16


@dataclass(frozen=True)
class Made:
    """A run and what it was made from."""

    run: Run
    source: Source
    outputs: np.ndarray
    info: ModelInfo


def labels_of(task, count, outputs, random):
    if task == "single-label":
        return np.arange(count) % outputs
    if task == "multi-label":
        return (random.random((count, outputs)) < 0.4).astype(np.float32)
    return random.normal(50, 10, (count, outputs)).astype(np.float32)


def outputs_of(source, random, noise=1.0):
    """Outputs that are right more often than not."""
    targets = source.targets()
    if source.task == "regression":
        return (targets + random.normal(0, 4 * noise, targets.shape)).astype(np.float32)
    logits = 2.5 * targets + random.normal(0, noise, targets.shape) - 1.0
    if source.task == "multi-label":
        return (1 / (1 + np.exp(-logits))).astype(np.float32)
    powers = np.exp(logits)
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def history_frame(task):
    random = np.random.default_rng(4)
    metric = {"single-label": "accuracy", "multi-label": "binary_accuracy", "regression": "mae"}
    falling = 2.0 / np.arange(1, 9) + random.normal(0, 0.05, 8)
    return pd.DataFrame(
        {
            "phase": ["head"] * 5 + ["fine-tuning"] * 3,
            "epoch": [1, 2, 3, 4, 5, 1, 2, 3],
            "seconds": 0.5,
            "learning_rate": 1e-3,
            metric[task]: 1 - falling / 3,
            "loss": falling,
            f"val_{metric[task]}": 0.9 - falling / 3,
            "val_loss": falling + 0.1,
        }
    )


def phase_facts(name, trainable, computed, cut):
    return {
        "name": name,
        "trainable_parameters": trainable,
        "frozen_parameters": 1000 - trainable,
        "freezing": f"{name}: {trainable} of 1,000 parameters train",
        "frozen_prefix_ends_at": cut,
        "images_through_frozen_prefix": computed,
        "seconds": {"passes": 1.0, "training": 2.0},
    }


def make_run(
    folder, *, task="single-label", names=ODD_NAMES, count=120, seed=0, noise=1.0, images=True
):
    """Writes a run folder with `count` images, a third of them in test."""
    random = np.random.default_rng(0)
    labels = labels_of(task, count, len(names), random)
    files = folder / "images"
    files.mkdir(parents=True, exist_ok=True)
    ids = [f"im <{i}> & 'é' 🟦.png" for i in range(count)]
    for i, name in enumerate(ids):
        if images:
            pixels = random.integers(0, 255, (SIZE, SIZE, 3)).astype(np.uint8)
            pixels[i % SIZE, :] = 255
            Image.fromarray(pixels).save(files / name)
    items = [str(files / name) for name in ids]
    splits = split_column(count, len(names))
    source = Source(np.array(ids, dtype=object), items, labels, tuple(names), task, splits=splits)
    if images:
        source = with_hashes(source)
    info = ModelInfo(ImageInput(size=SIZE), tuple(names), task, backbone="TinyNet")
    write_listing(files, source)
    data = str(files / "list.csv")
    config = TrainConfig(data, str(folder / RUN), "TinyNet", "none", seed=seed)
    return write_run(folder, source, info, config, noise=noise)


def make_text_run(
    folder, *, task="single-label", names=("ham", "spam"), count=120, pair=False, seed=0, noise=1.0
):
    """Writes a run folder with `count` texts, or pairs of them, a third of them in test."""
    random = np.random.default_rng(0)
    labels = labels_of(task, count, len(names), random)
    items = [text_item(i, random, pair) for i in range(count)]
    ids = [f"line {i + 2}" for i in range(count)]
    splits = split_column(count, len(names))
    source = Source(np.array(ids, dtype=object), items, labels, tuple(names), task, splits=splits)
    source = with_hashes(source)
    text_input = TextInput(max_tokens=16, texts=2 if pair else 1)
    info = ModelInfo(None, tuple(names), task, backbone="MiniLM", text_input=text_input)
    columns = ("title", "body") if pair else ("text",)
    folder.mkdir(parents=True, exist_ok=True)
    table = {column: [item[k] for item in items] for k, column in enumerate(columns)}
    table |= {**label_columns(source), "split": source.splits}
    pd.DataFrame(table).to_csv(folder / "texts.csv", index=False)
    text_column = ",".join(columns)
    data, out = str(folder / "texts.csv"), str(folder / RUN)
    config = TrainConfig(data, out, text_column=text_column, pair=pair, seed=seed)
    return write_run(folder, source, info, config, noise=noise)


WORDS = [
    "win",
    "money",
    "now",
    "please",
    "find",
    "the",
    "report",
    "<b>attached</b>",
    "&",
    '"best"',
    "röd",
    "🟥",
    "regards",
]


def text_item(i, random, pair):
    """A text of 1 to 60 words, none of them like another's; of a pair the title is short."""
    body = " ".join([f"nr{i}", *random.choice(WORDS, int(random.integers(0, 60)))])
    return (f"title {i}", body) if pair else (body,)


def split_column(count, classes):
    """Blocks of one sample a class: two of four in train, one in val, one in test."""
    block = np.arange(count) // classes
    return np.array(["train", "val", "test"], dtype=object)[block % 4 % 3]


def with_hashes(source):
    hashes = np.array([content_hash(item) for item in source.items], dtype=object)
    return replace(source, hashes=hashes)


def write_run(folder, source, info, config, noise=1.0):
    """Writes what a run of these settings on these samples leaves, without its model."""
    task, run = info.task, Run(folder / RUN)
    run.begin()
    test = source.split("test")
    outputs = outputs_of(test, np.random.default_rng(config.seed), noise)
    run.path(run.CONFIG).write_text(config.to_yaml(), encoding="utf-8")
    write_splits(source, run.path(run.SPLITS))
    info.write(run.folder)
    history_frame(task).to_csv(run.path(run.HISTORY), index=False)
    frame = predictions_frame(test.ids, outputs, test.targets(), info)
    frame.to_csv(run.path(run.PREDICTIONS), index=False)
    sizes = {name: int((source.splits == name).sum()) for name in ("train", "val", "test")}
    facts = {
        "measured_on": "test",
        "note": "the test split",
        **evaluate(outputs, test.targets(), info),
        "images": sizes,
        "skipped": [{"id": "<i>broken</i>.jpg", "reason": "not an image file"}],
        "phases": [
            phase_facts("head", 30, sizes["train"] * 2 + sizes["val"], ["head_pool"]),
            phase_facts("fine-tuning", 400, 0, []),
        ],
        "seconds": {"data": 1.0, "training": 6.0, "evaluation": 3.0},
    }
    run.path(run.METRICS).write_text(json.dumps(facts), encoding="utf-8")
    return Made(run, source, outputs, info)


def write_listing(files, source):
    """The CSV that the run's data are opened from."""
    columns = label_columns(source)
    frame = pd.DataFrame({"path": source.items, **columns, "split": source.splits})
    frame.to_csv(files / "list.csv", index=False)


def label_columns(source):
    if source.task == "single-label":
        return {"label": [source.class_names[k] for k in source.labels]}
    if source.task == "multi-label":
        names = np.array(source.class_names)
        return {"label": ["|".join(names[row > 0]) or "|" for row in source.labels]}
    return {"label": source.labels[:, 0]}


VOID = {"meta", "link", "img", "br", "line", "rect", "circle"}


class Page(HTMLParser):
    """Reads a page: tags must close in order; texts and what is loaded are kept."""

    def __init__(self, html):
        super().__init__()
        self.open, self.texts, self.loaded, self.tags = [], [], [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loaded += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).replace("\u00a0", " ").split())
