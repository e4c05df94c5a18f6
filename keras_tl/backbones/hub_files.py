"""The files of a SavedModel that make a module: its graph and assets, known by their SHA-256.

They are kept in the cache folder under that name: a module outlives the folder that it was read
from, and assets are where the graph can read them for as long as there is a model. Weights are not
among them: Keras has these. Only what else a checkpoint holds (tables that change) keeps it here.
"""

import hashlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2

from keras_tl.backbones.hub_handles import SAVED_MODEL, TF1_MODULE
from keras_tl.errors import InputError
from keras_tl.files import atomic_folder, cache_root

ASSETS, VARIABLES = "assets", "variables"


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
        InputError: It is none of TensorFlow 2.
    """
    folder = Path(folder)
    keeps_checkpoint = _has_state(parse(folder))
    parts = (ASSETS, VARIABLES) if keeps_checkpoint else (ASSETS,)
    found = [path for part in parts for path in (folder / part).rglob("*") if path.is_file()]
    names = sorted(path.relative_to(folder).as_posix() for path in found)
    names = [SAVED_MODEL, *names]
    return ModuleFiles(folder, tuple(names), keeps_checkpoint, _digest(folder, names))


def parse(folder: Path) -> Any:
    """Reads the MetaGraphDef of a SavedModel.

    Raises:
        InputError: There is none, or it is one of TensorFlow 1.
    """
    path = folder / SAVED_MODEL
    if (folder / TF1_MODULE).exists():
        raise _too_old("a module of the TF1 Hub format", folder)
    if not path.is_file():
        fix = f"Give the folder that {SAVED_MODEL} lies in."
        raise InputError("a folder with a SavedModel", f"{folder} without {SAVED_MODEL}", fix)
    try:
        graphs = saved_model_pb2.SavedModel.FromString(path.read_bytes()).meta_graphs
    except DecodeError as error:
        fix = "Download it again."
        raise InputError("a SavedModel", f"{path}, which cannot be read", fix) from error
    if len(graphs) != 1 or not graphs[0].HasField("object_graph_def"):
        raise _too_old("a SavedModel of TensorFlow 1", folder)
    return graphs[0]


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
