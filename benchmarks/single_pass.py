"""One pass of a frozen backbone over decoded images, against Keras and the engines themselves.

    python benchmarks/single_pass.py --backbones MobileNetV2 EfficientNetB0
    python benchmarks/single_pass.py

For each backbone (random weights, pooled features, the row's own image size) the same uint8 images
in memory run through `model.predict` (batches of 32), through what `keras_tl.engines.choose` picks
and, where they are installed, through LiteRT, OpenVINO and ONNX Runtime (as exported) used
directly: one image at a time for each core, which for all three is faster than all cores on one
batch. Outputs are compared with Keras first, which also warms up; then all run in turn. Printed
are medians: images a second, and the ratios within each round. Conversion is timed apart. On a
machine that does other work, too, `--processor-time` is disturbed least: it counts the seconds
of all threads, and so is blind to idle cores.
"""

import argparse
import functools
import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_tl import engines
from keras_tl.backbones import registry
from keras_tl.backbones.load import load_backbone
from keras_tl.errors import CheckError
from keras_tl.export import onnx

# The smallest row of each family.
BACKBONES = (
    *("MobileNet", "MobileNetV2", "MobileNetV3Small", "EfficientNetLite0", "EfficientNetB0"),
    *("EfficientNetV2B0", "NASNetMobile", "DenseNet121", "InceptionV3", "InceptionResNetV2"),
    *("ResNet50", "ResNet50V2", "Xception", "ConvNeXtTiny", "VGG16"),
)
BATCH, BATCHES = 32, 3
CORES = engines.usable_cores()

Run = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=BACKBONES, choices=registry.names())
    parser.add_argument("--image-size", type=int, help="instead of the row's own")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processor-time", action="store_true", help="of all threads")
    args = parser.parse_args()
    clock = time.process_time if args.processor_time else time.perf_counter
    columns = ["predict", "ours", *DIRECTLY, "ours / predict", "ours / fastest", "converted in"]
    print(f"| backbone | engine | {' | '.join(columns)} |\n|{' --- |' * (len(columns) + 2)}")
    for name in args.backbones:
        print(row(name, args.image_size, args.rounds, clock), flush=True)
        keras.backend.clear_session()


def row(name: str, size: int | None, rounds: int, clock: Callable[[], float]) -> str:
    backbone = load_backbone(name, weights=None, image_size=size)
    pooled = keras.layers.GlobalAveragePooling2D()(backbone.output)
    model = keras.Model(backbone.input, pooled)
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, *model.input_shape[1:]), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        engine = engines.choose(model, pixels, Path(folder))
        converting = time.perf_counter() - started
        runs: dict[str, Run | None] = {
            "predict": functools.partial(model.predict, batch_size=BATCH, verbose=0),
            "ours": lambda images: np.concatenate(
                [engine(images[i : i + BATCH])[0] for i in range(0, len(images), BATCH)]
            ),
        }
        model.export(Path(folder) / "saved_model", format="tf_saved_model", verbose=False)
        runs |= {label: make(model, folder) for label, make in DIRECTLY.items()}
    made = {label: run for label, run in runs.items() if run is not None}
    agreeing = {label: run for label, run in made.items() if agrees(run, made["predict"], pixels)}
    speeds = measure(agreeing, pixels, rounds, clock)
    return formatted(name, engine.name, speeds, converting)


def agrees(run: Run, reference: Run, pixels: np.ndarray) -> bool:
    largest = np.abs(expected := reference(pixels)).max() * engines.TOLERANCE
    return bool(np.abs(run(pixels) - expected).max() <= largest)


def measure(
    runs: dict[str, Run], pixels: np.ndarray, rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Images a second of each contender in each round."""
    images = np.concatenate([pixels] * BATCHES)
    speeds: dict[str, list[float]] = {label: [] for label in runs}
    for _ in range(rounds):
        for label, run in runs.items():
            started = clock()
            run(images)
            speeds[label].append(len(images) / (clock() - started))
    return speeds


def formatted(name: str, engine: str, speeds: dict[str, list[float]], converting: float) -> str:
    def ratio(others: list[str]) -> str:
        if not others:
            return "-"
        rounds = zip(speeds["ours"], *(speeds[label] for label in others), strict=True)
        return f"{statistics.median(ours / max(rest) for ours, *rest in rounds):.2f}"

    cells = [name, engine]
    for label in ("predict", "ours", *DIRECTLY):
        cells.append(f"{statistics.median(speeds[label]):.1f}" if label in speeds else "-")
    directly = [label for label in DIRECTLY if label in speeds]
    cells += [ratio(["predict"]), ratio(directly), f"{converting:.0f} s"]
    return f"| {' | '.join(cells)} |"


def litert(model: keras.Model, folder: str) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    content = tf.lite.TFLiteConverter.from_saved_model(f"{folder}/saved_model").convert()

    def make() -> Run:
        interpreter = Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
        (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()

        def run(image: np.ndarray) -> np.ndarray:
            interpreter.set_tensor(source["index"], image)
            interpreter.invoke()
            return interpreter.get_tensor(target["index"])

        return run

    return one_each([make() for _ in range(CORES)])


def onnx_runtime(model: keras.Model, folder: str) -> Run | None:
    import onnxruntime

    try:
        # As `keras-tl export` does: tf2onnx alone leaves out some layers, or their constants.
        content = onnx.convert(model)
    except CheckError as error:
        print(error, file=sys.stderr)
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return one_each([lambda image: session.run(None, {name: image})[0]] * CORES)


def openvino(model: keras.Model, folder: str) -> Run:
    import openvino as ov

    core = ov.Core()
    graph = core.read_model(f"{folder}/saved_model")
    graph.reshape([1, *model.input_shape[1:]])
    settings = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
    queue = ov.AsyncInferQueue(core.compile_model(graph, "CPU", settings))
    queue.set_callback(lambda done, found: found.append(done.get_output_tensor(0).data.copy()))

    def run(images: np.ndarray) -> np.ndarray:
        found: list[list[np.ndarray]] = [[] for _ in images]
        for image, place in zip(images, found, strict=True):
            queue.start_async({0: image[None].astype(np.float32)}, place)
        queue.wait_all()
        return np.concatenate([output for (output,) in found])

    return run


def one_each(runs: list[Run]) -> Run:
    """Every thread has a run of its own, for every n-th image."""
    threads = ThreadPoolExecutor(len(runs))

    def share(index: int, images: np.ndarray) -> list[np.ndarray]:
        return [runs[index](i[None].astype(np.float32)) for i in images[index :: len(runs)]]

    def run(images: np.ndarray) -> np.ndarray:
        shares = list(threads.map(share, range(len(runs)), [images] * len(runs)))
        return np.concatenate([shares[i % len(runs)][i // len(runs)] for i in range(len(images))])

    return run


PACKAGES = {
    "LiteRT": ("ai_edge_litert", litert),
    "OpenVINO": ("openvino", openvino),
    "ONNX Runtime": ("tf2onnx", onnx_runtime),
}
DIRECTLY = {
    label: make for label, (package, make) in PACKAGES.items() if importlib.util.find_spec(package)
}

if __name__ == "__main__":
    main()
