"""CSV files that list images: not text, not tables, without what they need, or leading astray."""

from collections.abc import Iterator

from robustness.corpus.case import EITHER, READ, REFUSED, Case, cuts, flips

# Images that lie beside the table.
FILES = tuple(f"{letter}.png" for letter in "abcdefgh")
ROWS = [f"{name},{'xy'[number % 2]}" for number, name in enumerate(FILES)]
TABLE = "\n".join(["path,label", *ROWS]) + "\n"


def table(*rows: str, header: str = "path,label") -> str:
    return "\n".join([header, *ROWS, *rows]) + "\n"


def good() -> Iterator[Case]:
    encoded = {
        "a byte order mark": TABLE.encode("utf-8-sig"),
        "UTF-16 with a byte order mark": TABLE.encode("utf-16"),
        "UTF-16 with a big-endian mark": b"\xfe\xff" + TABLE.encode("utf-16-be"),
        "CRLF": TABLE.replace("\n", "\r\n").encode(),
        "CR alone": TABLE.replace("\n", "\r").encode(),
        "line ends of all kinds": TABLE.replace("\n", "\r\n", 3).replace("\n", "\r", 2).encode(),
        "no line end at its end": TABLE.rstrip().encode(),
        "blank lines": TABLE.replace("\n", "\n\n\n").encode(),
        "blanks around names": TABLE.replace("path,label", " path , label ").encode(),
        "semicolons": TABLE.replace(",", ";").encode(),
        "tabs": TABLE.replace(",", "\t").encode(),
        "quotes around all": "".join(
            ",".join(f'"{cell}"' for cell in line.split(",")) + "\n" for line in TABLE.split()
        ).encode(),
        "columns that nothing needs": table().replace("\n", ",more\n").encode(),
        "an empty column's name": table().replace("\n", ",\n").encode(),
        "rows given twice": table(*ROWS).encode(),
        "an absolute path that is not there": table("/nowhere/at/all.png,x").encode(),
        "a path that is not there": table("gone.png,x").encode(),
        "a path into a folder and out again": table("sub/../a.png,x").encode(),
        "a label in emoji": table().replace(",x", ",\U0001f600").encode(),
        "labels in quotes": table().replace(",x", ',"a ""x"", or, so"').encode(),
        "a label over two lines": table().replace(",x", ',"one\ntwo"').encode(),
        "a field of a million letters": table().replace(",x", "," + "x" * 10**6).encode(),
        "a path that is too long for a file": table("n" * 5000 + ".png,x").encode(),
        "a path with a line end": table('"a\nb.png",x').encode(),
        "a path of one dot": table(".,x").encode(),
        "a column of splits": table(header="path,label,split")
        .replace(",x\n", ",x,\n")
        .replace(",y\n", ",y,train\n")
        .encode(),
        "the name of a command": table("$(touch evil).png,x", "`touch evil`,x").encode(),
        "a formula for a spreadsheet": table().replace(",x", ",=1+1").encode(),
    }
    for label, content in encoded.items():
        yield Case(f"table with {label}", content, READ, "table.csv")


