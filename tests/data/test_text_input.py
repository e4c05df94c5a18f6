import numpy as np
import pytest

from keras_tl.data.text_input import TextInput
from keras_tl.errors import InputError


def test_room_is_what_the_encoders_own_tokens_leave():
    assert TextInput().room == 126
    assert TextInput(max_tokens=64, windows=3).room == 186
    assert TextInput(max_tokens=64, texts=2).room == 61


def test_reading_of_counted_and_of_measured_texts():
    reading = TextInput(max_tokens=12, windows=2).reading(np.array([0, 10, 11, 21]))
    assert reading.read.tolist() == [0, 10, 11, 20] and reading.windows.tolist() == [1, 1, 2, 3]
    assert reading.is_whole(2).tolist() == [True, True, True, False]
    measured = np.array([[40, 30, 40, 3], [40, 30, 30, 2]])
    assert TextInput(texts=2).reading(measured).is_whole(3).tolist() == [True, False]


@pytest.mark.parametrize(
    "settings",
    [
        {"max_tokens": 2},
        {"max_tokens": 4, "texts": 2},
        {"max_tokens": 10**6},
        {"windows": 0},
        {"windows": 65},
        {"texts": 3},
        {"tokenizer_version": 0},
        {"truncate": "tail"},
        {"markup": "strip"},
    ],
)
def test_what_is_out_of_range_is_refused(settings):
    with pytest.raises(InputError):
        TextInput(**settings)


def test_the_least_that_is_in_range():
    assert TextInput(max_tokens=3).room == 1 and TextInput(max_tokens=5, texts=2).room == 2
