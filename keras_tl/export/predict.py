"""Predicts image files with the model that lies beside this program.

    python predict.py photo.jpg another.png
    python predict.py --json photo.jpg

It needs no TensorFlow and no keras_tl, only what requirements.txt names: NumPy, Pillow, and one
runtime. Files are decoded, turned upright, cropped and resized as they were in training, to
within one level of 255. In a program: `Predictor(folder)("photo.jpg")`.
"""

import argparse
import json
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
WHITE = 255
# Wider than this, an image is resized along its rows first.
MAX_ASPECT = 8
# What a JPEG's sides can be divided by while it is decoded.
JPEG_RATIOS = (8, 4, 2)
EXIF_ORIENTATION = 0x0112
# For the orientations 1 to 8: whether rows and columns are reversed, those of 5 to 8 transposed.
FLIPS = ((False, False), (False, True), (True, True), (True, False)) * 2
BAD_INPUT, BROKEN_PIPE = 2, 141

# `model.json` says how many pixels are too many.
Image.MAX_IMAGE_PIXELS = None


class Predictor:
    """A model with all it needs to read image files.

    Args:
        folder: Where `model.json` and `model.tflite` or `model.onnx` are.
        threads: How many threads compute; None lets the runtime decide.
    """

    def __init__(self, folder: Path | str, threads: int | None = None):
        self.info = json.loads((Path(folder) / "model.json").read_text(encoding="utf-8"))
        self.run = load(Path(folder), threads)

    def __call__(self, file: Path | str | BinaryIO) -> dict[str, Any]:
        """Predicts one image file; see `answer` for the result."""
        return answer(self.run(read_pixels(file, self.info["image_input"])), self.info)


def load(folder: Path, threads: int | None = None) -> Callable[[np.ndarray], np.ndarray]:
    """Loads the model into its runtime.

    Returns:
        A function from one image, RGB in 0..255 `[size, size, 3]`, to float32 `[outputs]`.
    """
    if (folder / "model.onnx").is_file():
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        name = session.get_inputs()[0].name
        return lambda pixels: session.run(None, {name: pixels[None].astype(np.float32)})[0][0]
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(folder / "model.tflite"), num_threads=threads)
    runner = interpreter.get_signature_runner()
    return lambda pixels: runner(pixels=pixels[None].astype(np.float32))["output_0"][0]


def answer(outputs: np.ndarray, info: dict[str, Any]) -> dict[str, Any]:
    """What a model's outputs amount to.

    Args:
        outputs: Float32 `[outputs]`.
        info: The content of `model.json`.

    Returns:
        By task: "class", its "probability" and all "probabilities" by class; "classes" (those
        from their thresholds on) and "probabilities"; or a regression's "values" by target.
    """
    names, thresholds = info["class_names"], np.array(info["thresholds"], np.float32)
    by_name = {name: float(value) for name, value in zip(names, outputs, strict=True)}
    if info["task"] == "regression":
        return {"values": by_name}
    if info["task"] == "multi-label":
        present = outputs >= thresholds
        classes = [name for name, there in zip(names, present, strict=True) if there]
        return {"classes": classes, "probabilities": by_name}
    # Of two classes the second may need another probability than one half.
    index = int(outputs[1] >= thresholds[0]) if len(thresholds) else int(outputs.argmax())
    return {
        "class": names[index],
        "probability": float(outputs[index]),
        "probabilities": by_name,
    }


