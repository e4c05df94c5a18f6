"""From settings to data and a model. Images and texts differ here, and nowhere after it."""

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from keras_tl import freezing
from keras_tl.backbones import registry
from keras_tl.backbones.encoders import load_tokenizer
from keras_tl.backbones.host import Tokenize
from keras_tl.backbones.hub import IMAGE_SIZE, hub_image_size
from keras_tl.backbones.hub_handles import parted
from keras_tl.backbones.load import check_image_size
from keras_tl.backbones.markup import markup_share
from keras_tl.builders.hub import build_hub_model
from keras_tl.builders.image import build_image_model
from keras_tl.builders.text import build_text_classifier
from keras_tl.config import NAMED_WEIGHTS, TrainConfig
from keras_tl.data import augment
from keras_tl.data.audit.text_lengths import WHOLE
from keras_tl.data.labels import class_counts
from keras_tl.data.open import open_data
from keras_tl.data.prepare import ImageData, prepare
from keras_tl.data.prepare_texts import TextData, prepare_texts
from keras_tl.data.source import Source
from keras_tl.data.targets import target_unit
from keras_tl.data.text_input import TextInput
from keras_tl.errors import InputError, did_you_mean, in_one_line
from keras_tl.model_info import ModelInfo
from keras_tl.plans import TEXT_EPOCHS, WINDOWS_SEEN, make_plan
from keras_tl.training.phases import Phase
from keras_tl.training.sampling import class_weights

# The least share of texts with HTML tags at which markup="auto" leaves the tags out.
MARKED_UP = 0.01
# Default number of buckets in which words are counted.
BAG_OF_WORDS = 4096
# Default limit on the windows of a text.
MOST_WINDOWS = 4
# Number of texts, evenly spaced, that markup and windows are chosen by.
LOOKED_AT = 2000

Data: TypeAlias = ImageData | TextData

log = logging.getLogger("keras_tl")


def prepare_data(
    config: TrainConfig, source: Source | None = None, image_size: int | None = None
) -> Data:
    """Opens, inspects and divides the images or texts of a configuration.

    Args:
        config: The settings; with a backbone of "", images have 224 pixels and texts no tokens.
        source: The images or texts, where they are already opened.
        image_size: Height and width in pixels, instead of the configuration's.

    Returns:
        The splits.

    Raises:
        InputError: The data cannot be used, or not with these settings; there is no such backbone.
    """
    # Asked before the data are read, which may take a while.
    size = image_size or (0 if config.has_texts else image_size_of(config))
    if config.weights not in NAMED_WEIGHTS and not Path(config.weights).is_file():
        fix = did_you_mean(config.weights, NAMED_WEIGHTS, "Check the path.")
        raise InputError("imagenet, none or a file with weights", repr(config.weights), fix)
    tokenize = tokenize_for(config) if config.has_texts and config.backbone else None
    if source is None:
        log.info("Opening %s", config.data)
        source = open_data(config.data, task=config.task, **config.columns)
    config.check_task(source.task)
    shared: dict[str, Any] = {
        name: getattr(config, name)
        for name in ("val_fraction", "test_fraction", "seed", "max_bad_fraction", "audit", "strict")
    }
    if config.has_texts:
        if source.items and not source.texts:
            raise InputError("a source of texts", "one of images", "Leave text_column out.")
        spec = text_input_of(config, source)
        if tokenize and spec != text_input_of(config):
            tokenize = tokenize_for(config, spec)
        count = tokenize.count if tokenize and tokenize.counts else None
        return prepare_texts(source, spec, tokenize=tokenize, count_tokens=count, **shared)
    return prepare(
        source,
        image_size=size,
        resize=config.resize,
        augment=replace(augment.get(config.augment or "none"), cutmix=config.cutmix),
        views=config.views,
        **shared,
    )


