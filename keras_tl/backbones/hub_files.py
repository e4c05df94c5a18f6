"""The files of a SavedModel that make a module: its graph and assets, known by their SHA-256.

They are kept in the cache folder under that name: a module outlives the folder that it was read
from, and assets are where the graph can read them for as long as there is a model. Weights are not
among them: Keras has these. The checkpoint is kept only if it holds more (tables that change).
"""

import hashlib
import math
import shutil
import stat
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import fingerprint_pb2, saved_model_pb2

from keras_tl.backbones.hub_handles import SAVED_MODEL, TF1_MODULE
from keras_tl.errors import InputError
from keras_tl.files import atomic_folder, cache_root

ASSETS, VARIABLES, FINGERPRINT = "assets", "variables", "fingerprint.pb"
# What TensorFlow reads of a SavedModel, and the most bytes of each: all but weights at once.
READ = {
    SAVED_MODEL: 2**26,
    FINGERPRINT: 2**20,
    "debug": 2**26,
    ASSETS: 2**30,
    VARIABLES: 2**37,
}
# A graph's byte may take fifty in memory. Models' graphs compress to a tenth; few are this large.
LARGE_GRAPH, MOST_PACKED = 2**23, 50
# Most numbers of a constant that repeats one number, and so takes more memory than the file.
MOST_REPEATED = 2**22


@dataclass(frozen=True)
class ModuleFiles:
    """Files of a SavedModel.

    Attributes:
        folder: Where they are.
        names: Their names in it, with "/".
        keeps_checkpoint: Whether the checkpoint is one of them.
        digest: SHA-256 of names and contents.
    """

    folder: Path
    names: tuple[str, ...]
    keeps_checkpoint: bool
    digest: str

    @property
    def has_assets(self) -> bool:
        """Whether there are files that the graph reads."""
        return any(name.startswith(f"{ASSETS}/") for name in self.names)

    def graph(self) -> Any:
        """The one MetaGraphDef of the SavedModel."""
        return parse(self.folder)

    def copy_to(self, folder: Path) -> None:
        """Copies the files into a folder."""
        for name in self.names:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.folder / name, target)

    def kept(self) -> "ModuleFiles":
        """The same files in the cache folder, copied there unless they are already.

        Raises:
            InputError: The cache folder cannot be written to.
        """
        target = cached(self.digest)
        try:
            if not self._is_in(target):
                with atomic_folder(target) as aside:
                    self.copy_to(aside)
        except OSError as error:
            fix = "Set KERAS_TL_CACHE to a folder that can be written to."
            raise InputError("to keep a module's files", str(error), fix) from error
        return replace(self, folder=target)

    def _is_in(self, folder: Path) -> bool:
        """Whether a folder has the same files."""
        there = all((folder / name).is_file() for name in self.names)
        return there and _digest(folder, self.names) == self.digest


def cached(digest: str) -> Path:
    """Where the files of a module are kept."""
    return cache_root() / "hub" / digest


def read(folder: str | Path) -> ModuleFiles:
    """Finds the files of a SavedModel and their SHA-256.

    Args:
        folder: The SavedModel's folder.

    Raises:
        InputError: It is not a SavedModel of TensorFlow 2, or has files that are not regular or are
            too large.
    """
    folder = Path(folder)
    graph = parse(folder)
    _refuse_odd(folder)
    _refuse_inflated(graph, folder)
    keeps_checkpoint = _has_state(graph)
    parts = (ASSETS, VARIABLES) if keeps_checkpoint else (ASSETS,)
    found = [path for part in parts for path in (folder / part).rglob("*") if path.is_file()]
    names = sorted(path.relative_to(folder).as_posix() for path in found)
    names = [SAVED_MODEL, *names]
    try:
        digest = _digest(folder, names)
    except OSError as error:
        received = f"{error.filename or folder}: {error.strerror}"
        raise InputError("files that can be read", received, "Download it again.") from error
    return ModuleFiles(folder, tuple(names), keeps_checkpoint, digest)