def bad() -> Iterator[Case]:
    said = {
        "nothing": ("", "an empty file"),
        "nothing but line ends": ("\n\r\n\n", "an empty file"),
        "nothing but a header": ("path,label\n", "at least one row"),
        "no header": ("\n".join(ROWS), "a column 'path'"),
        "no column of paths": (TABLE.replace("path", "file"), "a column 'path'"),
        "no column of labels": (TABLE.replace("label", "class"), "a column 'label'"),
        "a column's name in capitals": (TABLE.replace("label", "LABEL"), "Did you mean"),
        "two columns of labels": (
            table().replace("\n", ",label\n", 1).replace(",x", ",x,x").replace(",y", ",y,y"),
            "several",
        ),
        "two columns of paths": ("path,path,label\na.png,b.png,x\n", "several"),
        "a row too long": (table("a.png,x,more"), "3 in line 10"),
        "a row too short": (table("a.png"), "1 in line 10"),
        "a quote that is never closed": (table('"a.png,x'), "line 10"),
        "a quote within a cell": (table('"a"b.png,x'), "line 10"),
        "an empty path": (table(",x"), "1 without one (line 10)"),
        "a blank path": (table("   ,x"), "1 without one (line 10)"),
        "an empty label": (table("a.png,"), "1 without one (line 10)"),
        "a label in one row, another in the next": (table("a.png,y"), "a.png"),
        "one class": (TABLE.replace(",y", ",x"), "at least two classes"),
        "a path that leaves the folder": (table("../a.png,x"), "which leaves it"),
        "a path that leaves it in the middle": (table("sub/../../a.png,x"), "which leaves it"),
        "a path that leaves it behind a blank": (table(" ../a.png,x"), "which leaves it"),
        "a path to /etc by many steps": (table("../" * 40 + "etc/passwd,x"), "which leaves it"),
        "paths none of which is there": ("path,label\nu,x\nv,y\n", "without a file"),
        "an unknown split": (
            table(header="path,label,split").replace(",x\n", ",x,exam\n").replace(",y\n", ",y,\n"),
            "exam",
        ),
        "html": ("<!DOCTYPE html><html><body>404</body></html>", "a column 'path'"),
        "json": ('{"path": "a.png", "label": "x"}', ""),
        "a header of ten thousand columns": (",".join(map(str, range(10**4))) + "\n", "a column"),
        "a header of a million letters": ("p" * 10**6 + "\n1\n", "a column 'path'"),
        "a header of 17 million letters": ("p" * 17_000_000 + "\n1\n", "line 1 of"),
        "a number no float32 holds": (
            table("gone.png,1e39").replace(",x", ",1").replace(",y", ",.5"),
            "infinite",
        ),
    }
    for label, (text, line) in said.items():
        yield Case(f"table with {label}", text.encode(), REFUSED, "table.csv", line)
    raw = {
        "bytes that are no UTF-8": table().replace("x", "\xe9").encode("latin-1"),
        "a JPEG's content": b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(range(256)),
        "a PNG's content": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        "a zip's content": b"PK\x03\x04" + bytes(range(256)),
        "zeros": bytes(4096),
        "UTF-16 without a mark": TABLE.encode("utf-16-le"),
        "UTF-16 cut off": TABLE.encode("utf-16")[:-1],
        "UTF-32": TABLE.encode("utf-32"),
        "half a letter at its end": TABLE.encode() + "é".encode()[:1],
        "a cell of 17 million letters": table("a.png," + "x" * 17_000_000).encode(),
    }
    for label, content in raw.items():
        yield Case(f"table with {label}", content, REFUSED, "table.csv")
    zeros = {
        "a NUL in a label": table().replace(",x", ",x\0"),
        "a NUL in a path": table("a\0.png,x"),
        "a NUL in a column's name": TABLE.replace("label", "label\0"),
        "control characters in labels": table().replace(",x", ",\x01\x1b[31m"),
        "text that turns round": table().replace(",x", ",\u202egnp"),
        "lone surrogates in JSON's way": table().replace(",x", r",\ud800"),
    }
    for label, text in zeros.items():
        yield Case(f"table with {label}", text.encode(), EITHER, "table.csv")


def damaged() -> Iterator[Case]:
    content = TABLE.encode()
    for how, cut in cuts(content, 6):
        yield Case(f"table, {how}", cut, EITHER, "table.csv")
    for how, flipped in flips(content, 24):
        yield Case(f"table, {how}", flipped, EITHER, "table.csv")


LINE = '{"text": "a film", "label": "good"}\n'


def of_texts() -> Iterator[Case]:
    """Tables of texts, in JSON."""
    rows = "".join(
        f'{{"text": "film {number}", "label": "{"xy"[number % 2]}"}}\n' for number in range(8)
    )
    said = {
        "nothing": "",
        "half an object": rows + '{"text": "a',
        "a list a line": rows + '["a", "b"]\n',
        "a number a line": rows + "7\n",
        "lists in lists without end": rows + "[" * 100_000 + "\n",
        "no text column": rows.replace("text", "body"),
        "keys of its own in each line": "".join(
            f'{{"text": "a", "label": "{"xy"[number % 2]}", "{number}": 0}}\n'
            for number in range(3000)
        ),
        "a class whose name joins two": rows.replace('"x"', '["x|z"]').replace('"y"', '["x", "z"]'),
        "a number of a million digits": rows + '{"text": "a", "label": ' + "9" * 10**6 + "}\n",
    }
    for label, text in said.items():
        yield Case(f"lines of JSON with {label}", text.encode(), REFUSED, "table.jsonl")
    read = {
        "null for a text": rows + '{"text": null, "label": "x"}\n',
        "a text that is an object": rows + '{"text": {"a": 1}, "label": "x"}\n',
        "a text that is a list": rows + '{"text": ["a"], "label": "x"}\n',
        "a label that is an object": rows + '{"text": "a", "label": {"a": 1}}\n',
        "numbers for texts": rows + '{"text": 7, "label": "x"}\n',
        "a surrogate alone": rows + '{"text": "a \\ud800", "label": "x"}\n',
        "a NUL": rows + '{"text": "a \\u0000", "label": "x"}\n',
        "a key twice": rows + '{"text": "a", "text": "b", "label": "x"}\n',
        "NaN for a label": rows + '{"text": "a", "label": NaN}\n',
        "Infinity for a label": rows + '{"text": "a", "label": Infinity}\n',
        "a number of 400 digits for a label": rows + f'{{"text": "a", "label": {"9" * 400}}}\n',
        "numbers of 400 digits for labels": rows.replace('"x"', "1").replace('"y"', "9" * 400),
        "true for a label": rows + '{"text": "a", "label": true}\n',
    }
    for label, text in read.items():
        yield Case(f"lines of JSON with {label}", text.encode(), EITHER, "table.jsonl")
    for how, flipped in flips(rows.encode(), 12):
        yield Case(f"lines of JSON, {how}", flipped, EITHER, "table.jsonl")


CASES = [*good(), *bad(), *damaged()]
TEXT_CASES = [*of_texts()]
