"""In which languages texts are, by their script and by their commonest words."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from keras_tl.data.audit.findings import Finding
from keras_tl.data.audit.text_words import Words
from keras_tl.data.source import Source

# Least lead, in commonest words that a text has, of its language over any other.
LEAST_LEAD = 3
# More than this share of the letters in another script decides a text's language.
OTHER_SCRIPT = 0.5
# Texts in a language that fewer than this share have are rare.
RARE = 0.2
UNKNOWN = ""

COMMONEST = {
    "English": "the of and to in is that for it with as was on are this be by not you have from or",
    "German": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als",
    "French": "de la le et les des en un du une que est pour qui dans par plus pas au sur ne se",
    "Spanish": "de la que el en y a los del se las por un para con no una su al lo como más",
    "Italian": "di e il la che è per un in non una sono da del si con i della ha anche le gli",
    "Portuguese": "de a o que e do da em um para com não uma os no na por mais as dos foi ao",
    "Dutch": "de van een het en in is dat op te zijn met voor niet aan er om ook als bij door",
    "Polish": "w i na z się do nie jest to że o po za od jak przez ale dla co tym są czy",
    "Swedish": "och i att det som en på är av för med till den har de inte om ett han men jag var",
}
# First and last code point of scripts' letters; a script tells the language, or that it is one of
# several.
SCRIPTS = {
    "Greek": (0x370, 0x3FF),
    "Cyrillic script": (0x400, 0x52F),
    "Hebrew": (0x590, 0x5FF),
    "Arabic script": (0x600, 0x6FF),
    "Devanagari script": (0x900, 0x97F),
    "Thai": (0xE00, 0xE7F),
    "Japanese": (0x3040, 0x30FF),
    "Chinese": (0x4E00, 0x9FFF),
    "Korean": (0xAC00, 0xD7AF),
}
_LETTERS = re.compile(r"[^\W\d_]+")


def languages(items: Sequence[tuple[str, ...]], words: Words) -> np.ndarray:
    """Tells the language of each text.

    Where most letters are of another script than the Latin one, the script decides. Else it is
    the language whose commonest words the text holds most of, with a lead of `LEAST_LEAD`
    different ones. Nine languages are told apart; texts of a few words, and of other languages,
    mostly stay unknown.

    Args:
        items: Texts, or pairs of them.
        words: Their words.

    Returns:
        Object `[texts]`, names of languages or scripts; `UNKNOWN` where it is not told.
    """
    index = {word: i for i, word in enumerate(words.vocabulary)}
    # For each word of the vocabulary, the phrase of that word alone.
    alone = np.empty(len(index), np.int64)
    single = np.flatnonzero(words.phrases[:, 0] < 0)
    alone[words.phrases[single, 1]] = single
    names = np.array([*COMMONEST, UNKNOWN], dtype=object)
    hits = np.zeros((len(items), len(names)), np.int64)
    for column, common in enumerate(COMMONEST.values()):
        known = [alone[index[word]] for word in common.split() if word in index]
        hits[:, column] = np.asarray(words.held[:, known].sum(axis=1)).ravel()
    ordered = np.sort(hits, axis=1)
    told = ordered[:, -1] - ordered[:, -2] >= LEAST_LEAD
    found = names[np.where(told, hits.argmax(axis=1), -1)]
    for i, item in enumerate(items):
        if not all(text.isascii() for text in item):
            found[i] = _script("".join(item)) or found[i]
    return found


def findings_on_languages(source: Source, found: np.ndarray) -> Iterator[Finding]:
    """Says which languages there are, and which texts are in a rare one.

    Args:
        source: The texts.
        found: What `languages` told of them.

    Yields:
        What was found.
    """
    counts = Counter(str(name) for name in found)
    unknown = counts.pop(UNKNOWN, 0)
    if not counts:
        return
    told = sum(counts.values())
    shares = ", ".join(f"{name} {count:,}" for name, count in counts.most_common())
    text = f"Languages, by commonest words and scripts: {shares}; not told {unknown:,}."
    first = counts.most_common(1)[0][0]
    if len(counts) == 1 and first == "English":
        yield Finding("languages", "note", text)
        return
    rare = [name for name, count in counts.items() if count < RARE * told]
    indices = [i for i, name in enumerate(found) if name in rare]
    text += " The encoder should know them."
    yield Finding(
        "languages",
        "note",
        text,
        tuple((str(source.ids[i]),) for i in indices),
        tuple(str(found[i]) for i in indices),
    )


def _script(text: str) -> str:
    """The script of most letters; "" where that is the Latin one, or none."""
    letters = "".join(_LETTERS.findall(text))
    if not letters:
        return ""
    points = np.frombuffer(letters.encode("utf-32-le"), np.uint32)
    shares = {
        name: float(((points >= low) & (points <= high)).mean())
        for name, (low, high) in SCRIPTS.items()
    }
    # Japanese also uses Chinese characters; its own characters tell it apart.
    if shares["Japanese"]:
        shares["Japanese"] += shares.pop("Chinese")
    name = max(shares, key=shares.__getitem__)
    return name if shares[name] > OTHER_SCRIPT else ""
