import io
import itertools
import struct
import time
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from keras_tl.data import decoding
from keras_tl.data.decoding import ImageInput, decode, fit_to_input
from keras_tl.errors import InputError
from keras_tl.export.predict import read_pixels

HEIGHT, WIDTH = 30, 42


@pytest.fixture
def untraced():
    """Graphs made before a fault was planted do not have it, and those made after must not stay."""
    decoding._any_image.cache_clear()
    yield
    decoding._any_image.cache_clear()


def picture(channels=3, height=HEIGHT, width=WIDTH):
    """Smooth waves with a little noise: uint8 [height, width, channels]."""
    row, column = np.mgrid[0:height, 0:width]
    waves = [np.sin(column / 9 + k) * 60 + np.cos(row / 7 - k) * 60 for k in range(channels)]
    noise = np.random.default_rng(0).normal(0, 4, (height, width, channels))
    return (np.stack(waves, -1) + noise + 128).clip(0, 255).astype(np.uint8)


def encode(image, kind, **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image.squeeze())
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def keyed_png(samples, depth, key=None):
    """A grey PNG of any depth, of which one level may be transparent."""
    bits = (samples[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    rows = np.packbits(bits.reshape(len(samples), -1).astype(np.uint8), axis=1)
    header = struct.pack(">IIBBBBB", *samples.shape[::-1], depth, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"tRNS", struct.pack(">H", key or 0))]
    parts += [(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)))]
    chunks = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in [*parts, (b"IEND", b"")]
        if name != b"tRNS" or key is not None
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def pil_pixels(contents):
    """What a careful user of PIL would get: upright RGB on white."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(contents)))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def decode_square(contents, **settings):
    """Decodes so that a square image of side `size` keeps every pixel."""
    return decode(tf.constant(contents), ImageInput(**settings)).numpy()


def largest_difference(a, b):
    return np.abs(a.astype(int) - b.astype(int)).max()


def square(channels=3):
    return picture(channels, 32, 32)


def palette_image():
    return Image.fromarray(square()).quantize(16)


EXACT = {
    "jpeg 4:4:4": encode(square(), "JPEG", subsampling=0),
    "jpeg 4:2:0 progressive": encode(square(), "JPEG", subsampling=2, progressive=True),
    "jpeg grey": encode(square(1), "JPEG"),
    "png": encode(square(), "PNG"),
    "png grey": encode(square(1), "PNG"),
    "png 1 bit": encode(Image.fromarray(square(1)[..., 0] > 128), "PNG"),
    "png palette": encode(palette_image(), "PNG"),
    "bmp 24 bit": encode(square(), "BMP"),
    "bmp grey": encode(square(1), "BMP"),
    "bmp palette": encode(palette_image(), "BMP"),
    "gif": encode(palette_image(), "GIF"),
    "gif of two frames": encode(
        palette_image(), "GIF", save_all=True, append_images=[palette_image().rotate(90)]
    ),
    "png grey with a transparent level": encode(square(1) // 64 * 64, "PNG", transparency=128),
    "png rgb with a transparent colour": encode(
        square() // 128 * 128, "PNG", transparency=(128, 128, 0)
    ),
    "png 1 bit transparent": encode(
        Image.fromarray(square(1)[..., 0] > 128), "PNG", transparency=1
    ),
    "gif transparent": encode(palette_image(), "GIF", transparency=3),
    "gif with a comment": encode(palette_image(), "GIF", transparency=3, comment=b"a" * 700),
    "webp lossy": encode(square(), "WEBP"),
    "webp lossless": encode(square(), "WEBP", lossless=True),
}
# CMYK and blending are rounded differently by PIL.
WITHIN_ONE = {
    "jpeg cmyk": encode(Image.fromarray(square(4), "CMYK"), "JPEG"),
    "png rgba": encode(square(4), "PNG"),
    "png grey and alpha": encode(Image.fromarray(square(2), "LA"), "PNG"),
    "png transparent colour": encode(palette_image(), "PNG", transparency=2),
    "png transparent palette": encode(
        palette_image(), "PNG", transparency=bytes(range(0, 160, 10))
    ),
    "webp alpha": encode(square(4), "WEBP"),
    "webp lossless alpha": encode(square(4), "WEBP", lossless=True),
}


@pytest.mark.parametrize("name", EXACT)
def test_decodes_as_pil_does(name):
    np.testing.assert_array_equal(decode_square(EXACT[name], size=32), pil_pixels(EXACT[name]))


@pytest.mark.parametrize("name", WITHIN_ONE)
def test_decodes_nearly_as_pil_does(name):
    contents = WITHIN_ONE[name]
    assert largest_difference(decode_square(contents, size=32), pil_pixels(contents)) <= 1


def test_a_32_bit_bmp_is_opaque():
    contents = encode(square(4), "BMP")
    np.testing.assert_array_equal(decode_square(contents, size=32), square(4)[..., :3])


def test_a_top_down_bmp():
    contents = encode(square(), "BMP")
    top_down = contents[:22] + struct.pack("<i", -32) + contents[26:]
    np.testing.assert_array_equal(decode_square(top_down, size=32), square()[::-1])


def test_16_bit_samples_keep_their_upper_byte():
    samples = np.random.default_rng(1).integers(0, 2**16, (32, 32)).astype(np.uint16)
    pixels = decode_square(encode(Image.fromarray(samples), "PNG"), size=32)
    np.testing.assert_array_equal(pixels, np.repeat((samples >> 8)[..., None], 3, -1))


@pytest.mark.parametrize("depth", [2, 4, 16])
def test_a_transparent_level_of_other_depths_is_white(depth):
    levels = np.arange(1024).reshape(32, 32) % (4 if depth == 2 else 16)
    shown = {2: levels * 85, 4: levels * 17, 16: levels}[depth]
    expected = np.repeat(np.where(levels == 2, 255, shown)[..., None], 3, -1)
    samples = levels * 257 if depth == 16 else levels
    contents = keyed_png(samples, depth, 514 if depth == 16 else 2)
    np.testing.assert_array_equal(decode_square(contents, size=32), expected)
    spec = {"size": 32, "resize": "squash", "antialias": True, "max_pixels": 10**8}
    np.testing.assert_array_equal(read_pixels(io.BytesIO(contents), spec), expected)


def test_grey_of_2_bits_without_a_transparent_level_is_opaque():
    levels = np.arange(1024).reshape(32, 32) % 4
    expected = np.repeat(levels[..., None] * 85, 3, -1)
    np.testing.assert_array_equal(decode_square(keyed_png(levels, 2), size=32), expected)


@pytest.mark.parametrize("name", [name for name in EXACT if "png" in name])
def test_exported_code_reads_png_alike(name):
    spec = {"size": 32, "resize": "squash", "antialias": True, "max_pixels": 10**8}
    pixels = read_pixels(io.BytesIO(EXACT[name]), spec)
    np.testing.assert_array_equal(pixels, pil_pixels(EXACT[name]))


def test_transparency_is_blended_with_white():
    pixel = np.array([[[10, 100, 200, 51]]], np.uint8)
    # 51 / 255 is a fifth: 10 / 5 + 204, 100 / 5 + 204, 200 / 5 + 204.
    pixels = decode_square(encode(Image.fromarray(pixel), "PNG"), size=1)
    assert pixels.tolist() == [[[206, 224, 244]]]
    grey = tf.constant([[[10, 0]]], tf.uint8)
    assert fit_to_input(grey, ImageInput(size=1)).numpy().tolist() == [[[255, 255, 255]]]


def exif(orientation, byte_order):
    """A TIFF with two entries, the orientation last."""
    mark = {"<": b"II", ">": b"MM"}[byte_order]
    entries = struct.pack(byte_order + "HHII", 0x0100, 4, 1, 6)
    entries += struct.pack(byte_order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    header = mark + struct.pack(byte_order + "HIH", 42, 8, 2)
    return b"Exif\0\0" + header + entries + struct.pack(byte_order + "I", 0)


def long_exif(orientation, byte_order):
    """The same with the orientation as a long number, as some writers have it."""
    short = struct.pack(byte_order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    long = struct.pack(byte_order + "HHII", 0x0112, 4, 1, orientation)
    return exif(orientation, byte_order).replace(short, long)


def oriented(kind, orientation, byte_order="<"):
    options = {"JPEG": {"subsampling": 0}, "WEBP": {"lossless": True}, "PNG": {}}[kind]
    return encode(picture(), kind, exif=exif(orientation, byte_order), **options)


@pytest.mark.parametrize(("orientation", "byte_order"), list(itertools.product(range(1, 9), "<>")))
def test_jpeg_orientation(orientation, byte_order):
    check_orientation(oriented("JPEG", orientation, byte_order))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_orientation_of_other_kinds(kind):
    check_orientation(oriented(kind, 6))


def check_orientation(contents):
    expected = fit_to_input(tf.constant(pil_pixels(contents)), ImageInput(size=32, resize="pad"))
    np.testing.assert_array_equal(decode_square(contents, size=32, resize="pad"), expected.numpy())


def test_the_orientation_check_can_fail():
    contents = oriented("JPEG", 6)
    without_exif = contents.replace(b"Exif\0\0", b"exif\0\0")
    expected = decode_square(contents, size=32, resize="pad")
    assert largest_difference(decode_square(without_exif, size=32, resize="pad"), expected) > 20


def test_exif_behind_another_app_segment():
    contents = oriented("JPEG", 3)
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x/>"
    segment = b"\xff\xe1" + struct.pack(">H", len(xmp) + 2) + xmp
    check_orientation(contents[:2] + segment + contents[2:])


@pytest.mark.parametrize("byte_order", "<>")
@pytest.mark.parametrize("orientation", [6, 65542])
def test_an_orientation_may_be_a_long_number(orientation, byte_order):
    contents = encode(
        picture(), "JPEG", subsampling=0, exif=long_exif(min(orientation, 9), byte_order)
    )
    if orientation > 9:
        contents = contents.replace(
            struct.pack(byte_order + "I", 9), struct.pack(byte_order + "I", orientation)
        )
    check_orientation(contents)


def test_exif_behind_bytes_that_fill():
    contents = oriented("JPEG", 6)
    check_orientation(contents[:2] + b"\xff\xff" + contents[2:])


@pytest.mark.parametrize(
    "damage",
    [
        (b"II*\0", b"IIII"),
        (b"II*\0\x08\0\0\0", b"II*\0\xff\xff\xff\xff"),
        (b"\x12\x01\x03\0\x01\0\0\0\x06\0", b"\x12\x01\x03\0\x01\0\0\0\x09\0"),
        (b"\x12\x01\x03\0\x01\0\0\0\x06\0", b"\x12\x01\x02\0\x01\0\0\0\x06\0"),
        (b"Exif\0\0II*\0\x08\0\0\0\x02\0", b"Exif\0\0II*\0\x08\0\0\0\0\0"),
    ],
)
def test_malformed_exif_is_ignored(damage):
    contents = oriented("JPEG", 6)
    assert damage[0] in contents
    damaged = contents.replace(*damage)
    as_stored = contents.replace(b"Exif\0\0", b"exif\0\0")
    np.testing.assert_array_equal(
        decode_square(damaged, size=32), decode_square(as_stored, size=32)
    )


BROKEN = {
    "empty": b"",
    "text": b"not an image at all",
    "one byte": b"\xff",
    "truncated jpeg": EXACT["jpeg 4:4:4"][:300],
    "jpeg of three bytes": b"\xff\xd8\xff",
    "truncated png": EXACT["png"][:200],
    "header only": EXACT["png"][:8],
    "truncated gif": EXACT["gif"][:20],
    "truncated webp": EXACT["webp lossy"][:30],
    "truncated bmp": EXACT["bmp 24 bit"][:100],
    "1-bit bmp": encode(Image.fromarray(square(1)[..., 0] > 128), "BMP"),
    "run-length bmp": EXACT["bmp grey"][:30] + b"\x01" + EXACT["bmp grey"][31:],
    "animated webp": encode(
        square(), "WEBP", save_all=True, append_images=[Image.fromarray(square()).rotate(90)]
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_raise_and_nothing_else(name):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_square(BROKEN[name], size=8)


def test_the_unknown_kind_is_told():
    with pytest.raises(tf.errors.InvalidArgumentError, match="not a JPEG, PNG, GIF, BMP or WebP"):
        decode_square(b"%PDF-1.7", size=8)


@pytest.mark.parametrize(
    "name",
    [
        "jpeg 4:4:4",
        "png",
        "gif",
        "bmp 24 bit",
        "webp lossy",
        "webp lossless",
        "webp alpha",
        "webp lossless alpha",
    ],
)
def test_more_pixels_than_allowed_are_refused(name):
    contents = (EXACT | WITHIN_ONE)[name]
    decode_square(contents, size=8, max_pixels=32 * 32)
    with pytest.raises(tf.errors.InvalidArgumentError, match="more than 1023 pixels"):
        decode_square(contents, size=8, max_pixels=32 * 32 - 1)


def png_bomb(width, height):
    """A valid PNG header, and pixels that a decoder would make room for."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = b"IDAT" + zlib.compress(bytes(10**6))
    chunks = [header, pixels, b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in chunks
    )


