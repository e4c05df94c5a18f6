"""Tokens against transformers, and against windows laid out by hand."""

import unicodedata

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_tl.backbones.byte_pair import BytePairTokenizer
from keras_tl.backbones.encoders import _minilm
from keras_tl.backbones.host import Tokenize
from keras_tl.backbones.tokenizers import WordPieceTokenizer
from keras_tl.errors import InputError

# From transformers 5.24 (`AutoTokenizer`, a BertTokenizer, on the folder of all-MiniLM-L6-v2).
WORDS = {
    "It's 5 o'clock; don't be late!": [
        2009,
        1005,
        1055,
        1019,
        1051,
        1005,
        5119,
        1025,
        2123,
        1005,
        1056,
        2022,
        2397,
        999,
    ],
    "naïve café Ångström": [15743, 7668, 17076, 15687],
    "Straße GROẞ": [2358, 27807, 24665, 2080, 19310],
    "İstanbul Iğdır": [9960, 1045, 2290, 2094, 11722, 2099],
    "Привет, мир! Ёлка": [
        1194,
        16856,
        10325,
        25529,
        15290,
        22919,
        1010,
        1191,
        10325,
        16856,
        999,
        1185,
        29436,
        28598,
    ],
    "你好，世界 mixed 中文text": [100, 100, 1989, 1745, 100, 3816, 1746, 1861, 3793],
    "日本語カタカナ": [1864, 1876, 1950, 1700, 30235, 30226, 30241],
    "한국어": [1469, 30006, 30021, 29991, 30014, 30020, 29999, 30008],
    "العَرَبِيَّة": [1270, 23673, 29830, 17149, 29816, 14498, 19433],
    "\U0001f600 \U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea": [100, 100, 100],
    "soft\xadhyphen zero\u200bwidth \ufeffbom": [
        3730,
        10536,
        8458,
        2368,
        5717,
        9148,
        11927,
        2232,
        8945,
        2213,
    ],
    "a\x00b c\x07d\x1be": [11113, 3729, 2063],
    "tab\tnew\nline\r\ncr\xa0nbsp\u3000x": [21628, 2047, 2240, 13675, 1050, 5910, 2361, 1060],
    "x" * 100: [22038] + [20348] * 49,
    "x" * 101: [100],
    "don’t “quotes” — …": [2123, 1521, 1056, 1523, 16614, 1524, 1517, 1529],
    "½ ² ③ ™ ﬁ": [1092, 1082, 100, 1580, 1984],
    "e\u0301 q\u0303": [1041, 1053],
    "\ufffd r \ue000 p": [1054, 1052],
    "$100 €50 a_b C++": [1002, 2531, 1574, 12376, 1037, 1035, 1038, 1039, 1009, 1009],
}

VOCABULARY = "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghij", "##k"])
PAD, UNK, CLS, SEP = range(4)
FIRST = 4


def letters(text):
    return [FIRST + "abcdefghij".index(letter) for letter in text]


def tokenizer(max_tokens=6, windows=1, **settings):
    return WordPieceTokenizer(VOCABULARY, max_tokens, windows, **settings)


def laid_out(*texts, **settings):
    """Token ids and segment ids of one text or pair."""
    strings = tf.constant([texts[0] if len(texts) == 1 else texts])
    ids, segments = tokenizer(**settings)(strings).numpy()[0]
    return ids.tolist(), segments.tolist()


@pytest.fixture(scope="module")
def minilm():
    return _minilm(with_weights=False).tokenizer


@pytest.mark.parametrize("text", WORDS, ids=ascii)
def test_pieces_are_those_of_transformers(minilm, text):
    pieces = minilm(128, 1).pieces(tf.constant([text.encode()]))
    assert pieces.to_list() == [WORDS[text]]


