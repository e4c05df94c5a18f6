"""One pass of the frozen MiniLM encoder over tokens, against Keras and the engines themselves.

    python benchmarks/text_pass.py
    python benchmarks/text_pass.py --tokens 32 64 128

For each length the same full windows of tokens run through `model.predict` and a graph function
(batches of 32), through what `keras_tl.engines.choose` picks and, where they are installed, through
LiteRT, OpenVINO and ONNX Runtime (by way of tf2onnx): one text at a time for each core. OpenVINO
also runs in batches with threads of its own. Outputs are compared with Keras
first, which also warms up; then all run in turn. Printed are medians: texts a second, and ours
against the fastest other within each round. Lengths beside each other show what padding costs: a
text of 30 tokens in a window of 128 is paid as one of 128.
"""

import argparse
import functools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# Beside this file.
from single_pass import one_each

from keras_tl import engines
from keras_tl.backbones import pretrained
from keras_tl.backbones.encoder import build_encoder
from keras_tl.backbones.encoders import _minilm

BATCH, BATCHES = 32, 2
CORES = engines.usable_cores()

Run = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", nargs="+", type=int, default=[128])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    source = _minilm(with_weights=True)
    rows: dict[int, dict[str, list[float]]] = {}
    for length in args.tokens:
        model = build_encoder(source.config, length)
        pretrained.set_weights(model, source.weights or {})
        with tempfile.TemporaryDirectory() as folder:
            runs, chosen = contenders(model, Path(folder))
            rows[length] = measure(runs, tokens(length), args.rounds)
        print_row(length, chosen, rows[length])
        keras.backend.clear_session()


def tokens(length: int) -> np.ndarray:
    """Full windows of one text each, with random words."""
    ids = np.random.default_rng(0).integers(2000, 20000, (BATCH, length))
    ids[:, 0], ids[:, -1] = 101, 102
    return np.stack([ids, np.zeros_like(ids)], axis=1).astype(np.int32)


def contenders(model: keras.Model, folder: Path) -> tuple[dict[str, Run], str]:
    """What runs, by name, as far as it agrees with Keras; and what keras_tl chose."""
    sample = tokens(model.input_shape[-1])
    chosen = engines.choose(model, sample, folder / "chosen")
    graph = engines.TensorFlowEngine(model)
    litert, openvino = engines.LiteRTEngine(model, folder), engines.OpenVINOEngine(model, folder)
    runs: dict[str, Run] = {
        "predict": functools.partial(model.predict, batch_size=BATCH, verbose=0),
        "tf.function": in_batches(lambda batch: graph(batch)[0]),
        "ours": in_batches(lambda batch: chosen(batch)[0]),
        "LiteRT": in_batches(lambda batch: litert(batch)[0]),
        "OpenVINO": in_batches(lambda batch: openvino(batch)[0]),
        "OpenVINO batches": openvino_batches(model, folder),
        "ONNX Runtime": onnx_runtime(model, folder),
    }
    expected = runs["predict"](sample)
    allowed = engines.TOLERANCE * np.abs(expected).max()
    agreeing = {k: run for k, run in runs.items() if np.abs(run(sample) - expected).max() < allowed}
    return agreeing, chosen.name


def in_batches(run: Run) -> Run:
    return lambda inputs: np.concatenate(
        [run(inputs[i : i + BATCH]) for i in range(0, len(inputs), BATCH)]
    )


def openvino_batches(model: keras.Model, folder: Path) -> Run:
    import openvino as ov

    core = ov.Core()
    model.export(folder / "saved_model", format="tf_saved_model", verbose=False)
    graph = core.read_model(folder / "saved_model")
    graph.reshape([BATCH, *model.input_shape[1:]])
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(graph, "CPU", settings).create_infer_request()
    return in_batches(lambda batch: request.infer({0: batch})[0].copy())


def onnx_runtime(model: keras.Model, folder: Path) -> Run:
    import onnxruntime
    import tf2onnx

    spec = tf.TensorSpec((None, *model.input_shape[1:]), tf.int32, "tokens")
    run = tf.function(lambda inputs: model(inputs, training=False), input_signature=[spec])
    converted, _ = tf2onnx.convert.from_function(run, input_signature=[spec], opset=17)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    content = without_erfc(converted).SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    once = lambda text: session.run(None, {"tokens": text.astype(np.int32)})[0]  # noqa: E731
    return one_each([once] * CORES)


def without_erfc(model: Any) -> Any:
    """TensorFlow's GELU has erfc, which ONNX has not: 1 - erf."""
    import onnx

    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(1, np.float32), "one"))
    nodes = []
    for node in model.graph.node:
        nodes.append(node)
        if node.op_type == "Erfc":
            (target,) = node.output
            node.op_type, node.output[0] = "Erf", f"{target}_erf"
            nodes.append(onnx.helper.make_node("Sub", ["one", node.output[0]], [target]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def measure(runs: dict[str, Run], inputs: np.ndarray, rounds: int) -> dict[str, list[float]]:
    """Texts a second of each contender in each round."""
    texts = np.concatenate([inputs] * BATCHES)
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            started = time.perf_counter()
            run(texts)
            speeds[name].append(len(texts) / (time.perf_counter() - started))
    return speeds


def print_row(length: int, chosen: str, speeds: dict[str, list[float]]) -> None:
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    others = [values for name, values in speeds.items() if name != "ours"]
    rounds = zip(speeds["ours"], *others, strict=True)
    ratio = statistics.median(ours / max(rest) for ours, *rest in rounds)
    told = ", ".join(f"{name} {value:.1f}" for name, value in medians.items())
    print(f"{length} tokens, {chosen}: {told}; ours / fastest {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