@pytest.mark.parametrize("sides", [(60000, 60000), (2**32 - 1, 2**32 - 1)])
def test_a_bomb_is_refused_before_it_is_decoded(sides):
    in_graph = tf.function(lambda contents: decode(contents, ImageInput()))
    for function in (in_graph, lambda contents: decode(contents, ImageInput())):
        start = time.perf_counter()
        with pytest.raises(tf.errors.InvalidArgumentError, match="more than 100000000 pixels"):
            function(tf.constant(png_bomb(*sides)))
        assert time.perf_counter() - start < 10


def triangle_weights(before, after, antialias):
    """The bilinear weights of each output pixel, by the textbook: [after, before]."""
    scale = before / after
    reach = max(scale, 1.0) if antialias else 1.0
    centres = (np.arange(after)[:, None] + 0.5) * scale - 0.5
    sources = np.arange(before)[None]
    if not antialias:
        centres = centres.clip(0, before - 1)
    weights = (1 - np.abs(sources - centres) / reach).clip(0)
    return weights / weights.sum(1, keepdims=True)


def resized(pixels, height, width, antialias=True):
    rows = triangle_weights(pixels.shape[0], height, antialias)
    columns = triangle_weights(pixels.shape[1], width, antialias)
    return np.einsum("ih,hwc,jw->ijc", rows, pixels.astype(float), columns)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [11, 64])
