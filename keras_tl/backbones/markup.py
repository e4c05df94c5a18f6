"""HTML in texts: what a browser would not show takes up an encoder's few tokens.

Removed as a browser lays it out: scripts, styles, comments and inline tags leave nothing behind,
all other tags a blank; the commonest character references become their characters. Only elements of
HTML count, so that "<unk>", "a < b" and <someone@example.org> stay.
"""

import re
from collections.abc import Sequence

import tensorflow as tf

MARKUP = ("keep", "drop")

_INLINE = (
    "a|abbr|acronym|b|bdi|bdo|big|blink|cite|code|data|del|dfn|em|font|i|ins|kbd|label|mark|nobr"
    "|o:p|q|s|samp|small|span|strike|strong|sub|sup|time|tt|u|var|wbr"
)
_OTHER = (
    "address|area|article|aside|audio|base|basefont|blockquote|body|br|button|canvas|caption"
    "|center|col|colgroup|dd|details|dialog|dir|div|dl|dt|embed|fieldset|figcaption|figure|footer"
    "|form|frame|frameset|h[1-6]|head|header|hr|html|iframe|img|input|isindex|legend|li|link|main"
    "|map|marquee|menu|meta|nav|noframes|noscript|object|ol|optgroup|option|p|param|picture|pre"
    "|progress|rp|rt|ruby|script|section|select|source|style|summary|svg|table|tbody|td|textarea"
    "|tfoot|th|thead|title|tr|track|ul|video"
)


# A value between quotes may have < and >. Where that finds no end, quotes are signs like others.
# RE2 tries both in time that grows with the length alone; Python's `re` would not.
_ATTRIBUTES = r"""(?:\s(?:=\s*"[^"]*"|=\s*'[^']*'|[^<>])*)?"""
_SHORT = r"(?:\s[^<>]*)?"


def _tags(names: str, attributes: str = _ATTRIBUTES) -> str:
    return rf"</?(?:{names}){attributes}/?>"


def _whole(name: str) -> str:
    """An element with all that is in it."""
    return rf"<{name}{_ATTRIBUTES}>.*?</{name}\s*>"


def _character(names: str, *codes: int) -> str:
    """References to characters, by their names or their numbers."""
    return "|".join([f"(?i){names}", *(f"&#0*{code};|&#x0*{code:x};" for code in codes)])


# "<!-->" is a comment without content.
_HIDDEN = rf"(?is){_whole('script')}|{_whole('style')}|<!--(?:-?>|.*?--!?>)"
_DECLARATION = r"<!doctype\b[^<>]*>|<\?xml\b[^<>]*>"
_REPLACED = (
    (_HIDDEN, ""),
    (f"(?is){_tags(_INLINE)}", ""),
    (f"(?is){_tags(_OTHER)}|{_DECLARATION}", " "),
    (_character("&nbsp;", 160), " "),
    (_character("&quot;", 34), '"'),
    (_character("&apos;|&rsquo;", 39, 8217), "'"),
    (_character("&lt;", 60), "<"),
    (_character("&gt;", 62), ">"),
    # Last, or "&amp;lt;" would become "<".
    (_character("&amp;", 38), "&"),
)
# The rules that models of before have been trained with.
_EARLIER = (
    (r"(?is)<script\b.*?</script\s*>|<style\b.*?</style\s*>|<!--.*?-->", ""),
    (f"(?is){_tags(_INLINE, _SHORT)}", ""),
    (f"(?is){_tags(_OTHER, _SHORT)}|{_DECLARATION}", " "),
    (r"(?i)&nbsp;|&#160;|&#xa0;", " "),
    (r"(?i)&quot;|&#34;", '"'),
    (r"(?i)&apos;|&#39;|&rsquo;|&#8217;", "'"),
    (r"(?i)&lt;|&#60;", "<"),
    (r"(?i)&gt;|&#62;", ">"),
    (r"(?i)&amp;|&#38;", "&"),
)
RULES = {1: _EARLIER, 2: _REPLACED}
NEWEST = max(RULES)
_ANY_TAG = re.compile(f"(?is){_tags(f'{_INLINE}|{_OTHER}', _SHORT)}")


def without_markup(strings: tf.Tensor, rules: int = NEWEST) -> tf.Tensor:
    """Takes HTML out of strings, in a graph.

    Args:
        strings: In UTF-8, of any shape.
        rules: Which of `RULES` to go by: a model keeps those that it was trained with.

    Returns:
        Strings of the same shape.
    """
    for pattern, replacement in RULES[rules]:
        strings = tf.strings.regex_replace(strings, pattern, replacement)
    return strings


def markup_share(texts: Sequence[tuple[str, ...]]) -> float:
    """The share of texts, or pairs, that have a tag of HTML: in [0, 1]."""
    return sum(any(map(_ANY_TAG.search, text)) for text in texts) / max(len(texts), 1)