def reference_pieces(text, known):
    """BERT's own steps for texts in lower case without accents, one character after the other."""
    words, word = [], ""
    for letter in text + " ":
        kind = unicodedata.category(letter)
        if kind[0] in "PZ" or letter in "$+<=>^`|~" or 0x4E00 <= ord(letter) <= 0x9FFF:
            words += [word, letter.strip()]
            word = ""
        else:
            word += letter
    ids = []
    for word in filter(None, words):
        found, start = [], 0
        while start < len(word):
            prefix = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((end for end in ends if prefix + word[start:end] in known), None)
            if end is None or len(word) > 100:
                found = [known["[UNK]"]]
                break
            found.append(known[prefix + word[start:end]])
            start = end
        ids += found
    return ids


LONG_WORDS = {
    **{
        f"{letter} x {n}": letter * n
        for letter in ("a", "ก", "ക", "з", "\U00010400")
        for n in (100, 101)
    },
    "thai": "ไทย" * 30 + " " + "ไทย" * 34,
    "between": "a" * 60 + "。" + "b" * 60 + "文" + "c" * 101 + "$" + "d" * 100,
    "no-break": "з" * 70 + "\xa0" + "з" * 70,
    "400": "a" * 400 + " b " + "a" * 401,
    "url": "https://example.org/" + "ab/c-d" * 40,
    "symbols": "½" * 101 + " " + "±" * 100,
}


@pytest.mark.parametrize("text", LONG_WORDS.values(), ids=LONG_WORDS)
def test_words_of_more_than_a_hundred_characters_are_unknown(text):
    text = unicodedata.normalize("NFC", text)
    letters = sorted(set("".join(LONG_WORDS.values()).replace(" ", "").replace("\xa0", "")))
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{x}" for x in letters)]
    settings = {"lowercase": False, "strip_accents": False}
    layer = WordPieceTokenizer("\n".join(tokens), **settings)
    expected = reference_pieces(text, {token: number for number, token in enumerate(tokens)})
    assert layer.pieces(tf.constant(["a", text])).to_list()[1] == expected


def test_models_that_were_saved_keep_the_limit_that_they_had():
    text = tf.constant(["ก" * 34 + " a"])
    vocabulary = VOCABULARY + "\nก\n##ก"
    now = WordPieceTokenizer(vocabulary)
    assert len(now.pieces(text).to_list()[0]) == 35
    config = now.get_config()
    assert WordPieceTokenizer.from_config(config).word_limit == "characters"
    del config["word_limit"]
    then = WordPieceTokenizer.from_config(config)
    assert then.pieces(text).to_list() == [[UNK, FIRST]]
    # So that what is stored is found again.
    assert then.get_config() == config
    assert Tokenize(then).key != Tokenize(now).key
    with pytest.raises(InputError, match="Did you mean bytes"):
        WordPieceTokenizer(vocabulary, word_limit="byte")


def test_a_text_that_is_not_lowered_is_seen(minilm):
    text = "naïve café Ångström"
    kept = WordPieceTokenizer(minilm(128, 1).vocabulary, lowercase=False, strip_accents=False)
    assert kept.pieces(tf.constant([text])).to_list() != [WORDS[text]]


def test_special_tokens_in_a_text_are_words(minilm):
    pieces = minilm(128, 1).pieces(tf.constant(["[SEP] [CLS]"])).to_list()[0]
    assert not {101, 102} & set(pieces)


def test_bytes_that_are_no_text_are_left_out(minilm):
    pieces = minilm(128, 1).pieces
    broken, whole = pieces(tf.constant([b"be\xff late \xc3", b"be late"])).to_list()
    assert broken == whole


LONG = " ".join(["alpha beta gamma"] * 20)
# Ids of alpha, beta, gamma.
WORD_IDS = [6541, 8247, 13091] * 4


