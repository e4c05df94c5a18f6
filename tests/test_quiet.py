import os
import sys
import warnings

import pytest

from keras_tl.quiet import quiet


def test_nothing_is_shown_inside_and_all_outside(capfd):
    with quiet():
        os.write(2, b"from C++")
        print("from Python", file=sys.__stderr__, flush=True)
        warnings.warn("a warning", stacklevel=1)
    os.write(2, b"outside")
    assert capfd.readouterr().err == "outside"


def test_an_error_comes_through_and_the_output_is_back(capfd):
    with pytest.raises(ValueError, match="no"), quiet():
        raise ValueError("no")
    os.write(2, b"outside")
    assert capfd.readouterr().err == "outside"