def test_squash_by_another_computation(size, antialias):
    pixels = fit_to_input(picture(), ImageInput(size=size, antialias=antialias)).numpy()
    expected = resized(picture(), size, size, antialias)
    assert np.abs(pixels - expected).max() < 0.51
    other = resized(picture(), size, size, not antialias)
    assert size > HEIGHT or np.abs(pixels - other).max() > 2


def test_squash_by_pil():
    expected = Image.fromarray(picture()).resize((16, 16), Image.Resampling.BILINEAR)
    pixels = fit_to_input(picture(), ImageInput(size=16)).numpy()
    assert largest_difference(pixels, np.asarray(expected)) <= 1


@pytest.mark.parametrize("sides", [(120, 87), (40, 41), (90, 300), (13, 7)])
def test_resizing_is_tensorflows_to_the_bit(sides):
    def by_tensorflow(pixels):
        return tf.round(tf.image.resize(pixels, (32, 32), antialias=True)).numpy()

    pixels = picture(3, *sides)
    resized = fit_to_input(pixels, ImageInput(size=32)).numpy()
    np.testing.assert_array_equal(resized, by_tensorflow(pixels))
    assert (resized != by_tensorflow(pixels[1:])).any()


def test_crop_keeps_the_centred_square():
    expected = resized(picture()[:, 6:36], 16, 16)
    pixels = fit_to_input(picture(), ImageInput(size=16, resize="crop")).numpy()
    assert np.abs(pixels - expected).max() < 0.51
    assert np.abs(pixels - resized(picture(), 16, 16)).max() > 2


