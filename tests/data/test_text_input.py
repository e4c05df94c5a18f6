import pytest

from keras_tl.data.text_input import TextInput
from keras_tl.errors import InputError


def test_room_is_what_the_encoders_own_tokens_leave():
    assert TextInput().room == 126
    assert TextInput(max_tokens=64, windows=3).room == 186
    assert TextInput(max_tokens=64, texts=2).room == 61


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
