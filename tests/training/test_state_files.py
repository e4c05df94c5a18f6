"""What a training that is under way is kept in, whole and damaged."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from robustness.corpus.case import cuts, flips

from keras_tl.errors import InputError
from keras_tl.training.resume import Checkpoint
from keras_tl.training.state_files import read_state, write_state

STATE = {"epoch": 3, "weights": [np.arange(6.0).reshape(2, 3), np.int64([1])], "name": "head"}


def as_text(state):
    return repr({**state, "weights": [array.tolist() for array in state["weights"]]})


def test_what_is_read_is_what_was_written_or_the_file_is_said_to_be_damaged(tmp_path):
    path = tmp_path / "step.npz"
    write_state(path, STATE)
    content = path.read_bytes()
    assert as_text(read_state(path)) == as_text(STATE)
    refused = 0
    for _, damaged in (*cuts(content, 40), *flips(content, 400)):
        path.write_bytes(damaged)
        try:
            assert as_text(read_state(path)) == as_text(STATE)  # a date or a flag was hit
        except InputError as error:
            assert "which is damaged (" in str(error) and "\n" not in str(error)
            assert str(error).endswith(f"). Delete {tmp_path} to begin anew.")
            refused += 1
    assert refused > 300


def test_notes_are_kept_likewise(tmp_path):
    checkpoint = Checkpoint(tmp_path / "checkpoint")
    assert checkpoint.notes() == {}
    checkpoint.note({"phases": 2, "decision": {"why": "a probe"}})
    assert checkpoint.notes() == {"phases": 2, "decision": {"why": "a probe"}}
    path = checkpoint.folder / Checkpoint.NOTES
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="damaged"):
        checkpoint.notes()


def test_kinds_of_numbers_that_are_not_numpys(tmp_path):
    given = tf.constant([1.5, -2.0, 3e38], tf.bfloat16).numpy()
    write_state(
        tmp_path / "s.npz",
        {"weights": [given, given[:1].reshape(())], "text": np.array(["a", "bc"])},
    )
    found = read_state(tmp_path / "s.npz")
    many, one = found["weights"]
    assert many.dtype == given.dtype and many.tolist() == given.tolist() and one == 1.5
    keras.Variable(np.zeros(3), dtype="bfloat16").assign(many)
    assert found["text"].tolist() == ["a", "bc"]


def test_a_callback_may_call_its_own_arrays_so(tmp_path):
    write_state(tmp_path / "s.npz", {"callback": {"array": np.arange(3)}, "other": {"array": 0}})
    found = read_state(tmp_path / "s.npz")
    assert found["callback"]["array"].tolist() == [0, 1, 2] and found["other"] == {"array": 0}


def test_what_older_versions_wrote_is_read(tmp_path):
    text = json.dumps({"weights": [{"array": 0}], "epoch": 2}).encode()
    np.savez(tmp_path / "s.npz", np.arange(3), facts=np.frombuffer(text, np.uint8))
    found = read_state(tmp_path / "s.npz")
    assert found["epoch"] == 2 and found["weights"][0].tolist() == [0, 1, 2]
