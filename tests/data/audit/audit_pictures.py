"""Photograph-like pictures made by code, and what people do to copies of photographs."""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps


def photograph(seed, size=(240, 180)):
    """Coloured noise with the spectrum of natural images, with a few shapes in front."""
    rng = np.random.default_rng(seed)
    width, height = size
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    fall = 1 / np.maximum(np.hypot(rows, columns), 1 / max(size)) ** 1.3
    tint = rng.uniform(60, 190, 3)
    planes = []
    for channel in range(3):
        noise = np.fft.rfft2(rng.normal(size=(height, width))) * fall
        plane = np.fft.irfft2(noise, (height, width))
        planes.append(tint[channel] + 35 * (plane - plane.mean()) / plane.std())
    image = Image.fromarray(np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(2, 6)):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        w, h = rng.uniform(15, 80, 2)
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((x, y, x + w, y + h), fill=tuple(int(v) for v in rng.integers(0, 256, 3)))
    return image


def encoded(image, kind="JPEG", **options):
    file = io.BytesIO()
    image.convert("RGB").save(file, kind, **options)
    return file.getvalue()


def crop(image, share, left=0.5, top=0.5):
    """Cuts `share` of each side away, `left` of it at the left."""
    width, height = image.size
    w, h = round(width * (1 - share)), round(height * (1 - share))
    x, y = round((width - w) * left), round((height - h) * top)
    return image.crop((x, y, x + w, y + h))


COPIES = {
    "re-encoded": lambda image: encoded(image, quality=40),
    "as PNG": lambda image: encoded(image, "PNG"),
    "half the size": lambda image: encoded(image.resize((image.width // 2, image.height // 2))),
    "twice the size": lambda image: encoded(image.resize((image.width * 2, image.height * 2))),
    "brighter": lambda image: encoded(ImageEnhance.Brightness(image).enhance(1.25)),
    "darker": lambda image: encoded(ImageEnhance.Brightness(image).enhance(0.7)),
    "more contrast": lambda image: encoded(ImageEnhance.Contrast(image).enhance(1.3)),
    "grey": lambda image: encoded(image.convert("L")),
    "cropped by 3 %": lambda image: encoded(crop(image, 0.03, 0.2, 0.9)),
    "cropped by 7 %": lambda image: encoded(crop(image, 0.07, 0.8, 0.3)),
    "mirrored": lambda image: encoded(ImageOps.mirror(image)),
    "several": lambda image: encoded(
        ImageEnhance.Brightness(crop(image, 0.05, 0.7, 0.1)).enhance(1.1).resize((150, 110)),
        quality=60,
    ),
}
