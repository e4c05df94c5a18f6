import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

from keras_tl.data.arrays import from_arrays
from keras_tl.errors import InputError

PIXELS = np.arange(4 * 2 * 3 * 3, dtype=np.uint8).reshape(4, 2, 3, 3)
LABELS = ["b", "a", "b", "a"]


def test_series_of_images_is_read_by_position():
    frame = pd.DataFrame({"image": list(PIXELS), "label": LABELS}).iloc[[3, 0, 2]]
    source = from_arrays(frame["image"], frame["label"])
    np.testing.assert_array_equal(source.items, PIXELS[[3, 0, 2]])
    assert source.labels.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    "images", [tf.constant(PIXELS), tf.data.Dataset.from_tensor_slices(PIXELS), iter(PIXELS)]
)
def test_images_of_tensorflow(images):
    np.testing.assert_array_equal(from_arrays(images, LABELS).items, PIXELS)


def test_images_of_pil_keep_their_colours():
    red = Image.new("RGB", (3, 2), (255, 0, 0))
    clear = red.convert("P")
    clear.info["transparency"] = 0
    grey = red.convert("LA")
    images = [red.convert("P"), red.convert("CMYK"), clear, grey, red.convert("1")]
    items = from_arrays(images, [0, 1, 0, 1, 0]).items
    assert [item.shape[2] for item in items] == [3, 3, 4, 4, 1]
    for item in items[:3]:
        np.testing.assert_array_equal(item[..., :3], np.asarray(red))


def pairs():
    return tf.data.Dataset.from_tensor_slices((PIXELS, [0, 1, 0, 1]))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (["a.png", "b.png"], r"'a.png'. Use from_folder, or from_dataframe"),
        (np.array(["a.png", "b.png"]), "from_dataframe"),
        ("photos", "from_folder"),
        (pairs(), r"Pass \[x for x, _ in data\] as images"),
        (pairs().batch(2), r"Pass \[x for x, _ in data.unbatch\(\)\] as images"),
        (pairs().repeat(), r"Leave out repeat"),
    ],
)
def test_what_is_no_image_is_refused(images, message):
    with pytest.raises(InputError, match=message):
        from_arrays(images, [0, 1])
