"""Sections on the data, the settings, and on using what came out."""

import shlex
from collections import Counter

import numpy as np
import pandas as pd

from keras_tl.backbones.hub_handles import HUB
from keras_tl.data.source import SPLITS
from keras_tl.export.facts import agreement, read_exports
from keras_tl.model_info import FILE_NAME, ModelInfo
from keras_tl.reporting.blocks import (
    Block,
    Cell,
    Code,
    Details,
    Section,
    Table,
    Text,
    number,
    percent,
    row,
)
from keras_tl.reporting.facts import Facts, label_counts, label_matrix

# Classes and files that are listed at most.
SHOWN_CLASSES, SHOWN_FILES = 30, 100


def balance(facts: Facts) -> Section:
    """How many samples of each class are in which split; of a regression how values spread."""
    title, splits, info = "The data", facts.splits, facts.info
    if splits is None or info is None:
        why = "This needs splits.csv and model.json, which the run does not have."
        return Section(title, (Text(why, "quiet"),))
    sizes = Counter(splits["split"])
    told = ", ".join(f"{sizes[name]:,} {name}" for name in SPLITS if sizes[name])
    blocks: list[Block] = [Text(f"{len(splits):,} {facts.nouns}: {told}.")]
    by_split = {name: splits["label"][splits["split"] == name] for name in SPLITS}
    make = _values if facts.task == "regression" else _classes
    blocks.append(make(facts, info, by_split))
    if groups := len(set(splits["group"]) - {""}):
        blocks.append(Text(f"{groups:,} groups, none of them divided by keras_tl.", "quiet"))
    return Section(title, (*blocks, *_skipped(facts)))


def _classes(facts: Facts, info: ModelInfo, by_split: dict[str, pd.Series]) -> Table:
    counts = {name: label_counts(part, info) for name, part in by_split.items()}
    train = counts["train"]
    order = np.argsort(train, kind="stable")[:SHOWN_CLASSES]
    largest = max(int(train.max()), 1)
    rows = [
        [
            Cell(facts.class_names[i]),
            Cell(f"{train[i]:,}", bar=train[i] / largest),
            *(Cell(f"{counts[name][i]:,}") for name in SPLITS[1:]),
            Cell(percent(train[i] / max(len(by_split["train"]), 1))),
        ]
        for i in order
    ]
    few = len(train) > len(rows)
    caption = f"The {len(rows)} classes of {len(train):,} with the fewest {facts.nouns}."
    return Table(["class", *SPLITS, "share of train"], rows, caption if few else "")


def _values(facts: Facts, info: ModelInfo, by_split: dict[str, pd.Series]) -> Table:
    rows = []
    matrices = {name: label_matrix(part, info) for name, part in by_split.items()}
    for k, target in enumerate(facts.class_names[:SHOWN_CLASSES]):
        for split, values in matrices.items():
            if len(values):
                column = values[:, k]
                shown = (column.mean(), column.std(), column.min(), column.max())
                rows.append(row(f"{target}, {split}", f"{len(column):,}", *map(number, shown)))
    head = ["target, split", facts.nouns, "mean", "deviation", "least", "largest"]
    few = len(facts.class_names) > SHOWN_CLASSES
    caption = f"The first {SHOWN_CLASSES} of {len(facts.class_names):,} targets." if few else ""
    return Table(head, rows, caption)


def _skipped(facts: Facts) -> list[Block]:
    skipped = facts.metrics.get("skipped")
    if skipped is None:
        return [Text("metrics.json says nothing of files that were passed over.", "quiet")]
    if not skipped:
        return [Text("No file was passed over.", "quiet")]
    rows = [row(entry["id"], entry["reason"]) for entry in skipped[:SHOWN_FILES]]
    left = len(skipped) - len(rows)
    caption = f"{left:,} more are in metrics.json." if left else ""
    noun = "file" if len(skipped) == 1 else "files"
    title = f"{len(skipped):,} {noun} passed over, with reasons"
    return [Details(title, (Table(["file", "reason"], rows, caption, names=2),))]


def usage(facts: Facts) -> Section:
    """How the exported model is used, in lines to copy."""
    if not facts.metrics:
        return Section("Using the model", (Text("The run did not come to its end.", "note"),))
    makers = {"image": _with_images, "text": _with_texts}
    where = Text("Paths are seen from the folder that the run lies in.", "quiet")
    return Section("Using the model", (where, *makers[facts.noun](facts), *_exports(facts)))