def read_pixels(file: Path | str | BinaryIO, image_input: dict[str, Any]) -> np.ndarray:
    """Reads an image file as the model is to see it.

    Args:
        file: A JPEG, PNG, GIF (its first frame), BMP or WebP.
        image_input: From `model.json`: "size", "resize", "antialias" and "max_pixels".

    Returns:
        uint8 `[size, size, 3]`, RGB in 0..255.

    Raises:
        OSError: It is no such file, or a damaged one.
        ValueError: It has more than "max_pixels" pixels.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            width, height = image.size
            if width * height > image_input["max_pixels"]:
                raise ValueError(f"more than {image_input['max_pixels']} pixels")
            # A GIF's first frame may be a part of its canvas.
            frame = image.tile[0][1] if image.format == "GIF" and image.tile else None
            orientation = read_orientation(image)
            ratio = _shrink_while_decoding(image, image_input)
            pixels = _rgb(image)
            if frame:
                left, top, right, bottom = frame
                pixels = pixels[top:bottom, left:right]
                height, width = pixels.shape[:2]
            sides = np.array((height, width))
    except (SyntaxError, IndexError, struct.error) as error:
        # What Pillow raises of chunks that make no sense.
        raise OSError(f"damaged image: {error}") from error
    if orientation > 4:
        pixels, sides = pixels.swapaxes(0, 1), sides[::-1]
    flips = np.array(FLIPS[orientation - 1])
    pixels = pixels[:: -1 if flips[0] else 1, :: -1 if flips[1] else 1]
    # Pixels of a smaller scale may reach beyond the picture, after a flip at its start.
    beyond = np.array(pixels.shape[:2]) * ratio - sides
    return _fit(pixels, ratio, sides, np.where(flips, beyond, 0), image_input)


def read_orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 where there is none or it cannot be read."""
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        found = exif.get(EXIF_ORIENTATION)
    except (SyntaxError, ValueError, OSError):
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _shrink_while_decoding(image: Image.Image, image_input: dict[str, Any]) -> int:
    """Has a JPEG decoded at 1/2, 1/4 or 1/8 where that leaves twice the size; returns 2, 4, 8."""
    if image.format not in ("JPEG", "MPO") or not image_input["antialias"]:
        return 1
    side = max(image.size) if image_input["resize"] == "pad" else min(image.size)
    if image_input["resize"] == "shorter-crop":
        side = 7 * side // 8
    fitting = (ratio for ratio in JPEG_RATIOS if side >= 2 * ratio * image_input["size"])
    wanted = next(fitting, 1)
    if wanted == 1:
        return 1
    width = image.width
    drafted = image.draft("RGB", (max(1, width // wanted), max(1, image.height // wanted)))
    return round(width / drafted[1][2]) if drafted else 1


def _rgb(image: Image.Image) -> np.ndarray:
    """Decodes to uint8 `[height, width, 3]`: transparency on white, of 16 bits the upper 8."""
    if image.mode.startswith("I"):
        samples = np.asarray(image)
        upper = np.where(samples == image.info.get("transparency"), WHITE, samples >> 8)
        upper = upper.astype(np.uint8)
        return np.repeat(upper[..., None], 3, axis=-1)
    if image.mode == "CMYK":
        inks = np.asarray(image).astype(np.uint16)
        return ((255 - inks[..., :3]) * (255 - inks[..., 3:]) // 255).astype(np.uint8)
    tiles = getattr(image, "tile", None)
    if image.mode == "L" and "transparency" in image.info and tiles:
        # Pillow brings samples of 2 and 4 bits to 0..255, but not the transparent one.
        image.info["transparency"] *= {"L;2": 85, "L;4": 17}.get(tiles[0][3], 1)
    transparent = image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info
    # The fourth byte of a BMP's pixel is transparency to few writers, and 0 to many.
    if not transparent or image.format == "BMP":
        return np.asarray(image.convert("RGB"))
    values = np.asarray(image.convert("RGBA")).astype(np.uint16)
    colours, alpha = values[..., :3], values[..., 3:]
    return ((colours * alpha + WHITE * (255 - alpha) + 127) // 255).astype(np.uint8)


def _fit(
    pixels: np.ndarray,
    ratio: int,
    sides: np.ndarray,
    start: np.ndarray,
    image_input: dict[str, Any],
) -> np.ndarray:
    """Crops, resizes and pads a picture of `sides` whose pixels are `ratio` wide."""
    size, resize = image_input["size"], image_input["resize"]
    if resize in ("crop", "shorter-crop"):
        side = int(sides.min())
        if resize == "shorter-crop":
            side = (7 * side + 4) // 8
        start = start + (sides - side) // 2
        sides = np.array((side, side))
    first, last = start // ratio, -(-(start + sides) // ratio)
    pixels = pixels[first[0] : last[0], first[1] : last[1]]
    fitted = np.array((size, size))
    if resize == "pad":
        fitted = np.maximum(np.rint(sides * size / sides.max()).astype(int), 1)
    scale = fitted.astype(np.float32) / (sides.astype(np.float32) / np.float32(ratio))
    shift = (start % ratio).astype(np.float32) / np.float32(ratio)
    for axis in (1, 0) if sides[1] > MAX_ASPECT * sides[0] else (0, 1):
        pixels = resample(
            pixels, axis, int(fitted[axis]), scale[axis], shift[axis], image_input["antialias"]
        )
    before = (size - fitted) // 2
    padded = np.full((size, size, 3), WHITE, np.uint8)
    (top, left), (bottom, right) = before, before + fitted
    padded[top:bottom, left:right] = np.rint(pixels)
    return padded


def resample(
    pixels: np.ndarray,
    axis: int,
    count: int,
    scale: np.float32,
    shift: np.float32,
    antialias: bool,
) -> np.ndarray:
    """Resizes along one axis with a triangle, which shrinking widens where `antialias`.

    Args:
        pixels: `[height, width, channels]`.
        axis: 0 or 1.
        count: Length of that axis in the result.
        scale: Pixels of the result for each of `pixels`.
        shift: Where in `pixels` the result starts.
        antialias: Whether shrinking averages over all the pixels it skips.

    Returns:
        Float32, with `count` in the place of the axis.
    """
    lines = np.moveaxis(pixels, axis, 0)
    one, half = np.float32(1), np.float32(0.5)
    step = one / scale
    reach = max(step, one) if antialias else one
    resized = np.zeros((count, *lines.shape[1:]), np.float32)
    for i in range(count):
        centre = (np.float32(i) + half) * step + shift
        first = max(int(np.ceil(centre - reach - half)), 0)
        last = min(int(np.floor(centre + reach - half)), len(lines) - 1)
        places = np.arange(first, last + 1, dtype=np.float32) + half
        weights = np.maximum(one - np.abs((places - centre) * (one / reach)), 0)
        weights *= one / np.float32(sum(weights))
        # One after the other, as TensorFlow does: the same sums, to the bit.
        for weight, line in zip(weights, lines[first : last + 1], strict=True):
            resized[i] += weight * line
    return np.moveaxis(resized, 0, axis)


def main() -> int:
    """Predicts the files named on the command line; ends with 2 where one cannot be read."""
    parser = argparse.ArgumentParser(description="Predicts image files.")
    parser.add_argument("files", metavar="FILE", nargs="+", help="a JPEG, PNG, GIF, BMP or WebP")
    parser.add_argument("--json", action="store_true", help="all that is known, an object a line")
    options = parser.parse_args()
    predict = Predictor(Path(__file__).parent)
    sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
    if not options.json:
        print("file", *_head(predict.info), sep="\t")
    status = 0
    for file in options.files:
        try:
            found = predict(file)
        except (OSError, ValueError) as error:
            print(f"predict.py: {file}: {error}", file=sys.stderr)
            status = BAD_INPUT
            continue
        if options.json:
            print(json.dumps({"file": file, **found}, ensure_ascii=False))
        else:
            print(*(_one_line(cell) for cell in (file, *_row(found))), sep="\t")
    return status


def _head(info: dict[str, Any]) -> list[str]:
    names = [_one_line(name) for name in info["class_names"]]
    return {"single-label": ["class", "probability"], "multi-label": ["classes", *names]}.get(
        info["task"], names
    )


def _row(found: dict[str, Any]) -> list[str]:
    """The cells of a line: the class and its probability; the classes and all; or the values."""
    if "class" in found:
        return [found["class"], f"{found['probability']:.4f}"]
    if "classes" in found:
        return ["|".join(found["classes"]), *(f"{p:.4f}" for p in found["probabilities"].values())]
    return [f"{value:.6g}" for value in found["values"].values()]


def _one_line(text: str) -> str:
    return text.translate(dict.fromkeys(map(ord, "\t\r\n"), " "))


if __name__ == "__main__":
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        # `| head` has seen enough. Python would else complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = BROKEN_PIPE
    sys.exit(code)
