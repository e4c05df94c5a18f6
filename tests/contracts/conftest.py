"""Every registry row once, for all contracts: building a large model takes many seconds."""

import gc

import keras
import pytest
from contract_cases import FAST, REPRESENTATIVES, Case, rows

from keras_tl.backbones import registry


@pytest.fixture(scope="session", params=rows())
def case(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "body.weights.h5"
    yield Case(registry.get(request.param), path)
    path.unlink(missing_ok=True)
    keras.backend.clear_session()
    gc.collect()


def pytest_collection_modifyitems(items):
    """Training steps of all rows take an hour: .ci/run has those of a row of each family."""
    for item in items:
        slow = [mark for mark in item.own_markers if mark.name == "slow"]
        if item.path.name != "test_frozen_prefix_contract.py" or not slow:
            continue
        name = item.callspec.params["case"]
        # It is slow for its row alone, or for what it does.
        for_its_row = name in REPRESENTATIVES - FAST and len(slow) == 1
        if not for_its_row or "compiled" in item.name:
            item.add_marker(pytest.mark.hour)