def test_shorter_crop_keeps_seven_eighths():
    expected = resized(picture(3, 32, 48)[2:30, 10:38], 16, 16)
    settings = ImageInput(size=16, resize="shorter-crop")
    pixels = fit_to_input(picture(3, 32, 48), settings).numpy()
    assert np.abs(pixels - expected).max() < 0.51


def test_pad_keeps_proportions_on_white():
    pixels = fit_to_input(picture(), ImageInput(size=21, resize="pad")).numpy()
    assert (pixels[:3] == 255).all() and (pixels[18:] == 255).all()
    assert np.abs(pixels[3:18] - resized(picture(), 15, 21)).max() < 0.51


@pytest.mark.parametrize("mode", ["squash", "crop", "pad", "shorter-crop"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 20000), (20000, 1), (3, 5000)])
def test_extreme_shapes(mode, shape):
    pixels = np.full((*shape, 3), 7, np.uint8)
    pixels = fit_to_input(pixels, ImageInput(size=32, resize=mode)).numpy()
    assert pixels.shape == (32, 32, 3)
    assert set(np.unique(pixels)) <= {7, 255}
    assert mode == "pad" or (pixels == 7).all()


def test_wide_strips_are_resized_like_others():
    strip = picture(3, 4, 100)
    pixels = fit_to_input(strip, ImageInput(size=16)).numpy()
    assert np.abs(pixels - resized(strip, 16, 16)).max() < 0.51


