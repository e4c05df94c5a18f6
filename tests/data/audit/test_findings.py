from keras_tl.data.audit.findings import Audit, Finding

UNREADABLE = Finding("unreadable", "serious", "1 file cannot be read as an image.")
LEAK = Finding("leak", "serious", "2 images are in two splits.")


def test_what_is_counted_and_not_named_is_explained(caplog):
    caplog.set_level("INFO")
    Audit({"train": 3}, {}, (UNREADABLE, LEAK)).log()
    first, *rest = caplog.messages
    assert first == "The audit found 2 serious, among them what cannot be read."
    assert rest == ["  serious: 2 images are in two splits."]
    caplog.clear()
    Audit({"train": 3}, {}, (LEAK,)).log()
    assert caplog.messages[0] == "The audit found 1 serious."
