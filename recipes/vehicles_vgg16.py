"""Tell vehicles apart with VGG16: the well-known transfer-learning job, whole.

    python recipes/vehicles_vgg16.py vehicles --out runs/vehicles

`vehicles` has a folder of photographs for each class, perhaps below `train`, `val` and `test`.
VGG16 keeps its two dense layers and is frozen up to the second, "fc2"; a new last layer learns by
cross-entropy with SGD at 0.001 and momentum 0.9, ten times slower after every 7 epochs. Training
shows random resized crops, cut from the picture at 448, and flips in `--views` versions of each
image; validation the centre 224 of the shorter side at 256. The weights of the epoch with the
lowest refined validation loss (Berta et al. 2025), or those of the start, are kept.

Each version of an image goes through VGG16 once: with 500 images in 4 versions 6 minutes on two
cores, as plain Keras, which computes VGG16 in every epoch, 40 (benchmarks/README.md). Its accuracy
was not measured: VGG16's ImageNet weights are in no package.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from keras_tl.argument_parser import ArgumentParser
from keras_tl.errors import InputError
from keras_tl.files import atomic_write_text, csv_text
from keras_tl.place_options import launch, leave_to_chief, parse

WEIGHTS = "imagenet, none, or a weights file of VGG16"


def run(data: str, out: str, weights: str, epochs: int, views: int, seed: int = 0) -> dict:
    """Trains, measures and exports; returns the figures."""
    import keras
    from keras_tl.recipes import check_out

    import keras_tl as ktl
    from keras_tl.data.augment import Augmentation
    from keras_tl.job import NOTES
    from keras_tl.replicas import on_one_device
    from keras_tl.training.schedules import Step

    check_out(out, data)
    keras.utils.set_random_seed(seed)
    crops = Augmentation(
        "random resized crops",
        horizontal_flip=True,
        scale=(0.08, 1.0),
        aspect_ratio=(3 / 4, 4 / 3),
        oversample=2.0,
        cycle=views,
    )
    images = ktl.prepare(data, image_size=224, resize="shorter-crop", augment=crops, seed=seed)
    if images.task != "single-label":
        raise InputError("one class for each image", images.task, "Give a folder of each class.")
    start = None if weights == "none" else weights
    model = ktl.build_image_model(
        "VGG16", outputs=len(images.class_names), weights=start, features="fc2", dropout=0.0
    )
    phase = ktl.Phase(
        ktl.freezing.All(),
        epochs,
        learning_rate=0.001,
        schedule=Step(epochs=7, factor=0.1),
        optimizer="sgd",
        momentum=0.9,
        weight_decay=0.0,
        name="new last layer",
    )
    ktl.run_phases(model, [phase], images.train, images.val, seed=seed)
    leave_to_chief()
    [model] = on_one_device([model])
    info = ktl.ModelInfo(images.image_input, images.class_names, images.task, backbone="VGG16")
    split = next(name for name in NOTES if images.counts[name])
    metrics, predictions = ktl.measure(model, images.samples(split), info)
    metrics |= {"measured_on": split, "note": NOTES[split]}
    ktl.export_saved_model(model, Path(out, "saved_model"), info)
    atomic_write_text(Path(out, "predictions.csv"), csv_text(predictions))
    atomic_write_text(Path(out, "metrics.json"), json.dumps(metrics, indent=2))
    return metrics | {"class_names": images.class_names}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the job and prints accuracy, F1 and the confusion matrix."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="a folder with a folder of photographs for each class")
    parser.add_argument("--out", default="runs/vehicles")
    parser.add_argument("--weights", default="imagenet", help=WEIGHTS)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--views", type=int, default=4, help="versions of each image, from 2 on")
    options = parse(parser, arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    from keras_tl.evaluation.tables import mistakes, summary

    metrics = run(options.data, options.out, options.weights, options.epochs, options.views)
    print(f"Measured on {metrics['note']}:", summary(metrics), sep="\n")
    print(mistakes(metrics, metrics["class_names"]))


if __name__ == "__main__":
    launch(main)
