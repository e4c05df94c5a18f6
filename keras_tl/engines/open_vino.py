"""OpenVINO, where it is installed: faster than LiteRT for a part of the families."""

import tempfile
import threading
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_tl.cores import usable_cores
from keras_tl.engines.base import input_dtype, output_name, saved_model
from keras_tl.engines.kept import kept

# Between the graph, which is XML, and the weights.
BORDER = b"\0"


class OpenVINOEngine:
    """The prefix converted to OpenVINO, one stream for each core, one image at a time.

    Args:
        prefix: The frozen part of a model, or a whole model.
        folder: Where the converted prefix is kept; it is converted if it is not there.

    Raises:
        ImportError: The package openvino is not installed.
        RuntimeError: The prefix does not convert, or does not run.
    """

    name = "OpenVINO"

    def __init__(self, prefix: keras.Model, folder: Path):
        import openvino

        content = kept(folder / "prefix.openvino", lambda: _convert(prefix))
        graph, _, weights = content.partition(BORDER)
        core = openvino.Core()
        streams = usable_cores()
        settings = {
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": streams,
            # Decoding runs beside it: threads bound to cores would stand in its way.
            "ENABLE_CPU_PINNING": False,
            # By default bfloat16 where the processor has it.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        model = core.read_model(model=graph, weights=weights)
        self._requests = openvino.AsyncInferQueue(
            core.compile_model(model, "CPU", settings), streams
        )
        self._requests.set_callback(_take)
        self._alone = threading.Lock()
        self._outputs = len(prefix.outputs)
        self._dtype = input_dtype(prefix).as_numpy_dtype

    def __call__(self, inputs: np.ndarray) -> list[np.ndarray]:
        """See `Engine`."""
        found: list[list[np.ndarray]] = [[] for _ in inputs]
        # Training and validation read at the same time; the queue of requests is for one thread.
        with self._alone:
            for image, place in zip(inputs, found, strict=True):
                given = {0: image[None].astype(self._dtype)}
                self._requests.start_async(given, (place, self._outputs))
            self._requests.wait_all()
        return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def _take(request: Any, target: tuple[list[np.ndarray], int]) -> None:
    """Copies the outputs: the next image overwrites them."""
    place, outputs = target
    place.extend(request.get_tensor(output_name(i)).data.copy() for i in range(outputs))


def _convert(prefix: keras.Model) -> bytes:
    import openvino

    with saved_model(prefix) as source, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prefix.xml"
        # `read_model` of the core itself: `openvino.convert_model` reports its use.
        openvino.save_model(openvino.Core().read_model(source), path, compress_to_fp16=False)
        return path.read_bytes() + BORDER + path.with_suffix(".bin").read_bytes()
