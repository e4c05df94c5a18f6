"""Keras knows the layers of keras_tl however the two are imported."""

import subprocess
import sys

import pytest

NAMES = ("WordPieceTokenizer", "FreezableDropout", "HubTokenizer")
ASK = "import sys, keras; known = str(sorted(keras.saving.get_custom_objects()))"


@pytest.mark.slow
@pytest.mark.parametrize(
    "imports",
    [
        # TensorFlow asks where Keras is before anything imports it.
        "import keras_tl, tensorflow",
        pytest.param("import keras, keras_tl", marks=pytest.mark.slow),
        pytest.param("import keras_tl", marks=pytest.mark.slow),
        pytest.param(
            "import keras_tl, importlib.util as util; util.find_spec('keras')",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_layers_are_registered_in_any_order(imports):
    program = (
        f"{imports}\n{ASK}\n"
        f"missing = [name for name in {NAMES} if f'keras_tl>{{name}}' not in known]\n"
        "left = [finder for finder in sys.meta_path if 'Behind' in type(finder).__name__]\n"
        "sys.exit(str((missing, left)) if missing or left else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
