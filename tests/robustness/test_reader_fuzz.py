"""Readers given bytes that hypothesis makes: each reads them or says why not, in one line.

The examples are the same each time. A few are tried by default, many more with `-m slow`.
"""

import gzip
import json
import shutil
import string

import hub_modules
import pytest
import tensorflow as tf
from backbones.test_torch_checkpoint import FORMATS, WRITTEN_BY_TORCH, op, tensor, written_by_torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from robustness.corpus import archives, models, pictures
from robustness.ending import deadline
from tiny_encoder import write_tiny_bert

from keras_tl.backbones import hf_folder
from keras_tl.backbones.hub import load_hub_backbone
from keras_tl.backbones.hub_archives import ALWAYS_ALLOWED, unpack
from keras_tl.backbones.torch_checkpoint import read_state_dict
from keras_tl.config_files import make_config, read_config
from keras_tl.data.decoding import decode
from keras_tl.data.frames import from_csv
from keras_tl.data.image_input import ImageInput
from keras_tl.data.inspection import _examiner
from keras_tl.data.tables import read_table
from keras_tl.errors import InputError

INPUT = ImageInput(size=16, max_pixels=1_000_000)
FEW, MANY = 25, 2000
EXAMPLES = [
    pytest.param(FEW, id="few"),
    pytest.param(MANY, id="many", marks=pytest.mark.slow),
]


def fuzz(strategy, examples, check):
    """Runs a check on what a strategy makes."""

    @settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def run(value):
        with deadline():
            check(value)

    run()


def one_line(read):
    """Runs a reader, which must return or raise an InputError of one line."""
    try:
        return read()
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 2000


@st.composite
def edited(draw, contents):
    """A good file, some bytes of which are replaced, inserted or removed."""
    content = bytearray(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        how = draw(st.sampled_from(("replace", "insert", "remove", "end")))
        if how == "end":
            del content[at:]
        else:
            until = at if how == "insert" else at + draw(st.integers(1, 8))
            content[at:until] = b"" if how == "remove" else draw(st.binary(max_size=8))
    return bytes(content)


IMAGES = [content for _, content in pictures.WHOLE.values()]
SIGNATURES = st.sampled_from((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"RIFF"))
ANY_IMAGE = edited(IMAGES) | st.builds(bytes.__add__, SIGNATURES, st.binary(max_size=300))


@pytest.mark.parametrize("examples", EXAMPLES)
def test_images(examples):
    examiner = _examiner(INPUT)
    function = tf.function(lambda contents: decode(contents, INPUT), autograph=False)
    function = function.get_concrete_function(tf.TensorSpec([], tf.string))

    def check(content):
        reason = examiner._examine_contents(content).reason
        assert "\n" not in reason
        try:
            pixels = function(tf.constant(content))
        except tf.errors.InvalidArgumentError:
            assert reason
        else:
            assert not reason and pixels.shape == (16, 16, 3)

    fuzz(ANY_IMAGE, examples, check)


CELLS = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(("a.png", "x", '"'))
ROWS = st.lists(st.lists(CELLS, max_size=4), max_size=6)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_tables(examples, tmp_path):
    path = tmp_path / "table.csv"
    (tmp_path / "a.png").write_bytes(IMAGES[0])

    def check(rows):
        text = rows if isinstance(rows, bytes) else _joined(rows).encode("utf-8", "replace")
        path.write_bytes(text)
        one_line(lambda: from_csv(path))
        one_line(lambda: read_table(path, ["path", "label"]))

    fuzz(ROWS | st.binary(max_size=200), examples, check)


def _joined(rows):
    return "\n".join(["path,label", *(",".join(row) for row in rows)])


NAMES = st.sampled_from(("data", "out", "epochs", "seed", "backbone", "fine_tune", "plan", "task"))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(string.printable, max_size=20)
    | st.dates()
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner), max_leaves=8
)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_settings(examples, tmp_path):
    path = tmp_path / "config.yaml"

    def check(value):
        if isinstance(value, bytes):
            path.write_bytes(value)
        elif isinstance(value, str):
            path.write_text(value, encoding="utf-8")
        else:
            path.write_text(json.dumps({"data": "a", "out": "b"} | value, default=str))
        one_line(lambda: make_config(read_config(path)))

    lines = st.text(
        string.ascii_letters + string.digits + ":-[]{}&*!|>'\"#%@` \n\t?,.", max_size=80
    )
    fuzz(st.dictionaries(NAMES, VALUES) | lines | st.binary(max_size=80), examples, check)


