"""YAML files for `keras-tl train --config`: no settings, wrong ones, hostile ones."""

from collections.abc import Iterator

from robustness.corpus.case import REFUSED, Case, cuts, flips

GOOD = """\
schema_version: 1
data: no-such-folder
out: run
backbone: TinyNet
epochs: 2
learning_rate: 0.001
fine_tune: none
batch_size: 8
text_column: null
class_weights: false
"""
# What each level doubles nine times stands for 10^9 words.
LAUGHS = "".join(
    f"l{level}: &l{level} [{', '.join([f'*l{level - 1}' if level else 'ha'] * 9)}]\n"
    for level in range(10)
)
CODE = (
    "!!python/object/apply:os.system ['touch {canary}']",
    "!!python/object/apply:builtins.eval [\"open('{canary}', 'w')\"]",
    "!!python/object/new:os.system ['touch {canary}']",
    "!!python/object/apply:subprocess.check_output [['touch', '{canary}']]",
    "!!python/name:os.system",
    "!!python/module:os",
    "!!python/object:keras_tl.config.TrainConfig {{data: a}}",
    "!!python/tuple [1, 2]",
    "!!binary not base64",
    "!made-up 1",
)
# Values of the wrong type or out of range.
VALUES = {
    "epochs": (
        "-1",
        "1.5",
        "many",
        "[1]",
        "{a: 1}",
        "true",
        "null",
        "1e99",
        "99999999999999999999",
    ),
    "learning_rate": ("0", "-1", "fast", ".nan", ".inf", "[0.1]", "true"),
    "batch_size": ("0", "null", "'8'", "2020-01-01"),
    "image_size": ("0", "-224", "224.0", "9999999", "[224, 224]"),
    "seed": ("-1", "4294967296", "0x"),
    "fine_tune": ("-1", "everything", "true", "[]", "1.5", "null"),
    "backbone": ("7", "[TinyNet]", "''", "NoSuchNet", "true"),
    "weights": ("7", "null", "[imagenet]", "no-such-file.h5", "/dev/null", "/"),
    "data": ("7", "null", "[a, b]", "''"),
    "out": ("null", "{}", "7"),
    "resize": ("7", "null", "stretch", "[squash]", "{}"),
    "optimizer": ("null", "[adam]", "Adam!"),
    "dropout": ("1", "-0.1", ".nan", "half"),
    "val_fraction": ("1", "-0.1", ".nan", "2"),
    "label_column": ("7", "null"),
    "group_column": ("7", "[a]"),
    "deterministic": ("1", "maybe"),
    "encoding": ("7",),
    "text_column": ("7",),
    "layer_decay": ("0", "2", ".nan"),
    "views": ("1", "'4'"),
}


def not_settings() -> Iterator[Case]:
    texts = {
        "nothing": "",
        "a comment alone": "# settings\n",
        "a word": "settings",
        "a number": "42",
        "null": "~",
        "a list": "- data\n- out\n",
        "a list of pairs": "- data: a\n- out: b\n",
        "two documents": GOOD + "---\n" + GOOD,
        "JSON cut off": '{"data": "a", "out": ',
        "a tab for a blank": "data: a\n\tout: b\n",
        "a quote that is never closed": GOOD + "plan: 'auto\n",
        "an anchor that is not there": GOOD + "plan: *nothing\n",
        "a key that is a list": GOOD + "? [a, b]\n: 1\n",
        "a key that is a mapping": GOOD + "? {a: b}\n: 1\n",
        "a key that is a number": GOOD + "7: 1\n",
        "a key that is null": GOOD + "~: 1\n",
        "a key that is a date": GOOD + "2020-01-01: 1\n",
        "a key without a value": GOOD + "epoch:\n",
        "html": "<html><body>404</body></html>",
        "a control character": GOOD + "plan: \x01\n",
        "a NUL": GOOD + "plan: a\0\n",
        "lists in lists without end": GOOD + "plan: " + "[" * 20_000,
        "mappings in mappings without end": GOOD + "plan: " + "{a: " * 20_000,
        "a list that holds itself": GOOD + "epochs: &a [*a]\n",
        "a mapping that holds itself": GOOD + "plan: &a {b: *a}\n",
        "settings that merge themselves": GOOD + "<<: &a {<<: *a}\n",
        "a merge of a word": GOOD + "<<: word\n",
        "a date that is none": GOOD + "plan: 2020-13-45\n",
        "a number in base 60 that is long": GOOD + "epochs: " + "1:" * 500 + "1\n",
        "a fraction in base 60 that is long": GOOD + "epochs: " + "1:" * 200 + "1.5\n",
        "a tag of a truth that is none": GOOD + "strict: !!bool abc\n",
        "a tag of a number that is none": GOOD + 'epochs: !!int ""\n',
        "a tag of a date that is none": GOOD + "epochs: !!timestamp abc\n",
        "a NUL in quotes": GOOD.replace("out: run", 'out: "r\\0un"'),
        "half a character": GOOD.replace("out: run", 'out: "r\\ud800un"'),
        "a number of 10,000 digits": GOOD + "epochs: " + "9" * 10_000 + "\n",
        "another setting by mistake": GOOD + "epoch: 3\n",
        "a setting of nobody": GOOD + "bakcbone_of_mine: 3\n",
        "a later schema": GOOD.replace("schema_version: 1", "schema_version: 2"),
        "a schema far ahead": GOOD.replace("schema_version: 1", "schema_version: 999999"),
        "a schema that is a list": GOOD.replace("schema_version: 1", "schema_version: [1]"),
        "a schema that is text": GOOD.replace("schema_version: 1", "schema_version: 'one'"),
        "a schema that is null": GOOD.replace("schema_version: 1", "schema_version:"),
        "no data": GOOD.replace("data: no-such-folder\n", ""),
    }
    for label, text in texts.items():
        yield Case(f"settings: {label}", text.encode(), REFUSED, "config.yaml")
    raw = {
        "bytes that are no UTF-8": GOOD.encode() + b"plan: \xff\n",
        "zeros": bytes(1000),
        "a PNG's content": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        "UTF-16": GOOD.encode("utf-16"),
    }
    for label, content in raw.items():
        yield Case(f"settings: {label}", content, REFUSED, "config.yaml")