def image_size_of(config: TrainConfig) -> int:
    """Height and width of a run's images: those asked for, or the backbone's own."""
    if not config.backbone:
        return config.image_size or IMAGE_SIZE
    if config.is_of_hub:
        return hub_image_size(config.handle, config.image_size)
    return check_image_size(registry.get(config.backbone), config.image_size)


def text_input_of(config: TrainConfig, source: Source | None = None) -> TextInput:
    """How a run's texts become tokens.

    Args:
        config: The settings.
        source: The texts, if they are opened: they decide what the settings leave open.
    """
    truncate, markup = config.truncate, config.markup
    some: list[Any] = []
    if source is not None and not config.is_of_hub:
        some = source.items[:: max(len(source) // LOOKED_AT, 1)]
    if truncate == "auto":
        truncate = "head" if config.is_of_hub else "head-tail"
    if markup == "auto":
        share = markup_share(some)
        markup = "drop" if share >= MARKED_UP else "keep"
        if markup == "drop":
            log.info(
                "%.0f %% of the texts have HTML tags, which are left out; --markup keep reads them",
                100 * share,
            )
    buckets = config.bag_of_words
    if buckets is None:
        buckets = 0 if config.is_of_hub else BAG_OF_WORDS
    pair = 2 if config.pair else 1
    spec = TextInput(config.max_tokens, config.windows or 1, pair, truncate, markup, buckets)
    if config.windows is None and source is not None and some:
        return replace(spec, windows=_windows_for(config, source, some, spec))
    return spec


def _windows_for(config: TrainConfig, source: Source, some: list[Any], one: TextInput) -> int:
    """How many windows are worth reading, see `TrainConfig.windows`.

    Args:
        config: The settings.
        source: The texts.
        some: Those that are looked at.
        one: How a single window is read.
    """
    tokenize = tokenize_for(config, one) if config.backbone else None
    if tokenize is None:
        return 1
    reading = one.reading(tokenize.count(some))
    needed = int(np.quantile(reading.windows, WHOLE, method="higher"))
    if source.given_splits:
        trained = int(np.count_nonzero(source.splits == "train"))
    else:
        trained = round((1 - config.val_fraction - config.test_fraction) * len(source))
    affordable = WINDOWS_SEEN // (TEXT_EPOCHS[0] * max(trained, 1))
    windows = max(min(needed, affordable, MOST_WINDOWS), 1)
    if windows > 1:
        read = reading.is_whole(windows).mean()
        log.info("%d windows of a text are read: %.0f %% are read whole", windows, 100 * read)
    return windows


def plan_for(model: keras.Model, data: Data, config: TrainConfig) -> list[Phase]:
    """The phases of a configuration for a model and its data; see `keras_tl.plans.make_plan`."""
    blocks = freezing.block_count(model)
    return make_plan(config, len(data.train), blocks, data.windows)


def micro_batches_of(config: TrainConfig, data: Data) -> int:
    """In how many parts a device computes its batch, see `TrainConfig.micro_batches`."""
    if config.micro_batches is not None:
        return config.micro_batches
    if len(data.train) < config.batch_size:
        return 1
    # The number of parts must divide the batch, or its size would change.
    parts = range(min(data.windows, config.batch_size), config.batch_size + 1)
    return next(count for count in parts if config.batch_size % count == 0)


def pooling_of(config: TrainConfig) -> str | None:
    """How an encoder's tokens become one vector; None is what a module of TF-Hub gives."""
    if config.pooling == "auto":
        return None if config.is_of_hub else "layers"
    return config.pooling


@contextmanager
def keras_settings(config: TrainConfig) -> Iterator[None]:
    """Lets Keras compute as a configuration says: its precision, and its seed from here on.

    Afterwards the precision and the generators of Python and NumPy are what they were; the global
    seeds of TensorFlow and Keras stay set, since neither can be asked for the one before.
    """
    previous = keras.config.dtype_policy()
    drawn, drawn_by_numpy = random.getstate(), np.random.get_state()
    keras.config.set_dtype_policy(config.precision)
    keras.utils.set_random_seed(config.seed)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(previous)
        random.setstate(drawn)
        np.random.set_state(drawn_by_numpy)


@contextmanager
def module_told(config: TrainConfig) -> Iterator[None]:
    """Turns the failure of a TF-Hub module, which was tried on only two inputs, into one line.

    Args:
        config: The settings; errors of other backbones are left alone.

    Raises:
        InputError: The module failed.
    """
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        if not config.is_of_hub:
            raise
        reason, fix = in_one_line(error, 500), "Take another one."
        raise InputError("a TF-Hub module that computes with all batches", reason, fix) from error


def tokenize_for(config: TrainConfig, spec: TextInput | None = None) -> Tokenize | None:
    """What makes tokens for a run's encoder; None for one that takes strings as they are."""
    spec = spec or text_input_of(config)
    name = config.backbone or ""
    if config.is_of_hub and not parted(config.handle)[1]:
        return None
    return Tokenize(load_tokenizer(name, **spec.tokenized_by))


def build_model(config: TrainConfig, data: Data) -> keras.Model:
    """Builds the model of a configuration for its data, in the current strategy's scope."""
    mean, scale = _target_unit(data)
    head: dict[str, Any] = {
        "outputs": len(data.class_names),
        "task": data.task,
        "dropout": config.dropout,
        "target_mean": mean,
        "target_scale": scale,
    }
    weights = None if config.weights == "none" else config.weights
    name = config.backbone or ""
    if isinstance(data, TextData):
        how: dict[str, Any] = {
            "weights": weights and "pretrained",
            "pooling": pooling_of(config),
        }
        return build_text_classifier(name, **how, **data.text_input.tokenized_by, **head)
    size = data.image_input.size
    if config.is_of_hub:
        model = build_hub_model(config.handle, image_size=size, **head)
        if model.input.dtype == "string":
            raise InputError("a TF-Hub module of images", "one of texts", "Give --text-column.")
        return model
    return build_image_model(name, weights=weights, image_size=size, **head)


def data_for(config: TrainConfig, data: Data) -> Data:
    """The same splits for the backbone of a configuration."""
    if isinstance(data, TextData):
        spec = text_input_of(config, data.source)
        return replace(data, text_input=spec, tokenize=tokenize_for(config, spec))
    return replace(data, image_input=replace(data.image_input, size=image_size_of(config)))


def training_options(config: TrainConfig, data: Data) -> dict[str, Any]:
    """The arguments of `run_phases` and `find_learning_rate` that a configuration decides."""
    return {
        "task": data.task,
        "batch_size": config.batch_size,
        "micro_batches": micro_batches_of(config, data),
        "seed": config.seed,
        "class_weights": class_weights_of(config, data.train.source),
        "engine": config.engine,
    }


def class_weights_of(config: TrainConfig, source: Source) -> list[float] | None:
    """What each class counts in the loss, for classes in order; None where all count the same."""
    if not config.class_weights and config.class_weight_beta is None:
        return None
    counts = class_counts(source.labels, source.class_names)
    return class_weights(counts, config.class_weight_beta)


def model_info_of(config: TrainConfig, data: Data) -> ModelInfo:
    """What is written down about a run's model."""
    name = config.backbone or ""
    known = not (config.has_texts or config.is_of_hub)
    return ModelInfo(
        image_input=None if isinstance(data, TextData) else data.image_input,
        class_names=data.class_names,
        task=data.task,
        backbone=registry.get(name).name if known else name,
        text_input=data.text_input if isinstance(data, TextData) else None,
    )


def _target_unit(data: Data) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each training target of a regression; 0 and 1 for classes."""
    targets = data.train.targets()
    if data.task != "regression":
        return (0.0,), (1.0,)
    mean, deviation = target_unit(targets)
    return tuple(mean.tolist()), tuple(deviation.tolist())
