"""Augmentation as a value: numbered views of an image, the same on every run.

A view depends on the image's content, the view's number and the settings, and on nothing else:
not on the run's seed, the order of images, the batch or the number of workers. So views can be
computed once, stored, and computed again.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import tensorflow as tf

from keras_tl.data.exif import orient
from keras_tl.data.rand_augment import apply_drawn
from keras_tl.data.warping import affine, warp
from keras_tl.errors import InputError, did_you_mean

# Raised whenever the same settings would give other pixels.
AUGMENT_VERSION = 1
SYMMETRIES = 8
# Settings added later: the fingerprint leaves them out at their defaults, and so stays the same.
_LATER = ("operations", "magnitude", "cutmix", "oversample")


@dataclass(frozen=True)
class Augmentation:
    """What may be done to an image before the model is trained on it.

    Attributes:
        name: What users call it; it changes no pixel.
        dihedral: Turn and mirror the image by the symmetries of the square: view v shows
            symmetry v modulo 8, view 0 the image itself (Cohen and Welling, "Group Equivariant
            Convolutional Networks", ICML 2016).
        horizontal_flip: Mirror left and right in half of the views.
        rotation: Turn by up to so many degrees either way, 0..180.
        scale: Smallest and largest share of the area that is cropped and enlarged to the full
            size, in (0, 1] (Szegedy et al., "Going Deeper with Convolutions", CVPR 2015,
            section 6).
        aspect_ratio: Smallest and largest width / height of that crop. Where a side would be longer
            than the picture it ends there, and the crop is smaller.
        brightness: Add up to this share of 255 either way, in [0, 1].
        contrast: Multiply the distance from the image's mean colour by 1 - contrast to
            1 + contrast, in [0, 1].
        saturation: The same for the distance from each pixel's grey, in [0, 1].
        erasing: Probability that a square is painted in the mean colour, in [0, 1] (Zhong et al.,
            "Random Erasing Data Augmentation", AAAI 2020, with the square of DeVries and
            Taylor, "Cutout", arXiv:1708.04552).
        erasing_area: Smallest and largest share of the image that is painted over.
        operations: How many operations of `keras_tl.data.rand_augment` are drawn for a view, in
            0..4 (Cubuk et al., "RandAugment", NeurIPS 2020).
        magnitude: How strong they are, in [0, 1] (RandAugment's M of 30 is M / 30); None draws
            it for each (Müller and Hutter, "TrivialAugment", ICCV 2021).
        cutmix: Share of the views, in [0, 1], into which a box of another training image is
            pasted; targets are mixed by area (Yun et al., "CutMix", ICCV 2019). Classes only.
        oversample: How many times the model's size a picture is read at before it is cropped, in
            1..4. A small crop then keeps the photograph's detail. Above 2, a picture that is hardly
            cropped is shrunk by skipping pixels.
        cycle: How many views the epochs cycle through if their number is unlimited; it changes no
            pixel. With `dihedral` 8 show all symmetries.

    Raises:
        InputError: A setting is out of range or of another type.
    """

    name: str
    dihedral: bool = False
    horizontal_flip: bool = False
    rotation: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    aspect_ratio: tuple[float, float] = (1.0, 1.0)
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    erasing: float = 0.0
    erasing_area: tuple[float, float] = (0.02, 0.2)
    cycle: int = 4
    operations: int = 0
    magnitude: float | None = 0.3
    cutmix: float = 0.0
    oversample: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.name != "name":
                value = _plain(getattr(self, field.name))
                _check_type(field.name, value, field.default)
                object.__setattr__(self, field.name, value)
        _check_within("rotation", (self.rotation,), 0.0, 180.0)
        for name in ("brightness", "contrast", "saturation", "erasing", "cutmix"):
            _check_within(name, (getattr(self, name),), 0.0, 1.0)
        for name in ("scale", "erasing_area"):
            _check_within(name, getattr(self, name), 1e-3, 1.0)
        _check_within("aspect_ratio", self.aspect_ratio, 1e-2, 1e2)
        _check_within("operations", (self.operations,), 0, 4)
        _check_within("magnitude", (self.magnitude or 0.0,), 0.0, 1.0)
        _check_within("oversample", (self.oversample,), 1.0, 4.0)
        if self.cycle < 2:
            raise InputError("at least 2 views", str(self.cycle), "For none, take 'none'.")

    @property
    def is_random(self) -> bool:
        """Whether anything is drawn at random."""
        return self.cutmix > 0 or self._varies

    @property
    def views(self) -> int | None:
        """How many different views there are: 1, 8, or None if their number is unlimited."""
        if self.is_random:
            return None
        return SYMMETRIES if self.dihedral else 1

    def fingerprint(self) -> int:
        """A number in [0, 2**63) that is the same in every process for the same settings."""
        settings = asdict(self) | {"name": "", "cycle": 0, "version": AUGMENT_VERSION}
        for field in fields(self):
            if field.name in _LATER and settings[field.name] == field.default:
                del settings[field.name]
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).digest()
        return int.from_bytes(digest[:8], "little") >> 1

    def read_size(self, size: int) -> int:
        """The height and width that a picture is read at for views of height and width `size`."""
        return round(self.oversample * size)

    @property
    def _crops(self) -> bool:
        return self.scale != (1.0, 1.0) or self.aspect_ratio != (1.0, 1.0)

    @property
    def _moves(self) -> bool:
        return self.horizontal_flip or self._crops or self.rotation > 0 or self.oversample > 1

    @property
    def _varies(self) -> bool:
        """Whether an image's own pixels are changed at random (cutmix apart)."""
        colours = (self.brightness, self.contrast, self.saturation, self.erasing, self.operations)
        return self.horizontal_flip or self._crops or self.rotation > 0 or any(colours)


def _plain(value: Any) -> Any:
    """Python's own value for NumPy's, and a tuple for a list; 15 stays unlike 15.0."""
    value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def _check_type(name: str, value: Any, default: Any) -> None:
    """Raises `InputError` unless the value is of the kind that the default is."""
    if isinstance(default, bool):
        expected, fits = "True or False", isinstance(value, bool)
    elif isinstance(default, int):
        expected, fits = "a whole number", isinstance(value, int)
    elif isinstance(default, tuple):
        is_pair = isinstance(value, tuple) and len(value) == 2
        expected, fits = "two numbers", is_pair and all(isinstance(x, int | float) for x in value)
    else:
        is_none = name == "magnitude" and value is None
        expected, fits = "a number", isinstance(value, int | float) or is_none
    if not fits:
        raise InputError(f"{expected} for {name}", repr(value), "Mend the augmentation.")


def _check_within(name: str, values: tuple[float, ...], low: float, high: float) -> None:
    """Raises `InputError` unless the values ascend within the bounds."""
    if not (low <= values[0] and values[-1] <= high and values[0] <= values[-1]):
        received = " to ".join(f"{value:g}" for value in values)
        raise InputError(f"{name} within {low:g} to {high:g}", received, "Mend the augmentation.")


PRESETS = {
    preset.name: preset
    for preset in (
        Augmentation("none", cycle=8),
        Augmentation("light", horizontal_flip=True, scale=(0.8, 1.0), brightness=0.1, contrast=0.1),
        Augmentation(
            "strong",
            horizontal_flip=True,
            rotation=15.0,
            scale=(0.5, 1.0),
            aspect_ratio=(3 / 4, 4 / 3),
            brightness=0.2,
            contrast=0.2,
            saturation=0.2,
            erasing=0.25,
            cycle=8,
        ),
        Augmentation("dihedral", dihedral=True, cycle=SYMMETRIES),
        Augmentation(
            "randaugment",
            horizontal_flip=True,
            scale=(0.5, 1.0),
            aspect_ratio=(3 / 4, 4 / 3),
            operations=2,
            magnitude=0.3,
            cycle=8,
        ),
        Augmentation(
            "trivial",
            horizontal_flip=True,
            scale=(0.5, 1.0),
            aspect_ratio=(3 / 4, 4 / 3),
            operations=1,
            magnitude=None,
            cycle=8,
        ),
    )
}


def get(name: str) -> Augmentation:
    """Looks a preset up: "none", "light", "strong", "dihedral", "randaugment" or "trivial".

    Raises:
        InputError: There is no preset of that name.
    """
    if name not in PRESETS:
        hint = did_you_mean(name, PRESETS, f"Choose one of {', '.join(PRESETS)}.")
        raise InputError("an augmentation's name", repr(name), hint)
    return PRESETS[name]


def image_seeds(keys: Iterable[str]) -> np.ndarray:
    """Makes one seed of each image's content hash, the same in every process: int64 `[keys]`."""
    digests = [hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys]
    return np.frombuffer(b"".join(digests), "<i8").astype(np.int64)


@tf.autograph.experimental.do_not_convert
def augment(
    image: tf.Tensor, augmentation: Augmentation, image_seed: tf.Tensor, view: tf.Tensor
) -> tf.Tensor:
    """Makes one view of an image, without a pasted box (see `keras_tl.data.mixing`).

    Args:
        image: uint8 `[side, side, 3]`, 0..255, where side is `augmentation.read_size(size)`.
        augmentation: What may be done to it.
        image_seed: The image's number from `image_seeds`, a scalar int64.
        view: The view's number, a scalar int64 of at least 0.

    Returns:
        uint8 `[size, size, 3]`, 0..255.
    """
    view = tf.cast(view, tf.int64)
    if augmentation.dihedral:
        symmetry = tf.cast(view % SYMMETRIES, tf.int32)
        image = tf.ensure_shape(orient(image, symmetry + 1), image.shape)
    if not augmentation._varies and augmentation.oversample == 1:
        return image
    settings = tf.constant(augmentation.fingerprint(), tf.int64)
    seed = tf.stack([tf.bitwise.bitwise_xor(tf.cast(image_seed, tf.int64), settings), view])
    # All numbers are always drawn, so that one setting does not change another's draws.
    draws = tf.unstack(tf.random.stateless_uniform((13,), seed, alg="philox"))
    # A mean of integers is exact, so that it does not depend on the order of summing.
    total = tf.reduce_sum(tf.cast(image, tf.int64), axis=(0, 1))
    mean = tf.cast(total / tf.size(image[..., 0], tf.int64), tf.float32)
    pixels = tf.cast(image, tf.float32)
    if augmentation._moves:
        pixels = _move(pixels, augmentation, draws[:6])
    if augmentation.operations:
        pixels = tf.clip_by_value(tf.round(pixels), 0.0, 255.0)
        more = tf.random.experimental.stateless_fold_in(seed, 1)
        drawn = tf.random.stateless_uniform((augmentation.operations, 3), more, alg="philox")
        pixels = apply_drawn(pixels, augmentation.magnitude, drawn)
    pixels = _recolour(pixels, augmentation, mean, draws[6:9])
    if augmentation.erasing:
        pixels = _erase(pixels, augmentation, mean, draws[9:])
    return tf.saturate_cast(tf.round(pixels), tf.uint8)


def _between(low: float, high: float, draw: tf.Tensor) -> tf.Tensor:
    return low + (high - low) * draw


def _move(image: tf.Tensor, augmentation: Augmentation, draws: list[tf.Tensor]) -> tf.Tensor:
    """Flips, crops, enlarges and turns in one bilinear resampling, mirrored at the edges."""
    flip, turn, area, ratio, left, top = draws
    mirrored = augmentation.horizontal_flip & (flip < 0.5)
    share = _between(*augmentation.scale, area)
    low, high = np.log(augmentation.aspect_ratio)
    stretch = tf.exp(_between(low, high, ratio))
    width = tf.minimum(tf.sqrt(share * stretch), 1.0)
    height = tf.minimum(tf.sqrt(share / stretch), 1.0)
    side = image.shape[0]
    # Undoes `read_size`: the side of the views that the image was read for.
    output = round(side / augmentation.oversample)
    size = tf.constant(side, tf.float32)
    matrix = affine(
        size,
        scale_x=tf.where(mirrored, -width, width) * (side / output),
        scale_y=height * (side / output),
        angle=_between(-1.0, 1.0, turn) * np.deg2rad(augmentation.rotation),
        shift_x=(left - 0.5) * (1 - width) * size,
        shift_y=(top - 0.5) * (1 - height) * size,
        output_size=tf.constant(output, tf.float32),
    )
    return warp(image, matrix, tf.constant(output))


def _recolour(
    image: tf.Tensor, augmentation: Augmentation, mean: tf.Tensor, draws: list[tf.Tensor]
) -> tf.Tensor:
    """Changes saturation, contrast and brightness, in this order, in the range 0..255."""
    saturation, contrast, brightness = (_between(-1.0, 1.0, draw) for draw in draws)
    if augmentation.saturation:
        grey = tf.image.rgb_to_grayscale(image)
        image = grey + (1 + augmentation.saturation * saturation) * (image - grey)
    if augmentation.contrast:
        image = mean + (1 + augmentation.contrast * contrast) * (image - mean)
    return image + 255 * augmentation.brightness * brightness


def _erase(
    image: tf.Tensor, augmentation: Augmentation, mean: tf.Tensor, draws: list[tf.Tensor]
) -> tf.Tensor:
    """Paints a square in the mean colour."""
    whether, area, top, left = draws
    size = tf.cast(tf.shape(image)[0], tf.float32)
    side = size * tf.sqrt(_between(*augmentation.erasing_area, area))
    first = tf.stack([top, left]) * (size - side)
    index = tf.range(size)[:, None]
    inside = (index >= first) & (index < first + side)
    box = inside[:, None, 0] & inside[None, :, 1]
    is_erased = (whether < augmentation.erasing) & box
    return tf.where(is_erased[..., None], mean, image)
