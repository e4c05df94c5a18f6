"""Reads the fenced blocks of a page of the docs, and runs them as its reader would.

A page's blocks run in order: `python` in one namespace, lines of `sh` that begin with `keras-tl`
through the command line's own entry point, in one folder. Any other line of `sh` must be named in
`NOT_RUN`. A line that is meant to end with an exit code says so behind it: `# exit code 3`.
"""

import re
import shlex
from dataclasses import dataclass

# Blocks that are shown, not run.
SHOWN = frozenset(("text", "json", "csv", "html", "yaml", "bibtex"))
RUN = frozenset(("python", "sh"))
# How a line of `sh` that is not run begins, and why it is not.
NOT_RUN = {
    "python3.11 -m venv": "makes an environment of its own",
    "source": "changes the shell",
    "pip install": "installs packages",
    "keras-tl demo": "takes ten minutes, on photographs of another licence",
    "python recipes/": "tests of the recipes run them",
    "python predict.py": "lies in an export; the tests of exports run it",
    "python -m pytest": "would start these tests again",
    "docker run": "needs docker and TensorFlow Serving",
    "keras-tl predict run gs://": "needs Google Cloud",
    "keras-tl extract hdfs://": "needs a Flink cluster",
    "keras-tl extract s3://": "needs a Spark cluster",
    "curl": "asks the server that docker runs",
}
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<info>[^\n]*)\n(?P<body>.*?)^(?P=indent)``` *$", re.M | re.S
)
_EXIT_CODE = re.compile(r"#\s*exit code (\d+)\s*$")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: The first word behind the fence.
        line: The line of the page that the block's first line is.
        code: What is in it, without the indent of the fence.
    """

    language: str
    line: int
    code: str


class PageError(AssertionError):
    """A block that cannot be run, or ended otherwise than the page says."""


def blocks(text):
    """The fenced blocks of a page, in order."""
    found = []
    for match in _FENCE.finditer(text):
        indent = len(match["indent"])
        body = "".join(line[indent:] or "\n" for line in match["body"].splitlines(keepends=True))
        line = text.count("\n", 0, match.start("body")) + 1
        words = match["info"].replace("{", " ").split()
        found.append(Block(words[0] if words else "", line, body))
    return found


def reason_not_run(command):
    """Why a line of `sh` is not run; None where it is."""
    return next((why for start, why in NOT_RUN.items() if command.startswith(start)), None)


def commands(block):
    """The lines of a `sh` block that are run, each with the exit code that it should have."""
    for line in block.code.replace("\\\n", " ").splitlines():
        expected = _EXIT_CODE.search(line)
        # `a && b` is two commands.
        for part in line.split("&&"):
            words = shlex.split(part, comments=True)
            command = shlex.join(words).removeprefix(".venv/bin/")
            if not words or reason_not_run(command):
                continue
            if not command.startswith("keras-tl "):
                raise PageError(f"{command!r} is neither run nor named in NOT_RUN")
            yield words[1:], int(expected[1]) if expected else 0


def run_page(text, name, main):
    """Runs a page.

    Args:
        text: The page.
        name: What to call it in tracebacks.
        main: What runs a command line; returns its exit code.

    Raises:
        PageError: A block has no language, one that is unknown, or a line that nobody runs; or a
            command's exit code is not the one the page says.
    """
    names = {"__name__": "__main__"}
    for block in blocks(text):
        where = f"{name}, line {block.line}"
        if block.language == "python":
            # Line numbers of tracebacks are those of the page.
            exec(compile("\n" * (block.line - 1) + block.code, name, "exec"), names)
        elif block.language == "sh":
            for arguments, expected in commands(block):
                if (code := main(arguments)) != expected:
                    said = f"keras-tl {shlex.join(arguments)} ended with exit code {code}"
                    raise PageError(f"{where}: {said}, not {expected}")
        elif block.language not in SHOWN:
            raise PageError(f"{where}: a block of language {block.language!r}")
