"""A TensorFlow Datasets (TFDS) data set as a `Source`."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from keras_tl.data.checks import refuse_scaled_pixels
from keras_tl.data.labels import Labels, first_few, read_labels
from keras_tl.data.source import SPLITS, Source
from keras_tl.data.splits import SPLIT_ALIASES, parse_split
from keras_tl.data.texts import as_texts
from keras_tl.errors import InputError, did_you_mean, in_one_line

log = logging.getLogger("keras_tl")


def from_tfds(
    name: str,
    *,
    data_dir: str | None = None,
    splits: Mapping[str, str] | None = None,
    image_key: str = "image",
    label_key: str = "label",
    task: str = "auto",
    download: bool = True,
) -> Source:
    """Reads a TFDS data set, prepared before (then no network is needed) or downloaded now.

    Images stay encoded, so that this library's decoder is the only one. All of them are held in
    memory: about the size of the prepared data set on disk; data sets that do not fit must be
    written to a folder or CSV first.

    Args:
        name: A TFDS name, with configuration and version where wanted: "cifar10",
            "cars196:2.1.0".
        data_dir: Where TFDS keeps its data; None takes its default.
        splits: What to read, TFDS splits or slices of them, and what each is for us: "train",
            "val", "test", or "" for what is to be assigned: `{"train[:80%]": "train",
            "train[80%:]": "test"}`. None reads every split under its own name (validation is val);
            the items of a lone train split are still to be assigned.
        image_key: The feature with images.
        label_key: The feature with labels: a class label, several, or a number.
        task: "auto" or a task's name.
        download: Whether to download and prepare what is not there.

    Returns:
        A source whose ids are TFDS ids (file and position) and whose items are encoded images,
        or uint8 arrays where the data set stores plain tensors.

    Raises:
        InputError: The data set, a feature or a split does not exist or cannot be used, all
            pixels are 0 or 1, or the download failed.
    """
    builder = _open(name, data_dir, download)
    features = _require_features(builder, name, [image_key, label_key])
    _require_images(features[image_key], image_key)
    plan = _plan(name, list(builder.info.splits), splits)
    source = _source(builder, plan, [image_key], label_key, task)
    source = replace(source, items=[item[0] for item in source.items])
    refuse_scaled_pixels(source.items)
    return source


def from_text_tfds(
    name: str,
    text_key: str = "text",
    *,
    pair: bool = False,
    data_dir: str | None = None,
    splits: Mapping[str, str] | None = None,
    label_key: str = "label",
    task: str = "auto",
    download: bool = True,
) -> Source:
    """Reads a TFDS data set of texts, see `from_tfds`.

    Args:
        name: A TFDS name: "imdb_reviews".
        text_key: The feature with texts, or several separated by commas.
        pair: Whether two features are a pair of texts; else they are joined.
        data_dir: See `from_tfds`.
        splits: See `from_tfds`; None leaves out splits with other names, and logs that.
        label_key: See `from_tfds`.
        task: See `from_tfds`.
        download: See `from_tfds`.

    Returns:
        A source whose items are tuples of one text, or of two. What shows nothing is listed in
        `skipped` as bad.

    Raises:
        InputError: As of `from_tfds`.
    """
    builder = _open(name, data_dir, download)
    keys = [key.strip() for key in text_key.split(",")]
    _require_features(builder, name, [*keys, label_key])
    existing = list(builder.info.splits)
    if splits is None and (known := [s for s in existing if s.lower() in SPLIT_ALIASES]):
        if left_out := sorted(set(existing) - set(known)):
            log.info("Left out, as it is neither train, val nor test: %s.", ", ".join(left_out))
        existing = known
    source = _source(builder, _plan(name, existing, splits), keys, label_key, task)
    return as_texts(source, pair)


def _require_features(
    builder: tfds.core.DatasetBuilder, name: str, wanted: Sequence[str]
) -> tfds.features.FeaturesDict:
    features = builder.info.features
    for key in wanted:
        if key not in features:
            hint = did_you_mean(key, features, "Name one of them.")
            raise InputError(f"a feature {key!r} in {name}", ", ".join(features), hint)
    return features


def _source(
    builder: tfds.core.DatasetBuilder,
    plan: Mapping[str, str],
    keys: Sequence[str],
    label_key: str,
    task: str,
) -> Source:
    """All examples; items are tuples of what the features `keys` hold."""
    ids, items, labels, given = _read(builder, plan, keys, label_key)
    _refuse_overlap(ids, plan)
    feature = builder.info.features[label_key]
    if isinstance(feature, tfds.features.ClassLabel):
        # TFDS labels items without a label -1, as in the test splits of contests.
        labelled = [i for i, label in enumerate(labels) if label >= 0]
        unlabelled = Counter(given) - Counter(given[i] for i in labelled)
        if not labelled:
            fix = "Name another label_key, or another data set."
            raise InputError(f"labels in the feature {label_key!r}", "-1 everywhere: none", fix)
        for split, count in unlabelled.items():
            log.warning("%d items of %s have no label and are left out", count, split or "the data")
        ids, items, labels, given = (
            [values[i] for i in labelled] for values in (ids, items, labels, given)
        )
    read = _read_labels(labels, feature, label_key, task)
    return Source(
        ids=np.array(ids, dtype=object),
        items=items,
        labels=read.values,
        class_names=read.class_names,
        task=read.task,
        splits=np.array(given, dtype=object),
        given_splits=tuple(split for split in SPLITS if split in given),
    )


def _open(name: str, data_dir: str | None, download: bool) -> tfds.core.DatasetBuilder:
    """The builder of a data set that is prepared."""
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        hint = did_you_mean(name, tfds.list_builders(), "Check the name and the data folder.")
        raise InputError("the name of a TFDS data set", repr(name), hint) from error
    except (ValueError, AssertionError) as error:  # a name, configuration or version it cannot read
        raise InputError(
            "the name of a TFDS data set", repr(name), in_one_line(error) + "."
        ) from error
    if builder.is_prepared():
        return builder
    if not download:
        raise InputError(
            f"{name} prepared in {str(builder.data_dir)!r}",
            "nothing there",
            "Let it be downloaded, or give another data_dir.",
        )
    log.info("Downloading and preparing %s into %s.", name, builder.data_dir)
    # OSError covers no network and a full disk; AssertionError is what TFDS raises where files
    # have to be downloaded by hand.
    try:
        builder.download_and_prepare()
    except (tfds.download.DownloadError, OSError, AssertionError) as error:
        raise InputError(
            f"{name} to be downloadable",
            in_one_line(error, 300),
            "Prepare it where there is a network, and give its data_dir.",
        ) from error
    return builder


def _require_images(feature: Any, key: str) -> None:
    """Accepts images, and tensors that are images."""
    shape, dtype = feature.shape, np.dtype(feature.np_dtype)
    encoded = isinstance(feature, tfds.features.Image) and dtype in (np.uint8, np.uint16)
    if encoded or (len(shape) == 3 and shape[2] in (1, 3, 4) and dtype == np.uint8):
        return
    raise InputError(
        f"images of integers in the feature {key!r}",
        f"{type(feature).__name__} of {dtype} {list(shape)}",
        "Name another feature as image_key.",
    )


def _plan(name: str, existing: list[str], wanted: Mapping[str, str] | None) -> dict[str, str]:
    """What to read, and which split of ours each is."""
    if wanted is not None:
        return {part: parse_split(split) for part, split in wanted.items()}
    unknown = [part for part in existing if part.lower() not in SPLIT_ALIASES]
    if unknown or not existing:
        raise InputError(
            f"splits called train, validation or test in {name}",
            ", ".join(existing) or "none",
            "Say what to read as what: splits={'train': 'train', ...}.",
        )
    if [part.lower() for part in existing] == ["train"]:
        return {existing[0]: ""}
    return {part: SPLIT_ALIASES[part.lower()] for part in existing}


def _read(
    builder: tfds.core.DatasetBuilder, plan: Mapping[str, str], keys: Sequence[str], label_key: str
) -> tuple[list[str], list[Any], list[Any], list[str]]:
    """Ids, items, labels and splits of all examples."""
    ids: list[str] = []
    items: list[Any] = []
    labels: list[Any] = []
    given: list[str] = []
    for part, split in plan.items():
        for example in _examples(builder, part, keys, label_key):
            ids.append(example["tfds_id"].decode())
            items.append(tuple(example[key] for key in keys))
            labels.append(example[label_key])
            given.append(split)
    return ids, items, labels, given


def _examples(
    builder: tfds.core.DatasetBuilder, part: str, keys: Sequence[str], label_key: str
) -> Any:
    """Examples of one split as NumPy values, in TFDS' own order, images still encoded."""
    features = builder.info.features
    images = [key for key in keys if isinstance(features[key], tfds.features.Image)]
    decoders = tfds.decode.PartialDecoding(
        dict.fromkeys((*keys, label_key), True),
        decoders={key: tfds.decode.SkipDecoding() for key in images} or None,
    )
    try:
        dataset = builder.as_dataset(
            split=part,
            shuffle_files=False,
            decoders=decoders,
            read_config=tfds.ReadConfig(add_tfds_id=True),
        )
    except ValueError as error:
        existing = ", ".join(builder.info.splits)
        raise InputError(
            "splits of the data set, or slices of them", repr(part), f"It has {existing}."
        ) from error
    return tfds.as_numpy(dataset)


def _refuse_overlap(ids: list[str], plan: Mapping[str, str]) -> None:
    if len(set(ids)) < len(ids):
        raise InputError(
            "splits that share no item", first_few([repr(part) for part in plan]), "Slice apart."
        )


def _read_labels(labels: list[Any], feature: Any, key: str, task: str) -> Labels:
    """Labels by what TFDS says they are; class names keep TFDS' order."""
    inner = getattr(feature, "feature", feature)
    if not isinstance(inner, tfds.features.ClassLabel):
        return read_labels(labels, task=task, name=key)
    several = inner is not feature
    if task == "auto":
        task = "multi-label" if several else "single-label"
    if task == "regression":
        raise InputError("numbers for a regression", f"classes in {key!r}", "Name another task.")
    if several:
        labels = [[inner.names[i] for i in label] for label in labels]
    else:
        labels = [inner.names[label] for label in labels]
    return read_labels(labels, task=task, class_names=inner.names, name=key)
