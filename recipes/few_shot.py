"""How far do 1, 5, 10 or 25 images of a class go, and does fine-tuning help?

    python recipes/few_shot.py photos

`photos` is a folder of class folders, or a table. For each number of images and each of three
seeds, so many images of each class are drawn to learn from; all others are measured on. A linear
probe of the frozen backbone needs one pass over all images, which is stored. Beside it stands a
model that is trained on the same draws: its head, then the last third of the blocks with it
(Kumar et al., "Fine-Tuning can Distort Pretrained Features", ICLR 2022). Given are the mean and its
95 % interval over the seeds, by Student's t. `keras-tl compare --few-shot` compares backbones so.

Measured on the eight categories of Debian's tuxpaint-stamps-default with 34 images or more (713
photographs and drawings): the probe 44.3, 71.5, 78.9 and 85.2 % from 1, 5, 10 and 25 images,
fine-tuned 37.5, 67.3, 75.4 and 83.0 %, when near-duplicates could be on both sides.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from keras_tl.argument_parser import ArgumentParser
from keras_tl.errors import InputError
from keras_tl.place_options import launch, parse, processes
from keras_tl.setting_values import RANGES, Range, within

SHOTS, SEEDS = (1, 5, 10, 25), (0, 1, 2)


def learn_from_few(
    data: str, backbone: str, shots: Sequence[int], seeds: Sequence[int], **settings: Any
) -> Iterator[tuple[Any, Any]]:
    """Yields two `FewShot` for each number of images: the probe's, and the trained model's."""
    import keras

    import keras_tl as ktl
    from keras_tl.data.splits import kept_together
    from keras_tl.evaluation.probes import FewShot, draw, few_shot
    from keras_tl.plans import fine_tuning_phase, head_phase
    from keras_tl.probing import Part, features_of

    for count in shots:
        within("shots", count, Range(1, 10**6))
    for seed in seeds:
        within("seeds", seed, RANGES["seed"])
    config = ktl.TrainConfig(data, "", backbone=backbone, **settings)
    phases = [head_phase(config), fine_tuning_phase(config)]
    size = ktl.backbones.get(backbone).image_size
    images = ktl.prepare(data, image_size=size, val_fraction=0.0, test_fraction=0.0)
    if images.task != "single-label":
        raise InputError("one class for each image", images.task, "Give such a label column.")
    source, store = images.source, ktl.FeatureStore(workers=processes())
    groups = kept_together(source, images.seen.groups if images.seen else None)

    def build(seed: int) -> keras.Model:
        keras.utils.set_random_seed(seed)
        weights = None if config.weights == "none" else config.weights
        return ktl.build_image_model(backbone, outputs=len(source.class_names), weights=weights)

    def accuracy(drawn: Any, rest: Any, seed: int) -> float:
        few, others = (replace(images.train, source=source.take(part)) for part in (drawn, rest))
        model = build(seed)
        ktl.run_phases(model, phases, few, seed=seed, feature_store=store, verbose=0)
        info = ktl.ModelInfo(images.image_input, source.class_names, images.task)
        return ktl.measure(model, others, info, store=store, verbose=0)[0]["accuracy"]

    everything = [Part(replace(images.train, source=source), None)]
    features = features_of(build(0), phases, everything, task=images.task, store=store).last
    probes = few_shot(features, source.labels, groups=groups, shots=shots, seeds=seeds)
    for probe in probes:
        drawn = {n: draw(source.labels, probe.shots, seed=n, groups=groups) for n in seeds}
        found = tuple(accuracy(*parts, seed) for seed, parts in drawn.items() if len(parts[1]))
        yield probe, FewShot(probe.shots, found)
    if left := sorted(set(shots).difference(probe.shots for probe in probes)):
        print("Left out, since a class has too few images, or its groups leave none:", *left)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a line for each number of images, as soon as it is known."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="a folder of class folders, or a table")
    parser.add_argument("--shots", type=int, nargs="+", default=SHOTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--backbone", default="EfficientNetLite0")
    parser.add_argument("--epochs", type=int, default=20, help="of the head, then of fine-tuning")
    options = parse(parser, arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    from keras_tl.reporting.blocks import percent

    settings = vars(options) | {"fine_tune_epochs": options.epochs}
    with processes().chief_speaks():
        print("images of a class   linear probe   head and last blocks")
        for rows in learn_from_few(**settings):
            shown = [f"{100 * row.mean:.1f} ± {percent(row.half_width)}" for row in rows]
            print(f"{rows[0].shots:>17}   {shown[0]:>12}   {shown[1]:>20}", flush=True)


if __name__ == "__main__":
    launch(main)