def hostile() -> Iterator[Case]:
    for name in ("epochs", "backbone", "plan", "data", "out", "label_column", "schema_version"):
        bomb = f"{LAUGHS}{GOOD}{name}: *l9\n"
        yield Case(f"settings: a billion laughs for {name}", bomb.encode(), REFUSED, "config.yaml")
        # Without keys that nobody knows.
        anchored = LAUGHS.replace("\n", ", ").strip(", ")
        inside = f"{GOOD}{name}: {{{anchored}}}\n"
        label = f"settings: a billion laughs inside {name}"
        yield Case(label, inside.encode(), REFUSED, "config.yaml")
    merges = "".join(
        f"l{level}: &l{level} {{<<: [{', '.join([f'*l{level - 1}'] * 9)}]}}\n"
        for level in range(1, 9)
    )
    merged = f"{GOOD}versions: &l0 {{a: 1}}\n{merges}"
    yield Case("settings: a billion laughs by merging", merged.encode(), REFUSED, "config.yaml")
    for digits in ("0x" + "f" * 10_000, "0b" + "1" * 100_000, "'" + "9" * 10**5 + "'"):
        for name in ("epochs", "seed", "learning_rate", "schema_version", "backbone"):
            kept = "".join(f"{line}\n" for line in GOOD.splitlines() if f"{name}:" not in line)
            label = f"settings: {digits[:3]} and {len(digits) - 3} digits more for {name}"
            text = f"{kept}{name}: {digits}\n"
            yield Case(label, text.encode(), REFUSED, "config.yaml")
    keys = f"{GOOD}plan: &b [{'ha, ' * 9}]\n? *b\n: 1\n"
    yield Case("settings: an anchor for a key", keys.encode(), REFUSED, "config.yaml")
    for code in CODE:
        for place in ("epochs: ", "data: ", ""):
            text = f"{GOOD}{place}{code}\n" if place else code
            label = f"settings: {place}{code.split()[0]}"
            yield Case(label, text.encode(), REFUSED, "config.yaml")


def wrong_values() -> Iterator[Case]:
    for name, values in VALUES.items():
        kept = "".join(line + "\n" for line in GOOD.splitlines() if not line.startswith(f"{name}:"))
        for value in values:
            yield Case(
                f"settings: {name}: {value}",
                f"{kept}{name}: {value}\n".encode(),
                name="config.yaml",
            )


def damaged() -> Iterator[Case]:
    # Whatever the settings, there is no such data.
    for how, cut in cuts(GOOD.encode(), 5):
        yield Case(f"settings, {how}", cut, REFUSED, "config.yaml")
    for how, flipped in flips(GOOD.encode(), 20):
        yield Case(f"settings, {how}", flipped, REFUSED, "config.yaml")


CASES = [*not_settings(), *hostile(), *wrong_values(), *damaged()]
