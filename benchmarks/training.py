"""Whole training jobs against the same jobs written plainly in Keras, in one run, in turn.

    python benchmarks/training.py vehicles --images 400
    python benchmarks/training.py head --backbone MobileNetV2 --images 5000

`vehicles` trains a new last layer on VGG16 with its two dense layers kept: 25 epochs, with
augmentation (4 views) and without. `head` trains a 20-epoch head from a cold store and again from
a warm one, then fine-tunes the last two body blocks for 10 epochs.

Weights are random: they cost the same. Of plain Keras two epochs are timed after a warm-up, on
`--plain-share` of the batches, and multiplied. Imports, and the conversion of the frozen part to
the fast engine with all else that happens only once in a process (a first run on 100 other
images), are timed apart. A phase that falls back to computing what is frozen at every step ends
the program with exit code 1. The images are not audited, which plain
Keras has nothing like: `audit.py speed` times that.
"""

import argparse
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import plain_keras
import tensorflow as tf
from photographs import CLASSES, make_folder

import keras_tl as ktl
from keras_tl import engines, frozen_prefix
from keras_tl.engines import selection
from keras_tl.training.fit import training_model
from keras_tl.training.schedules import Step

FIRST_IMAGES = 100
SIZE, BATCH = 224, 32


@dataclass
class Took:
    """Wall seconds of one of our runs, and the data it ran on."""

    total: float
    data: float
    passes: float
    training: float
    images: Any


def ours(
    job: Any,
    folder: Path,
    model: keras.Model,
    phases: Any,
    store: Any,
    augment: str = "none",
    views: int | None = None,
) -> Took:
    """Inspects, divides, caches and trains: what `keras-tl train` does between start and export."""
    started = time.perf_counter()
    images = ktl.prepare(
        str(folder),
        image_size=SIZE,
        augment=augment,
        views=views,
        val_fraction=0.2,
        test_fraction=0.0,
        audit=False,
    )
    data = time.perf_counter() - started
    result = ktl.run_phases(
        model,
        phases,
        images.train,
        images.val,
        batch_size=BATCH,
        feature_store=ktl.FeatureStore(store),
        verbose=0,
    )
    total = time.perf_counter() - started
    for report in result.phases:
        if not report.passes:
            raise SystemExit(f"{job}, phase {report.name}: computed at every step, not once")
    seconds = [report.seconds for report in result.phases]
    return Took(
        total, data, sum(s["passes"] for s in seconds), sum(s["training"] for s in seconds), images
    )


def first_run(
    job: Any, folder: Path, make_model: Any, phases: Any, store: Any, **options: Any
) -> float:
    """Runs on a few other images, so that engines are converted; returns the seconds."""
    others = make_folder(folder / "first", FIRST_IMAGES, (200, 200))
    started = time.perf_counter()
    # Else so few would not be worth a conversion; what is converted now stays for the real run.
    selection.WORTH_CONVERTING_SECONDS = 0.0
    short = [ktl.Phase(p.freezing, 1, p.learning_rate) for p in phases]
    ours(job, others, make_model(), short, store, **options)
    return time.perf_counter() - started


def show(name: str, seconds: float, plain: float | None = None, note: str = "") -> None:
    ratio = "" if plain is None else f"{plain / seconds:.1f}"
    print(f"| {name} | {seconds:.1f} | {ratio} | {note} |", flush=True)


def vehicles(folder: Path, options: argparse.Namespace) -> None:
    photos = make_folder(folder / "photos", options.images)

    def model() -> keras.Model:
        keras.utils.set_random_seed(0)
        return ktl.build_image_model(
            "VGG16", outputs=CLASSES, weights=None, features="fc2", dropout=0.0
        )

    phase = ktl.Phase(ktl.freezing.All(), 25, 1e-3, Step(7, 0.1), optimizer="sgd", weight_decay=0.0)
    for augment, views, epochs_of in (("light", 4, "4 views"), ("none", None, "no augmentation")):
        store = folder / f"store-{augment}"
        how: dict[str, Any] = {"augment": augment, "views": views}
        once = first_run("vehicles", folder, model, [phase], store, **how)
        took = ours("vehicles", photos, model(), [phase], store, **how)
        compared = plain_keras.vehicles(CLASSES, augmented=augment != "none")
        plain = 25 * plain_keras.seconds_per_epoch(compared, photos, options.plain_share)
        show(f"VGG16, 25 epochs, {epochs_of}: plain Keras", plain)
        show(f"VGG16, 25 epochs, {epochs_of}: keras_tl", took.total, plain, _parts(took))
        show(f"first run on {FIRST_IMAGES} other images, not counted", once)
        if options.torch_python:
            program = Path(__file__).with_name("plain_torch.py")
            arguments = [photos, str(options.plain_share), augment]
            command = [options.torch_python, program, *arguments]
            found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            torch = 25 * float(found.stdout)
            show(
                f"VGG16, 25 epochs, {epochs_of}: PyTorch", torch, None, f"{torch / took.total:.1f}"
            )
        keras.backend.clear_session()


