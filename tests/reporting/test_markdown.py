from keras_tl.reporting.blocks import Cell, Code, Details, Figure, Figures, Section, Table, Text
from keras_tl.reporting.markdown import fenced, markdown, plain


def test_what_markdown_would_read_is_shown_as_it_is():
    assert plain("a|b*c _d_ <i>&amp; [x](y)\n~z") == r"a\|b\*c \_d\_ \<i\>\&amp; \[x\](y) \~z"
    assert plain("keras_tl") == "keras_tl"
    assert plain("# no heading") == r"\# no heading"
    assert plain("1. no list") == r"1\. no list"
    assert plain("- 3") == r"\- 3"
    assert plain("3.5 apples - or 4") == "3.5 apples - or 4"


def test_a_fence_is_longer_than_any_in_the_code():
    assert fenced("a") == "```\na\n```"
    assert fenced("a ````` b", "sh") == "``````sh\na ````` b\n``````"


def test_a_section():
    table = Table(["class", "images"], [[Cell("a|b"), Cell("3", "2–4")]], "All.")
    figures = Figures((Figure("accuracy", "90 %", "80 to 95 %"),))
    blocks = (Text("Read this.", "note"), figures, table, Code("ls", "To list"))
    assert markdown(Section("Each class", blocks)) == (
        "## Each class\n\n"
        "**Read this.**\n\n"
        "| figure | value | 95 % interval |\n"
        "| --- | ---: | ---: |\n"
        "| accuracy | 90 % | 80 to 95 % |\n\n"
        "| class | images |\n"
        "| --- | ---: |\n"
        "| a\\|b | 3 (2–4) |\n\n"
        "All.\n\n"
        "To list:\n\n"
        "```\nls\n```\n"
    )


def test_what_opens_on_a_click_is_open():
    inner = Details("Three files", (Text("one"), Text("two")))
    assert markdown(Section("Files", (inner,))) == "## Files\n\nThree files:\n\none\n\ntwo\n"