@pytest.mark.parametrize(
    ("length", "first", "second", "lengths"),
    [
        # How much transformers leaves of each text (`truncation="longest_first"`).
        (12, LONG, "tiny", (8, 1)),
        (12, LONG, LONG, (4, 5)),
        (12, "tiny", LONG, (1, 8)),
        (12, LONG + " x", LONG, (5, 4)),
        (12, LONG, LONG + " x", (4, 5)),
        (12, "", LONG, (0, 9)),
        (13, LONG, LONG, (5, 5)),
        (13, LONG, "tiny", (9, 1)),
        (16, LONG, LONG, (6, 7)),
        (16, LONG + " x", LONG, (7, 6)),
    ],
)
def test_of_a_pair_the_longer_text_is_shortened(minilm, length, first, second, lengths):
    ids, segments = minilm(length, 1)(tf.constant([[first, second]])).numpy()[0]
    one, two = ([4714] if text == "tiny" else WORD_IDS for text in (first, second))
    expected = [101, *one[: lengths[0]], 102, *two[: lengths[1]], 102]
    assert ids.tolist() == expected
    assert segments.tolist() == [0] * (lengths[0] + 2) + [1] * (lengths[1] + 1)


def test_a_short_text_is_padded():
    assert laid_out("a b") == ([CLS, *letters("ab"), SEP, PAD, PAD], [0] * 6)


@pytest.mark.parametrize("text", ["", "  \t\n "])
def test_nothing_is_two_tokens(text):
    assert laid_out(text) == ([CLS, SEP, PAD, PAD, PAD, PAD], [0] * 6)


def test_a_long_text_is_cut():
    assert laid_out("a b c d e f") == ([CLS, *letters("abcd"), SEP], [0] * 6)


@pytest.mark.parametrize(
    ("text", "kept"),
    [("a b c d", "abcd"), ("a b c d e", "abde"), ("a b c d e f g h", "abgh"), ("", "")],
)
def test_of_a_long_text_both_ends_are_kept(text, kept):
    row, _ = laid_out(text, truncate="head-tail")
    expected = [CLS, *letters(kept), SEP]
    assert row == expected + [PAD] * (6 - len(expected))


def test_an_odd_place_is_the_beginnings():
    row, _ = laid_out("a b c d e f g h", max_tokens=7, truncate="head-tail")
    assert row == [CLS, *letters("abcgh"), SEP]


def test_both_ends_fill_all_windows():
    row, _ = laid_out("a b c d e f g h i j", windows=2, truncate="head-tail")
    assert row == [CLS, *letters("abcd"), SEP, CLS, *letters("ghij"), SEP]
    # What there is room for is laid out as ever.
    whole, _ = laid_out("a b c d e f g h", windows=2, truncate="head-tail")
    assert whole == laid_out("a b c d e f g h", windows=2)[0]


def test_of_a_pair_both_ends_of_both_are_kept():
    first, second = "a b c d e f", "b c d e f g h i"
    ids, segments = laid_out(first, second, max_tokens=9, truncate="head-tail")
    assert ids == [CLS, *letters("abf"), SEP, *letters("bci"), SEP]
    assert segments == [0] * 5 + [1] * 4
    # Three windows have room for six tokens behind the first text.
    ids, _ = laid_out("j", second, max_tokens=6, windows=3, truncate="head-tail")
    rows = [[CLS, *letters("j"), SEP, *letters(two), SEP] for two in ("bc", "dg", "hi")]
    assert ids == [token for row in rows for token in row]


def test_markup_takes_no_tokens_where_it_is_dropped():
    text = "<p>a <b>b</b>c<br>d &lt; e</p>"
    plain = laid_out("a bc d < e", max_tokens=12)
    assert laid_out(text, max_tokens=12, markup="drop") == plain
    assert laid_out(text, max_tokens=12) != plain
    [[written, *_]] = Tokenize(tokenizer(markup="drop")).count([(text,)])
    assert written == 5


def test_a_long_text_goes_on_in_the_next_window():
    ids, _ = laid_out("a b c d e f", windows=3)
    expected = [CLS, *letters("abcd"), SEP, CLS, *letters("ef"), SEP, PAD, PAD] + [PAD] * 6
    assert ids == expected


def test_a_text_as_long_as_a_window_needs_no_other():
    ids, _ = laid_out("a b c d", windows=2)
    assert ids == [CLS, *letters("abcd"), SEP] + [PAD] * 6