def head(folder: Path, options: argparse.Namespace) -> None:
    photos = make_folder(folder / "photos", options.images)
    store, name = folder / "store", options.backbone

    kept: list[np.ndarray] = []

    def model() -> keras.Model:
        keras.utils.set_random_seed(0)
        made = ktl.build_image_model(name, outputs=CLASSES, weights=None)
        # To the last bit the same each time: else its frozen part is converted again.
        kept.extend([] if kept else lively(made).get_weights())
        made.set_weights(kept)
        return made

    heads = [ktl.Phase(ktl.freezing.All(), 20, 1e-3)]
    tune = [ktl.Phase(ktl.freezing.AllButLast(2), 10, 1e-4)]
    once = sum(first_run("head", folder, model, phases, store) for phases in (heads, tune))
    show(f"first run on {FIRST_IMAGES} other images, not counted", once)
    trained = model()
    cold = ours("head", photos, trained, heads, store)
    single = one_pass(trained, cold.images, folder)
    warm = ours("head", photos, model(), heads, store)
    plain = 20 * plain_keras.seconds_per_epoch(_plain(name, options), photos, options.plain_share)
    show(f"{name}, 20 epochs of a head: plain Keras", plain)
    show(f"{name}, 20 epochs of a head: keras_tl, cold store", cold.total, plain, _parts(cold))
    show("one decode-and-forward pass", single, None, f"cold / this = {cold.total / single:.2f}")
    show("again, warm store", warm.total, plain, f"warm / cold = {warm.total / cold.total:.3f}")

    # Before and after: a machine that others use too is not always as fast.
    before = suffix_alone(trained, tune[0], cold.images)
    tuned = ours("fine-tuning", photos, trained, tune, store)
    alone = (before + suffix_alone(trained, tune[0], cold.images)) / 2
    predicted = single + tune[0].epochs * alone
    first_trained = next(x.name for x in trained.layers if x.trainable and x.weights)
    plain = 10 * plain_keras.seconds_per_epoch(
        _plain(name, options, first_trained), photos, options.plain_share
    )
    show(f"{name}, last 2 blocks, 10 epochs: plain Keras", plain)
    note = f"{_parts(tuned)}; / arithmetic ({predicted:.1f} s) = {tuned.total / predicted:.2f}"
    show(f"{name}, last 2 blocks, 10 epochs: keras_tl", tuned.total, plain, note)


def lively(model: keras.Model) -> keras.Model:
    """Takes over the statistics of a batch: else a deep random network gives zeros."""
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    model(np.random.default_rng(0).uniform(0, 255, (16, SIZE, SIZE, 3)), training=True)
    for norm in norms:
        norm.momentum = 0.99
    return model


def one_pass(model: keras.Model, images: Any, folder: Path) -> float:
    """Seconds to read, decode and run all images through the frozen part, nothing stored."""
    ktl.freezing.All().apply(model)
    prefix = frozen_prefix.split(model).prefix
    samples = images.train, images.val
    first = next(iter(images.train.images(np.arange(BATCH)).batch(BATCH))).numpy()
    engine = engines.choose(prefix, first, folder / "one-pass")
    engine(first)
    started = time.perf_counter()
    for part in samples:
        batches = part.images(np.arange(len(part))).batch(BATCH).prefetch(2)
        for batch in batches.as_numpy_iterator():
            engine(batch)
    return time.perf_counter() - started


def suffix_alone(model: keras.Model, phase: ktl.Phase, images: Any, steps: int = 20) -> float:
    """Seconds of an epoch of what is not frozen: its steps and its validation.

    Both are measured on a batch that is in memory, and multiplied.
    """
    phase.freezing.apply(model)
    parts = frozen_prefix.split(model)
    pixels = next(iter(images.train.images(np.arange(BATCH)).batch(BATCH)))
    assert parts.prefix
    features = parts.prefix(tf.cast(pixels, tf.float32))
    part = training_model(parts.suffix, model)
    part.compile(phase.build_optimizer(steps), "categorical_crossentropy")
    batch = (features, images.train.targets()[:BATCH])
    dataset = tf.data.Dataset.from_tensors(batch).repeat(steps)
    start = model.get_weights()
    part.fit(dataset.take(2), verbose=0)
    part.evaluate(dataset.take(2), verbose=0)
    seconds = 0.0
    for run, samples in ((part.fit, images.train), (part.evaluate, images.val)):
        started = time.perf_counter()
        run(dataset, verbose=0)
        seconds += (time.perf_counter() - started) / steps * len(samples) / BATCH
    model.set_weights(start)
    return seconds


def _plain(name: str, options: Any, first_trained: str | None = None) -> keras.Model:
    if hasattr(keras.applications, name):
        body = getattr(keras.applications, name)(
            include_top=False, weights=None, input_shape=(SIZE, SIZE, 3)
        )
        module = getattr(keras.applications, options.module)
        return plain_keras.classifier(body, module.preprocess_input, CLASSES, first_trained)
    # Not in keras.applications: the same graph, trained by plain Keras.
    body = ktl.load_backbone(name, weights=None)
    return plain_keras.classifier(body, lambda x: x, CLASSES, first_trained)


def _parts(took: Took) -> str:
    return f"data {took.data:.1f}, passes {took.passes:.1f}, training {took.training:.1f}"


def main() -> None:
    """Runs one job and prints its rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("job", choices=("vehicles", "head"))
    parser.add_argument("--backbone", default="MobileNetV2")
    parser.add_argument("--module", default="mobilenet_v2", help="its module in keras.applications")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--plain-share", type=float, default=1.0, metavar="SHARE")
    about = "an interpreter with torchvision, to compare `vehicles` with"
    parser.add_argument("--torch-python", metavar="PATH", help=about)
    options = parser.parse_args()
    print(f"{options.images} JPEGs of 256 px, batch {BATCH}, {SIZE} px")
    print("| job | seconds | plain Keras / keras_tl | |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        {"vehicles": vehicles, "head": head}[options.job](Path(folder), options)


if __name__ == "__main__":
    main()