def parse(folder: Path) -> Any:
    """Reads the MetaGraphDef of a SavedModel.

    Raises:
        InputError: There is none, or it is one of TensorFlow 1.
    """
    path = folder / SAVED_MODEL
    if (folder / TF1_MODULE).exists():
        raise _too_old("a module of the TF1 Hub format", folder)
    _refuse_odd_file(path, READ[SAVED_MODEL])
    if not path.is_file():
        fix = f"Give the folder that {SAVED_MODEL} lies in."
        raise InputError("a folder with a SavedModel", f"{folder} without {SAVED_MODEL}", fix)
    graphs = _read_message(path, saved_model_pb2.SavedModel).meta_graphs
    if len(graphs) != 1 or not graphs[0].HasField("object_graph_def"):
        raise _too_old("a SavedModel of TensorFlow 1", folder)
    return graphs[0]


def _read_message(path: Path, kind: Any) -> Any:
    try:
        content = path.read_bytes()
        _refuse_bomb(content, path)
        return kind.FromString(content)
    except (OSError, DecodeError) as error:
        fix = "Download it again."
        raise InputError("a SavedModel", f"{path}, which cannot be read", fix) from error


def _refuse_odd(folder: Path) -> None:
    """Raises where TensorFlow might read for ever, or more than there is memory for."""
    for name, most in READ.items():
        part = folder / name
        for path in (part, *part.rglob("*")) if part.is_dir() else (part,):
            _refuse_odd_file(path, most)
    if (folder / FINGERPRINT).exists():
        # TensorFlow would only log a traceback and go on.
        _read_message(folder / FINGERPRINT, fingerprint_pb2.FingerprintDef)


def _refuse_odd_file(path: Path, most: int) -> None:
    """Raises where a path is there, but neither a folder nor a file that may be read."""
    reason = ""
    try:
        facts = path.stat()
    except OSError as error:
        # A broken link is there, and so is a link to itself.
        reason = f"cannot be read ({error.strerror})" if path.is_symlink() else ""
    else:
        if not stat.S_ISREG(facts.st_mode) and not stat.S_ISDIR(facts.st_mode):
            reason = "is neither a file nor a folder"
        elif stat.S_ISREG(facts.st_mode) and facts.st_size > most:
            reason = f"has {facts.st_size / 2**20:.0f} MiB, of at most {most / 2**20:.0f}"
    if reason:
        raise InputError("files of a SavedModel", f"{path}, which {reason}", "Download it again.")


def _refuse_bomb(content: bytes, path: Path) -> None:
    """Raises if a large graph repeats itself more than any model's does."""
    if len(content) > LARGE_GRAPH and len(zlib.compress(content, 1)) * MOST_PACKED < len(content):
        received = f"{path}, {len(content) / 2**20:.0f} MiB of much the same"
        raise InputError("the graph of a model", received, "Download it again.")


def _refuse_inflated(graph: Any, folder: Path) -> None:
    """Raises if a constant that is made in loading has far more numbers than bytes in the file."""
    for node in graph.graph_def.node:
        if "value" not in node.attr:
            continue
        tensor = node.attr["value"].tensor
        size = math.prod(dim.size for dim in tensor.tensor_shape.dim)
        if size > max(tensor.ByteSize(), MOST_REPEATED):
            received = f"one of {size:.3g} in {folder / SAVED_MODEL}"
            raise InputError("constants with their numbers", received, "Download it again.")


def _too_old(received: str, folder: Path) -> InputError:
    return InputError(
        "a SavedModel of TensorFlow 2",
        f"{received} in {folder}",
        "Take the module's TF2 version: that one cannot be trained.",
    )


def _has_state(graph: Any) -> bool:
    """Whether anything beside variables is restored from the checkpoint."""
    nodes = graph.object_graph_def.nodes
    return any(node.saveable_objects and node.WhichOneof("kind") != "variable" for node in nodes)


def _digest(folder: Path, names: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for name in names:
        with (folder / name).open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{name}\0{content}\n".encode())
    return digest.hexdigest()