def test_the_first_text_of_a_pair_stands_in_every_window():
    ids, segments = laid_out("j", "a b c d e f", max_tokens=7, windows=3)
    first = [CLS, *letters("j"), SEP, *letters("abc"), SEP]
    second = [CLS, *letters("j"), SEP, *letters("def"), SEP]
    assert ids == first + second + [PAD] * 7
    assert segments == [0, 0, 0, 1, 1, 1, 1] * 2 + [0] * 7


def read_of(pairs, windows, **settings):
    """How many tokens of pairs of "a"s and "b"s are laid out, the first texts' once."""
    layer = tokenizer(windows=windows, **settings)
    ids = layer(tf.constant(pairs)).numpy()[:, 0]
    ones = (ids[:, : settings["max_tokens"]] == FIRST).sum(axis=1)
    assert ((ids == FIRST).sum(axis=1) % np.maximum(ones, 1) == 0).all()
    return ones + (ids == FIRST + 1).sum(axis=1)


@pytest.mark.parametrize("ends", [1, 2])
@pytest.mark.parametrize("truncate", ["head", "head-tail"])
@pytest.mark.parametrize(("max_tokens", "windows"), [(5, 1), (9, 1), (9, 3), (12, 2)])
def test_what_is_measured_of_pairs_is_what_is_laid_out(ends, truncate, max_tokens, windows):
    sizes = np.array([(f, s) for f in (0, 1, 2, 4, 20) for s in (0, 1, 3, 6, 15)])
    pairs = [(" ".join("a" * f), " ".join("b" * s)) for f, s in sizes]
    how = {"max_tokens": max_tokens, "ends_between": ends, "truncate": truncate}
    rows = Tokenize(tokenizer(windows=windows, **how)).count(pairs)
    assert rows.dtype == np.int64
    written, read, readable, least = rows.T
    np.testing.assert_array_equal(written, sizes.sum(axis=1))
    np.testing.assert_array_equal(read, read_of(pairs, windows, **how))
    np.testing.assert_array_equal(readable, read_of(pairs, 20, **how))
    for enough in np.unique(least).tolist():
        wanted = least == enough
        np.testing.assert_array_equal(readable[wanted], read_of(pairs, enough, **how)[wanted])
        if enough > 1:
            assert (readable > read_of(pairs, enough - 1, **how))[wanted].all()


def test_what_is_measured_of_texts_is_what_windows_hold():
    texts = [(" ".join("a" * n),) for n in (0, 1, 4, 5, 8, 9, 30)]
    assert Tokenize(tokenizer(windows=2)).count(texts).tolist() == [
        [n, min(n, 8), n, windows]
        for n, windows in [(0, 1), (1, 1), (4, 1), (5, 2), (8, 2), (9, 3), (30, 8)]
    ]
    assert Tokenize(tokenizer()).count([]).shape == (0, 4)


