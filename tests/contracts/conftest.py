"""Every registry row once, for all contracts: building a large model takes many seconds."""

import gc

import keras
import pytest
from contract_cases import HUGE, Case, rows

from keras_tl.backbones import registry


@pytest.fixture(scope="session", params=rows())
def case(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "body.weights.h5"
    yield Case(registry.get(request.param), path)
    path.unlink(missing_ok=True)
    keras.backend.clear_session()
    gc.collect()


def pytest_collection_modifyitems(items):
    for item in items:
        name = item.callspec.params.get("case") if hasattr(item, "callspec") else None
        if name in HUGE and "frozen_prefix" in item.path.name:
            item.add_marker(pytest.mark.huge)
