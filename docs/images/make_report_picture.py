"""Makes docs/images/report.png: two screens of a run's report, on pictures made by code.

    python docs/images/make_report_picture.py

Six solids are drawn by ray marching (Hart, "Sphere Tracing", The Visual Computer 12, 1996), in
light, colour and position that differ from picture to picture; a few get a wrong label on purpose,
so that there is something to find. It takes some minutes and needs chromium.
"""

import argparse
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

import keras_tl as ktl

SIZE = 160
# What is shown side by side: the page's top, and the sections that show photographs.
PARTS = (
    "",
    "<style>header, section:not(#pictures, #audit-of-the-images) {display: none}</style>",
)
WINDOW = (760, 1120)
STEPS, SHADOW_STEPS, FAR = 56, 24, 9.0
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

Distance = Callable[[np.ndarray], np.ndarray]


def _length(*parts: np.ndarray) -> np.ndarray:
    return np.sqrt(sum(part * part for part in parts))


def _cone(p: np.ndarray) -> np.ndarray:
    side = 0.89 * _length(p[..., 0], p[..., 2]) + 0.45 * (p[..., 1] - 0.62)
    return np.maximum(side, -p[..., 1] - 0.5)


def _box(p: np.ndarray) -> np.ndarray:
    q = np.abs(p) - 0.4
    inside = np.minimum(q.max(axis=-1), 0.0)
    return np.linalg.norm(np.maximum(q, 0.0), axis=-1) + inside - 0.05


# Signed distances of points [..., 3] to solids that are about one unit wide.
SOLIDS: dict[str, Distance] = {
    "ball": lambda p: np.linalg.norm(p, axis=-1) - 0.5,
    "cone": _cone,
    "cube": _box,
    "cylinder": lambda p: np.maximum(_length(p[..., 0], p[..., 2]) - 0.36, np.abs(p[..., 1]) - 0.5),
    "egg": lambda p: 0.8 * (_length(p[..., 0], (p[..., 1] + 0.05) * 0.72, p[..., 2]) - 0.38),
    "ring": lambda p: _length(_length(p[..., 0], p[..., 1]) - 0.4, p[..., 2]) - 0.14,
}


def _turn(random: np.random.Generator) -> np.ndarray:
    """A rotation about the upright axis, and a little tilt."""
    a, b = random.uniform(0, 2 * np.pi), random.normal(0, 0.25)
    upright = [[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]]
    tilt = [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
    return np.array(upright) @ np.array(tilt)


def draw(solid: Distance, random: np.random.Generator) -> Image.Image:
    """Draws a solid on a table: `SIZE` x `SIZE` pixels."""
    turn, middle = _turn(random), np.array([random.normal(0, 0.12), 0.5, random.normal(0, 0.12)])

    def scene(p: np.ndarray) -> np.ndarray:
        return np.minimum(solid((p - middle) @ turn), p[..., 1])

    eye, rays = _camera(random)
    depth = np.zeros((SIZE, SIZE))
    for _ in range(STEPS):
        depth = np.minimum(depth + scene(eye + depth[..., None] * rays), FAR)
    points = eye + depth[..., None] * rays
    light = np.array([random.uniform(-1, 1), random.uniform(0.8, 1.6), random.uniform(-1, -0.2)])
    shade = _shade(scene, points, light / np.linalg.norm(light))[..., None]
    of_solid = solid((points - middle) @ turn)[..., None] < points[..., 1:2]
    paint = np.where(of_solid, random.uniform(0.25, 1, 3), random.uniform(0.45, 0.95, 3))
    wall = random.uniform(0.5, 0.9, 3) * np.linspace(0.85, 1.15, SIZE)[:, None, None]
    colour = np.where(depth[..., None] < FAR - 0.1, paint * shade, wall)
    colour = colour * random.uniform(0.6, 1.1) + random.normal(0, 0.03, colour.shape)
    picture = Image.fromarray((255 * np.clip(colour, 0, 1) ** 0.8).astype(np.uint8))
    blur = float(random.choice([0.4, 0.6, 2.0], p=[0.5, 0.4, 0.1]))
    return picture.filter(ImageFilter.GaussianBlur(blur))


def _camera(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Where the camera is, and the direction of each pixel: `[SIZE, SIZE, 3]`."""
    eye = np.array([0.0, random.uniform(0.9, 1.7), -random.uniform(2.2, 3.0)])
    forward = np.array([0, 0.4, 0]) - eye
    forward /= np.linalg.norm(forward)
    right = np.array([1.0, 0, 0])
    across = np.linspace(-0.5, 0.5, SIZE)
    x, y = np.meshgrid(across, -across)
    rays = forward + x[..., None] * right + y[..., None] * np.cross(forward, right)
    return eye, rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def _shade(scene: Distance, points: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Light on the points: Lambert's cosine, soft shadows, and a little from all sides."""
    step = 1e-3
    slopes = [scene(points + step * axis) - scene(points - step * axis) for axis in np.eye(3)]
    normals = np.stack(slopes, axis=-1)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-9
    lit, walked = np.ones(points.shape[:2]), np.full(points.shape[:2], 0.03)
    for _ in range(SHADOW_STEPS):
        near = scene(points + walked[..., None] * light)
        lit = np.minimum(lit, np.clip(10 * near / walked, 0, 1))
        walked = walked + np.clip(near, 0.02, 0.3)
    return 0.3 + 0.75 * lit * np.clip(normals @ light, 0, 1)


def make_pictures(folder: Path, each: int, wrong: int) -> None:
    """Draws `each` pictures of every solid; `wrong` of them land in the next one's folder."""
    random, names = np.random.default_rng(1), list(SOLIDS)
    for index, name in enumerate(names):
        for number in range(each):
            label = names[(index + 1) % len(names)] if number < wrong else name
            (folder / label).mkdir(parents=True, exist_ok=True)
            draw(SOLIDS[name], random).save(folder / label / f"{name}-{number:03}.jpg", quality=90)


def photograph_page(page: Path, picture: Path) -> None:
    """Writes what a browser shows of parts of a page, side by side, in 256 colours."""
    browser = next(filter(None, map(shutil.which, BROWSERS)))
    whole = Image.new("RGB", (len(PARTS) * WINDOW[0], WINDOW[1]))
    with tempfile.TemporaryDirectory() as folder:
        copy, shot = Path(folder) / "page.html", Path(folder) / "shot.png"
        size = f"--window-size={WINDOW[0]},{WINDOW[1]}"
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", size]
        command = [browser, *options, f"--user-data-dir={folder}", f"--screenshot={shot}"]
        for column, part in enumerate(PARTS):
            copy.write_text(page.read_text(encoding="utf-8") + part, encoding="utf-8")
            subprocess.run([*command, copy.as_uri()], check=True, capture_output=True)
            whole.paste(Image.open(shot).convert("RGB"), (column * WINDOW[0], 0))
    whole.quantize(256).save(picture, optimize=True)


def main() -> None:
    """Draws, trains, and photographs the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("runs/report-picture"))
    parser.add_argument("--each", type=int, default=60, help="pictures of each solid")
    options = parser.parse_args()
    pictures, out = options.work / "solids", options.work / "solids-run"
    if not pictures.exists():
        make_pictures(pictures, options.each, wrong=2)
    if not (out / "report.html").exists():
        settings = {"image_size": 160, "epochs": 12, "fine_tune": 3, "fine_tune_epochs": 8}
        ktl.train(ktl.TrainConfig(str(pictures), str(out), test_fraction=0.3, **settings))
    photograph_page(out / "report.html", Path(__file__).parent / "report.png")


if __name__ == "__main__":
    main()
