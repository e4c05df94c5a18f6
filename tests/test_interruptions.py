"""A run that is ended while its report is written."""

from types import SimpleNamespace

import pandas as pd
import pytest

from keras_tl import job
from keras_tl.journal import Journal
from keras_tl.runs import Run


@pytest.mark.parametrize(
    ("ended_by", "whole"),
    [(SystemExit(143), False), (KeyboardInterrupt(), False), (ValueError("no page"), True)],
)
def test_who_ends_a_run_in_its_report_can_start_it_again(tmp_path, monkeypatch, ended_by, whole):
    """Signals are no failures of the page, for which the figures are kept."""

    def write_report(*_, **__):
        raise ended_by

    monkeypatch.setattr(job, "write_report", write_report)
    monkeypatch.setattr(job, "measure", lambda *_, **__: ({"accuracy": 1.0}, pd.DataFrame()))
    monkeypatch.setattr(job, "add_baseline", lambda *_, **__: {})
    counts = {"train": 2, "val": 0, "test": 1}
    data = SimpleNamespace(counts=counts, samples=lambda split: None, source=None)
    run = Run(tmp_path)
    with pytest.raises(type(ended_by)):
        job._measure_run(run, None, None, data, {}, Journal(), verbose=0)
    assert run.is_whole == whole
