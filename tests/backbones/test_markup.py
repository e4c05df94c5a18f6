"""HTML is taken out of texts as a browser would show them."""

from html.parser import HTMLParser

import pytest
import tensorflow as tf

from keras_tl.backbones.markup import markup_share, without_markup

PAGE = """<!DOCTYPE html><HTML lang=en><head><title>Offer</title><style>p {color: red}</style>
<script type="text/javascript">if (a < b) document.write("<p>no</p>")</script></head>
<body bgcolor="#ffffff"><h1 class='x'>Big &amp; <font color=red>che</font>ap</h1><!-- <p>never</p>
--><table><tr><td>One</td><td>two</td></tr></table>line<br>break<BR/>again<a href="http://x.org/?a=1">
here</a> caf\u00e9</body></html>"""


def plain(*texts):
    return [text.decode() for text in without_markup(tf.constant(texts)).numpy()]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<p>Hello</p>", " Hello "),
        ("one<br>two<br />three", "one two three"),
        ("v<b>i</b>a<!-- x -->gr<FONT SIZE=2>a</font>", "viagra"),
        ("<td\nalign=left\n>cell", " cell"),
        ("a<style>p {}</style>b<script>x<y; </script >c", "abc"),
        ("&lt;p&gt; fish&nbsp;&amp; chips &quot;&#39;&quot;", '<p> fish & chips "\'"'),
        ("&amp;lt;", "&lt;"),
        ("don&#x27;t don&#039;t &#X003C;&#x0a0;&#x26;", "don't don't < &"),
        ("a<!-->b<!-- c -->d<!--->e<!-- f --!>g", "abdeg"),
        ("<script-foo>hi</script-foo> there </script>", "<script-foo>hi</script-foo> there  "),
        ('<p title=\'a > b\' id="<">x</p><style media=">">p</style>', " x "),
        ("<p title=\"open>x</p><b class=don't>y</b>", " x y"),
        # No HTML.
        ("a < b and c > d", "a < b and c > d"),
        ("<unk> <someone@example.org> <http://example.org/a>", None),
        ("List<String> x = new ArrayList<>(); if (i<j) {}", None),
        ("<bold> <tables> <h7> <p", None),
        ("", None),
        ("тест <i>да</i> 中<p>文", "тест да 中 文"),
    ],
)
def test_what_is_left(text, shown):
    assert plain(text) == [text if shown is None else shown]


class Reader(HTMLParser):
    """Python's own parser: the words of a page."""

    hidden = False
    text = ""

    def handle_starttag(self, tag, attrs):
        self.hidden = tag in ("script", "style")
        self.text += "" if tag in ("font", "a") else " "

    def handle_endtag(self, tag):
        self.hidden = False
        self.text += "" if tag in ("font", "a") else " "

    def handle_data(self, data):
        self.text += "" if self.hidden else data


def test_a_page_is_what_another_parser_reads():
    reader = Reader()
    reader.feed(PAGE)
    assert "cheap" in reader.text
    assert plain(PAGE)[0].split() == reader.text.split()


def test_models_of_before_keep_their_rules():
    [kept] = without_markup(tf.constant(["<b>don&#x27;t&#39;</b> a<!-->b-->"]), 1).numpy()
    assert kept == b"don&#x27;t' a"


def test_pairs_keep_their_shape():
    pairs = tf.constant([["<p>a", "b"], ["c", "d<br>"]])
    assert without_markup(pairs).numpy().tolist() == [[b" a", b"b"], [b"c", b"d "]]


def test_its_share_is_that_of_texts_with_a_tag():
    assert markup_share([("a <b>b</b>",), ("a < b",), ("<x>",), ("x", "y<br>")]) == 0.5
    assert markup_share([]) == 0