def photograph(height, width, seed=0):
    """Noise of all scales, the coarse strong and the fine weak: uint8 [height, width, 3]."""
    random = np.random.default_rng(seed)
    octaves = np.zeros((height, width, 3))
    for k in range(7):
        coarse = random.normal(0, 2.0 ** (5 - k), (height >> (6 - k), width >> (6 - k), 3))
        image = [Image.fromarray(coarse[..., c].astype(np.float32)) for c in range(3)]
        large = [channel.resize((width, height), Image.Resampling.BICUBIC) for channel in image]
        octaves += np.stack([np.asarray(channel) for channel in large], -1)
    return (octaves + 128).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("sides", "mode", "ratio"),
    [
        ((127, 500), "squash", 1),
        ((128, 500), "squash", 2),
        ((500, 255), "squash", 2),
        ((500, 256), "crop", 4),
        ((600, 512), "squash", 8),
        ((127, 20), "pad", 1),
        ((20, 512), "pad", 8),
        # 7/8 of 146 is 127.75, of 147 it is 128.6.
        ((146, 500), "shorter-crop", 1),
        ((147, 500), "shorter-crop", 2),
    ],
)
def test_jpegs_are_decoded_at_twice_the_size_or_more(sides, mode, ratio):
    contents = encode(photograph(*sides), "JPEG")
    image = decoding._read_jpeg(tf.constant(contents), ImageInput(size=32, resize=mode))
    assert image.pixels.shape[:2] == [-(-side // ratio) for side in sides]
    assert (int(image.ratio), *image.sides.numpy()) == (ratio, *sides)
    full = decoding._read_jpeg(
        tf.constant(contents), ImageInput(size=32, resize=mode, antialias=False)
    )
    np.testing.assert_array_equal(full.pixels, pil_pixels(contents))


def scaled_difference(sides, mode, orientation=1):
    """Mean difference of `decode` from resizing what PIL decodes at full size."""
    contents = encode(photograph(*sides), "JPEG", quality=90, exif=exif(orientation, "<"))
    settings = ImageInput(size=32, resize=mode)
    full = fit_to_input(tf.constant(pil_pixels(contents)), settings).numpy().astype(int)
    return np.abs(decode(tf.constant(contents), settings).numpy() - full).mean()


SCALED = [
    ((256, 200), "squash", 1),
    ((131, 301), "squash", 6),
    ((301, 275), "squash", 3),
    ((270, 301), "crop", 8),
    ((515, 613), "crop", 1),
    ((617, 523), "squash", 1),
    ((617, 523), "squash", 7),
    ((200, 517), "pad", 1),
    ((300, 410), "shorter-crop", 1),
    ((1100, 1200), "shorter-crop", 5),
    ((131, 5001), "crop", 7),
]


@pytest.mark.parametrize(("sides", "mode", "orientation"), SCALED)
def test_decoding_at_a_smaller_scale_changes_little(sides, mode, orientation):
    assert scaled_difference(sides, mode, orientation) < 0.5


def test_a_scale_too_far_would_be_seen(monkeypatch, untraced):
    for mode, side in decoding._SIDES.items():
        monkeypatch.setitem(decoding._SIDES, mode, lambda sides, side=side: 4 * side(sides))
    assert min(scaled_difference(*case) for case in SCALED[:4]) > 0.5


def test_a_picture_stretched_to_whole_pixels_would_be_seen(monkeypatch, untraced):
    def stretched(picture, orientation):
        return decoding._whole(upright(picture, orientation).pixels)

    upright = decoding._upright
    monkeypatch.setattr(decoding, "_upright", stretched)
    assert min(scaled_difference(*case) for case in SCALED[1:7]) > 0.6


def test_a_flip_left_out_of_the_reckoning_would_be_seen(monkeypatch, untraced):
    def not_moved(picture, orientation):
        return upright(picture, orientation)._replace(start=tf.constant((0, 0)))

    upright = decoding._upright
    monkeypatch.setattr(decoding, "_upright", not_moved)
    turned = [case for case in SCALED if case[2] in (3, 6, 7, 8)]
    assert min(scaled_difference(*case) for case in turned) > 0.6


def test_grey_arrays_become_rgb():
    pixels = fit_to_input(square(1), ImageInput(size=32)).numpy()
    np.testing.assert_array_equal(pixels, np.repeat(square(1), 3, -1))


def test_the_same_in_eager_code_in_a_dataset_and_in_a_saved_model(tmp_path):
    scaled = encode(photograph(131, 200), "JPEG", exif=exif(6, "<"))
    files = [oriented("JPEG", 6), scaled, *EXACT.values(), *WITHIN_ONE.values()]
    settings = ImageInput(size=24, resize="crop")
    eager = np.stack([decode(tf.constant(contents), settings) for contents in files])

    dataset = tf.data.Dataset.from_tensor_slices(files)
    mapped = dataset.map(lambda contents: decode(contents, settings), num_parallel_calls=8)
    np.testing.assert_array_equal(eager, np.stack(list(mapped.as_numpy_iterator())))

    def decode_batch(batch):
        output = tf.TensorSpec((24, 24, 3), tf.uint8)
        return tf.map_fn(lambda one: decode(one, settings), batch, fn_output_signature=output)

    module = tf.Module()
    module.decode = tf.function(decode_batch, input_signature=[tf.TensorSpec([None], tf.string)])
    tf.saved_model.save(module, tmp_path / "saved")
    loaded = tf.saved_model.load(tmp_path / "saved")
    np.testing.assert_array_equal(eager, loaded.decode(tf.constant(files)))


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ({"size": 0}, "at least 1 pixel"),
        ({"resize": "squish"}, "Did you mean squash"),
        ({"max_pixels": 0}, "max_pixels"),
        ({"decoder_version": 1}, "decoder version 4"),
    ],
)
def test_settings_are_checked(settings, hint):
    with pytest.raises(InputError, match=hint):
        ImageInput(**settings)