def _with_texts(facts: Facts) -> list[Block]:
    """Texts in."""
    name = facts.name
    pair = facts.info is not None and facts.info.text_input and facts.info.text_input.texts == 2
    given = 'text=tf.constant(["A text."])'
    strings = '["A text."]'
    if pair:
        given = 'text=tf.constant(["A title."]), text_pair=tf.constant(["A text."])'
        strings = '[["A title.", "A text."]]'
    python = (
        "import tensorflow as tf\n"
        "import tensorflow_text  # has the tokenizer's operations\n\n"
        f"model = tf.saved_model.load({name + '/saved_model'!r})\n"
        f'answer = model.signatures["serving_default"]({given})\n'
        "print({key: value.numpy() for key, value in answer.items()})"
    )
    keras = (
        "import tensorflow as tf\n\nimport keras_tl\n\n"
        f"model = keras_tl.load_run({name!r}).model()  # a keras.Model\n"
        f"outputs = model(tf.constant({strings}))"
    )
    command = f"keras-tl predict {shlex.quote(name)} " + ("pairs.csv" if pair else "'A text.'")
    return [
        Code(command, "On the command line"),
        Code(python, f"In Python without keras_tl: texts in, {_given(facts)} out"),
        Code(keras, "As a Keras model"),
    ]


def _given(facts: Facts) -> str:
    """What an exported model answers with."""
    return "values" if facts.task == "regression" else "class names and probabilities"


def _with_images(facts: Facts) -> list[Block]:
    """Image files or pixels in."""
    name = facts.name
    python = (
        "import tensorflow as tf\n\n"
        f"model = tf.saved_model.load({name + '/saved_model'!r})\n"
        'answer = model.signatures["serving_default"](\n'
        '    image_bytes=tf.constant([open("photo.jpg", "rb").read()])\n'
        ")\n"
        "print({key: value.numpy() for key, value in answer.items()})"
    )
    # A module of TF-Hub is in the file as a layer of keras_tl, all else as Keras' own.
    is_of_hub = facts.info is not None and (facts.info.backbone or "").startswith(HUB)
    imports = "import keras\n\nimport keras_tl" if is_of_hub else "import keras"
    load = f"keras.models.load_model({name + '/model.keras'!r}, compile=False)"
    keras = f"{imports}\n\nmodel = {load}"
    if facts.info is not None:
        size = facts.info.images.size
        keras += (
            f"\n# pixels: uint8 RGB in 0..255, [images, {size}, {size}, 3]"
            "\noutputs = model.predict(pixels)"
        )
    command = f"keras-tl predict {shlex.quote(name)} photo.jpg"
    return [
        Code(command, "On the command line"),
        Code(python, f"In Python without keras_tl: image files in, {_given(facts)} out"),
        Code(keras, "As a Keras model: pixels in"),
    ]


def _exports(facts: Facts) -> list[Block]:
    """What `keras-tl export` has written, or how it is asked."""
    exports = read_exports(facts.run.folder)
    if not exports and facts.noun == "text":
        return []
    if not exports:
        command = f"keras-tl export {shlex.quote(facts.name)} --format litert,onnx"
        return [
            Code(command, "For LiteRT or ONNX Runtime, with a program that needs no TensorFlow")
        ]
    rows = []
    for name, found in exports.items():
        taken = found["milliseconds"]
        times = [f"{taken[key]:.1f} ms" for key in ("one_thread", "all_cores")]
        rows.append(row(name, agreement(found), f"{found['bytes'] / 1e6:.1f} MB", *times))
    first = f"{shlex.quote(facts.name)}/{next(iter(exports))}"
    caption = "Times: one image through the model, without decoding, where it was exported."
    head = ["export", "beside Keras", "size", "one thread", "all cores"]
    stale = [name for name in exports if _is_stale(facts, name)]
    warning = "Exported before its thresholds or classes were changed, to be exported again: "
    return [
        *([Text(warning + ", ".join(stale) + ".", "note")] if stale else []),
        Code(f"python {first}/predict.py photo.jpg", "Without TensorFlow and keras_tl"),
        Table(head, rows, caption, names=2),
    ]


def _is_stale(facts: Facts, export: str) -> bool:
    """Whether an export decides otherwise than the run now does."""
    return ModelInfo.read(facts.run.path(f"{export}/{FILE_NAME}")) != facts.info


def settings(facts: Facts) -> Section:
    """The configuration as it was written down."""
    title = "Settings"
    if facts.config is None:
        return Section(title, (Text("The run has no config.yaml.", "quiet"),))
    blocks = (Details("config.yaml", (Code(facts.config.rstrip()),)),)
    return Section(title, blocks)
