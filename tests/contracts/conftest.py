"""Every registry row once, for all contracts: building a large model takes many seconds."""

import gc

import keras
import pytest
from contract_cases import Case, rows

from keras_tl.backbones import registry


@pytest.fixture(scope="session", params=rows())
def case(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "body.weights.h5"
    yield Case(registry.get(request.param), path)
    path.unlink(missing_ok=True)
    keras.backend.clear_session()
    gc.collect()


def pytest_collection_modifyitems(items):
    """Training steps of every row take an hour: the project's own check has those of the fast."""
    for item in items:
        if item.path.name == "test_frozen_prefix_contract.py" and item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.hour)
