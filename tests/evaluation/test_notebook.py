from keras_tl.evaluation.notebook import metrics_html


def test_figures_are_shown_and_names_escaped():
    metrics = {"samples": 30, "accuracy": 0.9, "macro_f1": 0.875, "note": "the <test> split"}
    html = metrics_html("<b>run</b>", metrics, report="a'b/report.html")
    assert "&lt;b&gt;run&lt;/b&gt;" in html and "&lt;test&gt;" in html
    assert "<td>90.0 %</td>" in html and "<td>0.875</td>" in html
    assert "href='a&#x27;b/report.html'" in html
    assert "R²" not in html and "30 images" in html
    assert "30 texts" in metrics_html("run", metrics, nouns="texts")


def test_what_is_not_defined_is_left_out():
    html = metrics_html("run", {"samples": 1, "mae": 2.0, "r2": None})
    assert "<td>2</td>" in html and "R²" not in html and "href" not in html