def test_texts_are_counted_once(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_TL_CACHE", str(tmp_path))
    counted, measure = [], WordPieceTokenizer.measure

    def watched(self, strings):
        counted.append(len(strings))
        return measure(self, strings)

    monkeypatch.setattr(WordPieceTokenizer, "measure", watched)
    texts = [("a b",), ("c",), ("a b",)]
    first = Tokenize(tokenizer()).count(texts)
    assert first[:, 0].tolist() == [2, 1, 2] and counted == [3]
    more = Tokenize(tokenizer()).count([("d e f",), *texts])
    assert more[:, 0].tolist() == [3, 2, 1, 2] and counted == [3, 1]
    Tokenize(tokenizer(lowercase=False)).count(texts)
    assert counted == [3, 1, 3]


def test_a_batch_is_its_texts():
    texts = ["", "a", "a b c d e f g", "k ak", "zz a"]
    layer = tokenizer(windows=2)
    together = layer(tf.constant(texts)).numpy()
    for text, row in zip(texts, together, strict=True):
        np.testing.assert_array_equal(layer(tf.constant([text]))[0], row)
    assert together.shape == (5, 2, 12)
    assert together.dtype == np.int32
    # "k" begins no word.
    assert together[3, 0, :5].tolist() == [CLS, UNK, FIRST, 14, SEP]


def test_its_config_is_whole_and_tells_it_apart():
    layer = tokenizer(windows=2, lowercase=False)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    text = tf.constant(["a B c", "a b c d e"])
    np.testing.assert_array_equal(copy(text), layer(text))
    assert Tokenize(copy).key == Tokenize(layer).key
    assert Tokenize(tokenizer(windows=2)).key != Tokenize(layer).key
    both = tokenizer(windows=2, lowercase=False, truncate="head-tail")
    assert Tokenize(both).key != Tokenize(layer).key
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(both))
    text = tf.constant(["a b c d e f g h i j a b", "a"])
    np.testing.assert_array_equal(copy(text), both(text))
    assert (copy(text) != layer(text)).numpy().any()
    dropped = tokenizer(windows=2, lowercase=False, markup="drop")
    assert Tokenize(dropped).key != Tokenize(layer).key
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(dropped))
    assert (copy.markup, copy.markup_rules) == ("drop", 2)
    # Settings of before name no rules.
    config = {k: v for k, v in dropped.get_config().items() if k != "markup_rules"}
    older = type(dropped).from_config(config)
    assert older.markup_rules == 1 and older.get_config().keys() == config.keys()
    text = tf.constant(["a&#39;b &#x27; c"])
    assert (older(text) != dropped(text)).numpy().any()
    assert "markup_rules" not in layer.get_config()
    with pytest.raises(InputError, match="rules of markup up to 2, received 3"):
        type(dropped).from_config(config | {"markup_rules": 3})


