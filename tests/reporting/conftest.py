"""What the tests of pages share."""

import pytest
from run_folders import make_run


@pytest.fixture
def made(tmp_path):
    """A run of three classes with odd names, without a model file."""
    return make_run(tmp_path)
