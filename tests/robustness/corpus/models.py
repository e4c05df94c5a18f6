"""Weight files, model files and encoders' folders: damaged, hostile, or of something else.

What a case is made of is a good file, which needs TensorFlow and is made once by the tests.
"""

import base64
import io
import json
import marshal
import pickle
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import h5py
import numpy as np
from robustness.corpus.case import EITHER, REFUSED, cuts, flips

KINDS = ("weights.h5", "keras", "h5", "zip.pth", "legacy.pth")
Damage = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Damaged:
    """A good file of some kind, and what is done to it."""

    id: str
    kind: str
    damage: Damage
    ends: str = REFUSED


class Opens:
    """Pickled code that opens a file for writing."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self) -> tuple:
        return open, (self.path, "w")


def nth(ways: Callable[[bytes], Iterator[tuple[str, bytes]]], number: int) -> Damage:
    def damage(content: bytes) -> bytes:
        found = [damaged for _, damaged in ways(content)]
        return found[number % len(found)]

    return damage


def at_random(kind: str, count_cuts: int = 6, count_flips: int = 10) -> Iterator[Damaged]:
    for number in range(count_cuts):
        damage = nth(lambda content: cuts(content, count_cuts), number)
        yield Damaged(f"{kind}, cut off, place {number}", kind, damage)
    for number in range(count_flips):
        damage = nth(lambda content: flips(content, count_flips), number)
        yield Damaged(f"{kind}, bits flipped, seed {number}", kind, damage, EITHER)
        damage = nth(lambda content: flips(content, count_flips, 0, 400), number)
        yield Damaged(f"{kind}, bits flipped at its start, seed {number}", kind, damage, EITHER)
        damage = nth(
            lambda content: flips(content, count_flips, max(0, len(content) - 400)), number
        )
        yield Damaged(f"{kind}, bits flipped at its end, seed {number}", kind, damage, EITHER)


def foreign(kind: str) -> Iterator[Damaged]:
    contents = {
        "nothing": b"",
        "text": b"these are no weights",
        "html": b"<html>404</html>",
        "a git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "zeros": bytes(10_000),
        "random bytes": np.random.default_rng(0).bytes(10_000),
        "an empty archive": archive({}),
        "an archive of a text": archive({"notes.txt": b"hello"}),
        "an HDF5 signature alone": b"\x89HDF\r\n\x1a\n" + bytes(100),
        "a pickle of numbers": pickle.dumps([1, 2, 3]),
        "half a pickle": pickle.dumps(list(range(1000)))[:500],
    }
    for label, content in contents.items():
        yield Damaged(f"{label} called .{kind}", kind, lambda _, content=content: content)


def archive(members: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as made:
        for name, content in members.items():
            made.writestr(name, content)
    return file.getvalue()


def members_of(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as made:
        return {name: made.read(name) for name in made.namelist()}


def instead(content: bytes) -> Damage:
    """Another file in its place."""
    return lambda _: content


def with_member(name: str, value: bytes, how: int = zipfile.ZIP_STORED) -> Damage:
    return lambda content: archive(members_of(content) | {name: value}, how)


def repacked(how: int) -> Damage:
    """The same members packed in another way, with a bit of the packed content flipped."""

    def damage(content: bytes) -> bytes:
        packed = bytearray(archive(members_of(content), how))
        packed[len(packed) // 2] ^= 8
        return bytes(packed)

    return damage


def with_layer(layer: dict) -> Damage:
    """A `.keras` archive with a layer put before its last."""

    def damage(content: bytes) -> bytes:
        members = members_of(content)
        config = json.loads(members["config.json"])
        config["config"]["layers"].insert(-1, layer)
        return archive(members | {"config.json": json.dumps(config).encode()})

    return damage


def with_code(canary: str) -> dict[str, Damage]:
    """Archives that Keras would run code of, were it to trust them."""
    code = compile(f"lambda x: open({canary!r}, 'w')", "x", "eval").co_consts[0]
    packed = base64.b64encode(marshal.dumps(code)).decode()
    function = {"class_name": "__lambda__", "config": {"code": packed}}

    def layer(name: str, module: str, **config: object) -> dict:
        about = {"name": "evil", "trainable": True, "dtype": "float32", **config}
        return {
            "class_name": name,
            "module": module,
            "registered_name": None,
            "name": "evil",
            "config": about,
            "inbound_nodes": [],
        }

    opens = {"class_name": "function", "module": "builtins", "config": "open"}
    system = {"class_name": "function", "module": "os", "config": "system"}
    fetch = {"class_name": "function", "module": "keras.utils", "config": "get_file"}
    keras_layers = "keras.layers"
    return {
        "a Lambda of byte code": with_layer(layer("Lambda", keras_layers, function=function)),
        "a Lambda that opens": with_layer(
            layer("Lambda", keras_layers, function=opens, arguments={"file": canary, "mode": "w"})
        ),
        "a Lambda of os.system": with_layer(layer("Lambda", keras_layers, function=system)),
        "a Lambda that downloads": with_layer(
            layer("Lambda", keras_layers, function=fetch, arguments={"fname": canary})
        ),
        "a layer that is os.system": with_layer(layer("system", "os", command=f"touch {canary}")),
        "a layer that is Popen": with_layer(layer("Popen", "subprocess", args=["touch", canary])),
        "a vocabulary out of another file": with_layer(
            layer("StringLookup", keras_layers, vocabulary="/etc/passwd")
        ),
    }


def odd_archives() -> Iterator[Damaged]:
    deep = b"[" * 100_000
    long_name = "n" * 60_000
    changes: dict[str, Damage] = {
        "no configuration": lambda content: archive(
            {k: v for k, v in members_of(content).items() if k != "config.json"}
        ),
        "no weights": lambda content: archive(
            {k: v for k, v in members_of(content).items() if k != "model.weights.h5"}
        ),
        "a configuration that is a list": with_member("config.json", b"[]"),
        "a configuration that is a number": with_member("config.json", b"7"),
        "a configuration of lists in lists": with_member("config.json", deep),
        "a configuration that is no UTF-8": with_member("config.json", b"\xff{}"),
        "a configuration of 300 MB of blanks": with_member(
            "config.json", b" " * 300_000_000, zipfile.ZIP_DEFLATED
        ),
        "weights of 300 MB of zeros": with_member(
            "model.weights.h5", bytes(300_000_000), zipfile.ZIP_DEFLATED
        ),
        "weights that are text": with_member("model.weights.h5", b"text"),
        "a bit flipped in what is deflated": repacked(zipfile.ZIP_DEFLATED),
        "a bit flipped in what is packed with bzip2": repacked(zipfile.ZIP_BZIP2),
        "a bit flipped in what is packed with LZMA": repacked(zipfile.ZIP_LZMA),
    }
    for label, damage in changes.items():
        yield Damaged(f"keras archive with {label}", "keras", damage)
    harmless: dict[str, Damage] = {
        "a member that leads out of it": with_member("../../evil", b"evil"),
        "a member at the root": with_member("/keras-tl-evil", b"evil"),
        "an asset that leads out of it": with_member("assets/../../../evil", b"evil"),
        "a member of a long name": with_member(long_name, b""),
        "a configuration without layers": with_member("config.json", b"{}"),
        "other metadata": with_member("metadata.json", b"[]"),
    }
    for label, damage in harmless.items():
        yield Damaged(f"keras archive with {label}", "keras", damage, EITHER)


def hdf5(fill: Callable[[h5py.File], object]) -> bytes:
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        fill(file)
    return content.getvalue()


def linked_twice(levels: int) -> bytes:
    """Weights of one layer, under two names in each of so many groups: of 2^levels layers."""

    def fill(file: h5py.File) -> None:
        inner = file.create_group(f"g{levels}")
        inner.create_group("vars")["0"] = np.zeros((3, 3), np.float32)
        for level in reversed(range(levels)):
            outer = file.create_group(f"g{level}")
            outer["a"], outer["b"] = inner, inner
            inner = outer

    return hdf5(fill)


def named_often(count: int) -> bytes:
    """Weights of Keras 2: one layer of `count` arrays, under as many names."""

    def fill(file: h5py.File) -> None:
        group = file.create_group("0")
        names = [f"{number:05}".encode() for number in range(count)]
        for name in names:
            group[name.decode()] = np.zeros(1, np.float32)
            file[f"x{name.decode()}"] = group
        group.attrs["weight_names"] = names
        file.attrs["layer_names"] = [b"x" + name for name in names]

    return hdf5(fill)


def named_within_itself() -> bytes:
    def fill(file: h5py.File) -> None:
        file["a/b"] = file.create_group("a")
        file["a/b/vars/0"] = np.zeros(3, np.float32)

    return hdf5(fill)


def odd_weights() -> Iterator[Damaged]:
    changes = {
        "groups that hold the next one twice": linked_twice(40),
        "a group that holds itself": named_within_itself(),
    }
    for label, content in changes.items():
        yield Damaged(f"weights.h5 with {label}", "weights.h5", instead(content))
        member = with_member("model.weights.h5", content)
        yield Damaged(f"keras archive of weights with {label}", "keras", member)
    yield Damaged("h5 of a layer of 300 names", "h5", instead(named_often(300)))


def two_layers(units: int, mean_of: int = 4, weight: Callable | None = None) -> bytes:
    """A `.keras` archive with weights for four inputs, a mean, and twice four units.

    Args:
        units: How many units its configuration says.
        mean_of: How many numbers the mean is for.
        weight: Makes the first layer's weight, of a group and a name.
    """

    def layer(name: str, kind: str, inputs: int, **config: object) -> dict:
        return {
            "class_name": kind,
            "module": "keras.layers",
            "config": {"name": name, **config},
            "build_config": {"input_shape": [None, inputs]},
        }

    layers = [
        layer("given", "InputLayer", 4, batch_shape=[None, 4]),
        layer("scaled", "Normalization", mean_of, axis=[-1], mean=0.0, variance=1.0),
        layer("one", "Dense", 4, units=units),
        layer("two", "Dense", units, units=units),
    ]
    config = {"name": "small", "layers": layers, "build_input_shape": [None, 4]}
    about = {"class_name": "Sequential", "module": "keras", "config": config}

    def fill(file: h5py.File) -> None:
        for name in ("dense", "dense_1"):
            group = file.create_group(f"layers/{name}/vars")
            if weight and name == "dense":
                weight(group, "0")
            else:
                group["0"] = np.zeros((4, 4), np.float32)
            group["1"] = np.zeros(4, np.float32)

    members = {"metadata.json": b"{}", "config.json": json.dumps(about).encode()}
    return archive(members | {"model.weights.h5": hdf5(fill)})


def nothing_but_its_fill_value(group: h5py.Group, name: str) -> None:
    """An array of 3 GB in a few hundred bytes."""
    group.create_dataset(name, (30_000, 25_000), np.float32, chunks=(1000, 1000), fillvalue=1)


# Small `.keras` files that ask for more memory than they are worth.
LARGE = {
    "model of layers of 20,000 units": two_layers(20_000),
    "model of layers of 300,000 units": two_layers(300_000),
    "model of layers of 10^18 units": two_layers(10**18),
    "model of a mean for 10^9 numbers": two_layers(4, mean_of=10**9),
    "model of an array of 3 GB": two_layers(4, weight=nothing_but_its_fill_value),
}
SMALL = two_layers(4)


def odd_checkpoints() -> Iterator[Damaged]:
    pickled: dict[str, bytes] = {
        "a class of numpy": b"\x80\x02cnumpy\nndarray\n.",
        "a memo that is not there": b"\x80\x02h\x07.",
        "a mark that is not there": b"\x80\x02t.",
        "nothing but a stop": b"\x80\x02.",
        "a text of 2^31 bytes announced": b"\x80\x02X\xff\xff\xff\x7fabc.",
        "a number of 2^31 bytes announced": b"\x80\x02\x8b\xff\xff\xff\x7fabc.",
        "a text that is no UTF-8": b"\x80\x02X\x02\0\0\0\xff\xff.",
        "tuples in tuples without end": b"\x80\x02)" + b"\x85" * 100_000 + b".",
        "an extension": b"\x80\x02\x82\x01.",
        "out-of-band buffers": b"\x80\x05\x97.",
        "a frame of 2^62 bytes": b"\x80\x04\x95" + b"\xff" * 7 + b"\x3f.",
    }
    for label, content in pickled.items():
        for _name in ("archive/data.pkl",):
            yield Damaged(f"zip.pth with {label}", "zip.pth", with_pickle(content))
        yield Damaged(f"legacy.pth with {label}", "legacy.pth", lambda _, c=content: c)
    for label, how in (("deflate", 8), ("bzip2", 12), ("LZMA", 14)):
        yield Damaged(f"zip.pth, a bit flipped in {label}", "zip.pth", repacked(how))
    large = with_member("archive/data/0", bytes(300_000_000), zipfile.ZIP_DEFLATED)
    yield Damaged("zip.pth with 300 MB of zeros", "zip.pth", large)


def with_pickle(content: bytes) -> Damage:
    def damage(good: bytes) -> bytes:
        members = members_of(good)
        (name,) = (name for name in members if name.endswith("data.pkl"))
        return archive(members | {name: content})

    return damage


def all_weights() -> Iterator[Damaged]:
    for kind in KINDS:
        yield from at_random(kind)
        yield from foreign(kind)
    yield from odd_archives()
    yield from odd_weights()
    yield from odd_checkpoints()


CASES = [*all_weights()]
CODE = tuple(with_code(""))

# Folders of text encoders: a change of one of their files.
NUMBERS = (
    "vocab_size",
    "hidden_size",
    "num_attention_heads",
    "num_hidden_layers",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
    "layer_norm_eps",
    "hidden_dropout_prob",
    "pad_token_id",
)
VALUES = {"text": "7", "null": None, "a list": [1], "-1": -1, "10^12": 10**12, "{}": {}}


@dataclass(frozen=True)
class Changed:
    """A folder in which one file is another."""

    id: str
    name: str
    damage: Damage
    ends: str = REFUSED


def setting(key: str, value: object) -> Damage:
    return lambda content: json.dumps(json.loads(content) | {key: value}).encode()


def safetensors(header: bytes, data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def encoders() -> Iterator[Changed]:
    for key in NUMBERS:
        for label, value in VALUES.items():
            damage = setting(key, value)
            yield Changed(f"config.json with {key} {label}", "config.json", damage, EITHER)
    for key in ("model_type", "hidden_act", "position_embedding_type"):
        for value in (7, None, [1], {}):
            yield Changed(
                f"config.json with {key} {value!r}", "config.json", setting(key, value), EITHER
            )
    names = {"config.json": (3, 8), "model.safetensors": (6, 16), "vocab.txt": (4, 8)}
    for name, (cut, flipped) in names.items():
        for number in range(cut):
            damage = nth(lambda content, cut=cut: cuts(content, cut), number)
            # A vocabulary may end with any of its lines.
            ends = EITHER if name == "vocab.txt" else REFUSED
            yield Changed(f"{name}, cut off, place {number}", name, damage, ends)
        for number in range(flipped):
            damage = nth(lambda content, n=flipped: flips(content, n, 0, 1200), number)
            yield Changed(f"{name}, bits flipped, seed {number}", name, damage, EITHER)
    for label, content in {
        "nothing": b"",
        "zeros": bytes(4096),
        "a header of 2^63 bytes": b"\xff" * 8,
        "a header that is no JSON": safetensors(b"{nothing}"),
        "a header that is a list": safetensors(b"[]"),
        "no tensors": safetensors(b"{}"),
        "a header of lists in lists": safetensors(b"[" * 50_000),
        "a tensor behind its end": safetensors(
            b'{"embeddings.word_embeddings.weight":'
            b'{"dtype":"F32","shape":[9,9],"data_offsets":[0,324]}}'
        ),
        "a tensor of 2^60 numbers": safetensors(
            b'{"embeddings.word_embeddings.weight":'
            b'{"dtype":"F32","shape":[1073741824,1073741824],"data_offsets":[0,4]}}',
            bytes(4),
        ),
        "a type that nobody knows": safetensors(
            b'{"embeddings.word_embeddings.weight":'
            b'{"dtype":"Q7","shape":[1],"data_offsets":[0,4]}}',
            bytes(4),
        ),
        "a pickle": pickle.dumps({"a": 1}),
    }.items():
        yield Changed(f"model.safetensors with {label}", "model.safetensors", instead(content))
    for name in ("config.json", "tokenizer_config.json", "special_tokens_map.json"):
        for label, content in {
            "a list": b"[]",
            "a number": b"7",
            "no UTF-8": b"\xff\xfe",
            "lists in lists": b"[" * 100_000,
            "half an object": b'{"a": ',
        }.items():
            yield Changed(f"{name} with {label}", name, instead(content))
    for label, content in {
        "nothing": b"",
        "blanks": b"\n\n\n",
        "no UTF-8": b"\xff\xfe",
        "a token twice": b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\na\n",
        "no special tokens": b"a\nb\n",
        "a NUL": b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\0b\n",
        "more tokens than vectors": b"\n".join(b"t%d" % n for n in range(5000)),
    }.items():
        ends = EITHER if label == "a NUL" else REFUSED
        yield Changed(f"vocab.txt with {label}", "vocab.txt", instead(content), ends)
    odd: dict[str, object] = {
        "a list": [],
        "a model of null": {"model": None},
        "a model that is text": {"model": "WordPiece"},
        "a model that is a list": {"model": []},
        "a normalizer that is text": {"normalizer": "lower"},
        "a vocabulary that is a list": {"model": {"type": "WordPiece", "vocab": ["a"]}},
        "a vocabulary of texts": {"model": {"type": "WordPiece", "vocab": {"a": "b", "c": 1}}},
        "a vocabulary of null": {"model": {"type": "WordPiece", "vocab": None}},
        "no vocabulary": {"model": {"type": "WordPiece"}},
    }
    for label, value in odd.items():
        content = json.dumps(value).encode()
        yield Changed(f"tokenizer.json with {label}", "tokenizer.json", instead(content), EITHER)
    for key in ("cls_token", "unk_token", "do_lower_case", "strip_accents"):
        for value in (7, None, [], {}, "\n"):
            yield Changed(
                f"tokenizer_config.json with {key} {value!r}",
                "tokenizer_config.json",
                setting(key, value),
                EITHER,
            )


ENCODERS = [*encoders()]