def test_it_runs_in_tf_data_and_its_shape_is_known():
    layer = tokenizer()
    data = tf.data.Dataset.from_tensor_slices(["a b", "c"]).batch(2).map(layer)
    (batch,) = data
    assert data.element_spec.shape.as_list()[1:] == [2, 6]
    assert batch[1, 0].numpy().tolist() == [CLS, *letters("c"), SEP, PAD, PAD, PAD]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_tokens": 2}, "at least 3 tokens"),
        ({"truncate": "head_tail"}, "Did you mean head-tail"),
        ({"markup": "drops"}, "Did you mean drop"),
        ({"specials": ("<s>", "[SEP]", "[PAD]")}, "<s>"),
        ({"unknown": "<unk>"}, "no '<unk>'"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        tokenizer(**settings)


PIECES = ["<s>", "<pad>", "</s>", "<unk>", *"abehlowrd!Ġ", "he", "ll", "hell", "hello", "Ġw", "or"]
PIECES += ["Ġwor", "ld", "Ġworld"]
MERGES = ["h e", "l l", "he ll", "hell o", "Ġ w", "o r", "Ġw or", "l d", "Ġwor ld"]


def byte_pairs(**settings):
    return BytePairTokenizer("\n".join(PIECES), 10, merges="\n".join(MERGES), **settings)


def test_byte_pairs_are_merged_in_order():
    found = byte_pairs()(tf.constant(["hello world!", ""])).numpy()[:, 0]
    hello, world = PIECES.index("hello"), PIECES.index("Ġworld")
    assert found[0].tolist() == [0, hello, world, PIECES.index("!"), 2, 1, 1, 1, 1, 1]
    assert found[1].tolist() == [0, 2] + [1] * 8


def test_a_pair_of_byte_pairs_has_two_ends_between():
    ids, segments = byte_pairs()(tf.constant([["hello", "hello"]])).numpy()[0]
    hello = PIECES.index("hello")
    assert ids.tolist() == [0, hello, 2, 2, hello, 2, 1, 1, 1, 1]
    assert not segments.any()


def symbols():
    """The characters that stand for bytes, in the order of `tokenizers`' alphabet."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(i) for i in shown] + [chr(256 + i) for i in range(256 - len(shown))]


# Merges that meet at any place: of letters, blanks, digits and bytes of one character.
ALL_MERGES = ["h e", "l l", "he ll", "hell o", "Ġ w", "o r", "Ġw or", "l d", "Ġwor ld", "Ġ Ġ"]
ALL_MERGES += ["Ċ Ċ", "ĊĊ Ċ", "Ġ Ċ", "ĠĠ Ġ", "a a", "aa a", "' s", "Ġ '", "à ¥", "à¥ ¬", "1 2"]
ALL_PIECES = ["<s>", "<pad>", "</s>", "<unk>", *symbols()]
ALL_PIECES += [merge.replace(" ", "") for merge in ALL_MERGES]


def all_bytes(**settings):
    return BytePairTokenizer("\n".join(ALL_PIECES), 10, merges="\n".join(ALL_MERGES), **settings)


TEXTS = [
    *(
        "hello\n\nworld",
        "a\n\n\nb",
        "a\r\nb",
        "a   ",
        "   a",
        "\u096c \u096d",
        "",
        " ",
        "\n",
        "\na",
    ),
    *("it's 's 'll don't", "12 1a", " !? '", "a \u2003 b\xa0c\u3000d\x85e", "\U0001f642\u200b"),
    *("aaaa aaa", "x\x0b\x0cy \t z \n"),
]


@pytest.mark.parametrize("prefix_space", [False, True])
def test_byte_pairs_are_those_of_tokenizers(prefix_space):
    tokenizers = pytest.importorskip("tokenizers")
    ids = {piece: number for number, piece in enumerate(ALL_PIECES)}
    merges = [tuple(merge.split()) for merge in ALL_MERGES]
    published = tokenizers.Tokenizer(tokenizers.models.BPE(ids, merges))
    published.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    letters = [*"ahelowrd's12 !_", *" \n" * 3, "\r", "\t", "\x85", "\xa0", "\u096c", "é", "日", "½"]
    rng = np.random.default_rng(0)
    texts = TEXTS + ["".join(rng.choice(letters, n)) for n in rng.integers(1, 25, 500)]
    layer = all_bytes(prefix_space=prefix_space)
    found = layer.pieces(tf.constant(texts)).to_list()
    for text, row in zip(texts, found, strict=True):
        assert row == published.encode(text).ids, ascii(text)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert copy.pieces(tf.constant(texts)).to_list() == found


def test_nothing_has_no_byte_pairs():
    pieces = all_bytes().pieces
    assert pieces(tf.constant([""])).to_list() == [[]]
    assert pieces(tf.constant([], tf.string)).to_list() == []
    assert pieces(tf.constant(["a\0b"])).to_list() == pieces(tf.constant(["ab"])).to_list()


@pytest.mark.parametrize("letters", ["hello", " "])
def test_a_long_piece_is_merged_in_parts(letters):
    """So the steps, of which a part needs at most one for each byte, are bounded."""
    text = (letters * 5120)[:5120]
    parts = [text[start : start + 256] for start in range(0, 5120, 256)]
    long, *found = all_bytes().pieces(tf.constant([text, *parts])).to_list()
    assert long == [token for part in found for token in part]


def test_bytes_that_a_vocabulary_lacks_are_unknown():
    assert byte_pairs().pieces(tf.constant(["az"])).to_list() == [[4, 3]]
    with pytest.raises(InputError, match="'<unk>' for others, received one without 'Ā'"):
        BytePairTokenizer("\n".join(p for p in PIECES if p != "<unk>"), merges="h e")


@pytest.mark.parametrize("last", ["h", "h e l", "h e", "x y", "h o", ""])
def test_merges_of_something_else_are_refused(last):
    with pytest.raises(InputError, match="merges of two pieces each") as caught:
        BytePairTokenizer("\n".join(PIECES), merges="\n".join([*MERGES, last]))
    assert "\n" not in str(caught.value)
    no_merges = BytePairTokenizer("\n".join(PIECES), merges="")
    assert no_merges.pieces(tf.constant(["he"])).to_list() == [[7, 6]]


def test_byte_pairs_are_exported(tmp_path):
    text = keras.Input((), dtype="string", name="text")
    model = keras.Model(text, byte_pairs(name="tokenizer")(text))
    model.export(tmp_path / "model", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "model")
    strings = tf.constant(["hello world!", "bad"])
    np.testing.assert_array_equal(loaded.serve(strings), model(strings))