PIECES = st.sampled_from(
    (
        op("w"),
        op(7),
        op((1, 2)),
        tensor(),
        b"}",
        b"]",
        b")",
        b"(",
        b"t",
        b"\x85",
        b"s",
        b"u",
        b"a",
        b"e",
        b"R",
        b"b",
        b"Q",
        b"q\x00",
        b"h\x00",
        b"N",
        b"\x88",
        b"ccollections\nOrderedDict\n",
        b"0",
    )
)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_checkpoints(examples, tmp_path):
    path = tmp_path / "x.pth"
    good = [written_by_torch(kind) for kind in WRITTEN_BY_TORCH]

    def check(value):
        if isinstance(value, list):
            pickled = b"\x80\x02" + b"".join(value) + b"."
            for make in FORMATS.values():
                path.write_bytes(make(pickled))
                one_line(lambda: read_state_dict(path))
        else:
            path.write_bytes(value)
            one_line(lambda: read_state_dict(path))

    fuzz(st.lists(PIECES, max_size=20) | edited(good), examples, check)


HEADERS = st.dictionaries(
    st.sampled_from(("embeddings.word_embeddings.weight", "a", "__metadata__")),
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(("F32", "F64", "BF16", "I8", "Q1")),
            "shape": st.lists(st.integers(-1, 2**63), max_size=3),
            "data_offsets": st.lists(st.integers(-1, 2**63), max_size=3),
        }
    ),
)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_safetensors(examples, tmp_path):
    folder = write_tiny_bert(tmp_path / "tiny")
    path = folder / "model.safetensors"
    good = path.read_bytes()
    header = int.from_bytes(good[:8], "little") + 8

    def check(value):
        if isinstance(value, dict):
            value = models.safetensors(json.dumps(value).encode(), bytes(64))
        path.unlink()
        path.write_bytes(value)
        one_line(lambda: hf_folder.read_folder(folder))

    changed = edited([good[:header]]).map(lambda start: start + good[header:])
    fuzz(HEADERS | changed, examples, check)


WORDS = st.lists(
    st.text(max_size=4) | st.sampled_from(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "##a"))
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("model", "vocab", "type", "merges", "normalizer", "unk_token", "a")),
            inner,
        )
    ),
    max_leaves=10,
)


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_tokenizers(kind, examples, tmp_path):
    folder = write_tiny_bert(tmp_path / "tiny")
    config = json.loads((folder / "config.json").read_text()) | {"model_type": kind}
    (folder / "config.json").write_text(json.dumps(config))

    def check(value):
        (folder / "vocab.txt").unlink(missing_ok=True)
        (folder / "tokenizer.json").unlink(missing_ok=True)
        if isinstance(value, tuple):
            words = "\n".join(value).encode("utf-8", "replace")
            (folder / "vocab.txt").write_bytes(words)
        else:
            (folder / "tokenizer.json").write_text(json.dumps(value))
        one_line(lambda: hf_folder.read_folder(folder, with_weights=False).tokenizer(16, 1))

    fuzz(WORDS.map(tuple) | JSON, examples, check)


GOOD_TAR = gzip.decompress(archives.packed({f"{name}/x": name.encode() * 300 for name in "abc"}))
HEADERS_OF_TARS = st.builds(
    archives.header,
    st.sampled_from((b"a/x", b"../x", b"/x", b"././@LongLink", b"a\0b", b"")),
    st.sampled_from((0, 5, 512, -512, 2**33, 2**70)),
    st.sampled_from([bytes([kind]) for kind in b"0123456 7xgLKSZ"]),
)
TARS = edited([GOOD_TAR]) | st.lists(HEADERS_OF_TARS | st.binary(max_size=512)).map(b"".join)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_archives(examples, tmp_path):
    def check(content):
        inside = tmp_path / "inside"
        inside.mkdir()
        (tmp_path / "x.tar.gz").write_bytes(content)
        one_line(lambda: unpack(tmp_path / "x.tar.gz", inside))
        assert {path.name for path in tmp_path.iterdir()} == {"inside", "x.tar.gz"}
        found = list(inside.rglob("*"))
        assert not any(path.is_symlink() for path in found)
        assert sum(path.stat().st_size for path in found if path.is_file()) <= ALWAYS_ALLOWED
        shutil.rmtree(inside)

    fuzz(edited([gzip.compress(GOOD_TAR)]) | TARS | TARS.map(gzip.compress), examples, check)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_graphs_of_modules(examples, tmp_path):
    tf.saved_model.save(hub_modules.ImageModule(), str(tmp_path))
    good = (tmp_path / "saved_model.pb").read_bytes()

    def check(content):
        (tmp_path / "saved_model.pb").write_bytes(content)
        one_line(lambda: load_hub_backbone(tmp_path))

    fuzz(edited([good]), examples, check)
