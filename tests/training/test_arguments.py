"""Arguments of a training that are nearly what is asked for."""

import keras
import pytest

from keras_tl import freezing
from keras_tl.errors import InputError
from keras_tl.training.arguments import callbacks_of
from keras_tl.training.checks import whole_batch
from keras_tl.training.phases import Phase

PHASE = Phase(freezing.All(), 1, 0.1, name="head")


def test_callbacks_of_a_phase_are_a_list():
    stop = keras.callbacks.TerminateOnNaN()
    assert callbacks_of(None, PHASE) == callbacks_of(lambda phase: None, PHASE) == []
    assert callbacks_of(lambda phase: (each for each in [stop]), PHASE) == [stop]
    with pytest.raises(InputError, match="for phase head, received TerminateOnNaN"):
        callbacks_of(lambda phase: stop, PHASE)


@pytest.mark.parametrize(("asked", "parts", "whole"), [(32, 5, 30), (4, 8, 8), (32, 4, 32)])
def test_another_batch_than_was_asked_for_is_told(asked, parts, whole, caplog):
    with caplog.at_level("INFO", logger="keras_tl"):
        assert whole_batch(asked, 1000, parts) == whole
    told = f"a batch of {parts} equal parts, received {asked} images. The batch size is {whole}"
    assert (told in caplog.text) is (whole != asked)