def graph_nodes(function):
    """How many operations a function of a file has, those of all its branches included."""
    signature = [tf.TensorSpec((), tf.string)]
    graph = tf.function(function, signature).get_concrete_function().graph.as_graph_def()
    return len(graph.node) + sum(len(part.node_def) for part in graph.library.function)


def test_a_new_pass_has_few_operations_to_prepare():
    # Preparing takes about 0.25 ms of CPU each; before numbers were read together it was 1629.
    # Some 130 of them, in branches of their own, look for scans and for a GIF's first frame.
    assert graph_nodes(lambda contents: decode(contents, ImageInput())) < 1210
    assert graph_nodes(lambda contents: decode(contents, ImageInput(), in_turn=True)) < 1340


@pytest.mark.parametrize("size", [(300, 200), (64, 64), (1000, 1300)])
@pytest.mark.parametrize("resize", decoding.RESIZE_MODES)
def test_the_short_way_of_plain_jpegs_gives_the_same_bits(size, resize, monkeypatch):
    contents = encode(picture(3, *size), "JPEG", quality=95)
    image_input = ImageInput(size=64, resize=resize)
    assert decoding._is_plain_jpeg(tf.constant(contents)) == (len(contents) < decoding.SMALL_FILE)
    short = decode(contents, image_input).numpy()
    monkeypatch.setattr(decoding, "_is_plain_jpeg", lambda _: tf.constant(False))
    np.testing.assert_array_equal(decode(contents, image_input), short)


def test_a_jpeg_with_exif_anywhere_is_not_taken_for_plain():
    contents = encode(square(), "JPEG")
    segment = b"\xff\xe1\x00\x0eExif\0\0aaaaaa"
    for at in (2, 20, len(contents) - 2):
        given = contents[:at] + segment + contents[at:]
        assert not decoding._is_plain_jpeg(tf.constant(given))
    assert not decoding._is_plain_jpeg(tf.constant(encode(square(), "PNG")))
