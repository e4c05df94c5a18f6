"""Whether a SavedModel may be loaded in safe mode: it computes, and does nothing else.

Loading a SavedModel runs some of its functions (they make and fill tables), calling it runs others.
So every function in the file is looked through, but for the two that TensorFlow adds for saving and
restoring: these are for the graph itself, which is never run here, and they count too where
anything else calls them, or an object of the file holds them.

One operation reads a file: `InitializeTableFromTextFileV2` fills a table, most often a vocabulary,
from an asset. It is let through where its file name is shown to be the path of one of the module's
own assets: an argument of the function, handed on unchanged by its callers, which the object graph
binds to an asset. TensorFlow makes that path of the folder it loads from and the asset's name, and
the name is one of the files that came with the module, so it leads nowhere else. Nothing may be
set on asset or function after they are made.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from keras_tl.backbones.hub_files import ASSETS
from keras_tl.backbones.hub_ops import ALLOWED_OPS

FILE_READER, FILE_NAME = "InitializeTableFromTextFileV2", 1
CALLS = ("PartitionedCall", "StatefulPartitionedCall")
SAVERS = ("__inference__traced_save", "__inference__traced_restore")
# TensorFlow may run a function in the place of another with the same value of this attribute.
INTERCHANGEABLE = "api_implements"
# What TensorFlow writes as children of a function. A child is set as an attribute of that name.
CHILDREN_OF_A_FUNCTION = re.compile(r"(trace|capture)_\d+")


class _UnsafeError(Exception):
    """Says why; never leaves this module."""


def why_unsafe(graph: Any, names: Collection[str]) -> str:
    """Says why a SavedModel may not be loaded in safe mode.

    Args:
        graph: Its MetaGraphDef.
        names: The files that came with it, by their names in its folder.

    Returns:
        A phrase ("the operation ReadFile in __inference_f_7"), or "" where nothing is found.
    """
    for asset in graph.asset_file_def:
        if f"{ASSETS}/{asset.filename}" not in names:
            return f"an asset {asset.filename!r} that is none of its files"
    try:
        _Functions(graph).check()
    except _UnsafeError as found:
        return str(found)
    return ""


class _Functions:
    """The functions of a SavedModel, by name."""

    def __init__(self, graph: Any):
        library = graph.graph_def.library
        self.by_name = {function.signature.name: function for function in library.function}
        self.has_doubles = len(self.by_name) < len(library.function)
        self.objects = graph.object_graph_def
        # TensorFlow registers these as gradients of whatever it loads.
        gradients = {g.gradient_func for g in (*library.gradient, *library.registered_gradients)}
        swapped = {f.signature.name for f in library.function if INTERCHANGEABLE in f.attr}
        # TensorFlow finds these in the whole library, listed in `concrete_functions` or not.
        held = {name for node in self.objects.nodes for name in _held_by(node)}
        # Functions that may be called from outside the file's functions.
        self.entries = {*self.objects.concrete_functions, *held, *gradients, *swapped}
        self._paths: dict[str, set[int]] = {}
        self._open: set[str] = set()

    def check(self) -> None:
        """Raises where a function may do more than compute."""
        if self.has_doubles:
            raise _UnsafeError("two functions of one name")
        for child in (c for node in self.objects.nodes if _held_by(node) for c in node.children):
            if not CHILDREN_OF_A_FUNCTION.fullmatch(child.local_name):
                raise _UnsafeError(f"a function whose {child.local_name} is set")
        for name in sorted(self._in_use()):
            for node in self.by_name[name].node_def:
                known = node.op in ALLOWED_OPS or node.op in self.by_name
                if not known and node.op != FILE_READER:
                    raise _UnsafeError(f"the operation {node.op} in {name}")
        for name in sorted(self.entries):
            for place in self._file_names(name):
                self._check_is_asset(name, place)

    def _in_use(self) -> set[str]:
        """All functions but the savers, and what they call."""
        found: set[str] = set()
        waiting = [name for name in self.by_name if not name.startswith(SAVERS)]
        waiting.extend(self.entries)
        while waiting:
            name = waiting.pop()
            if name in found:
                continue
            if name not in self.by_name:
                raise _UnsafeError(f"a function {name} that is not there")
            found.add(name)
            for node in self.by_name[name].node_def:
                waiting.extend(self._called(node))
        return found

    def _called(self, node: Any) -> Iterator[str]:
        """The functions that a node names: in any attribute, or as its operation."""
        if node.op in self.by_name:
            yield node.op
        yield from _named_in(node.attr.values())

    def _file_names(self, name: str) -> set[int]:
        """Which arguments of a function are read as names of files, by it or what it calls."""
        if name in self._paths:
            return self._paths[name]
        if name in self._open:
            raise _UnsafeError(f"a function {name} that calls itself")
        self._open.add(name)
        found = set()
        function = self.by_name[name]
        nodes = {node.name: node for node in function.node_def}
        arguments = [argument.name for argument in function.signature.input_arg]
        for node in function.node_def:
            inputs = [source for source in node.input if not source.startswith("^")]
            for place in self._read_inputs(node):
                source = _origin(inputs[place], nodes)
                if source in nodes or source not in arguments:
                    raise _UnsafeError(f"a file name that {name} makes itself")
                found.add(arguments.index(source))
        self._paths[name] = found
        return found

    def _read_inputs(self, node: Any) -> set[int]:
        """Which inputs of a node are read as names of files."""
        if node.op == FILE_READER:
            return {FILE_NAME}
        called = {name: self._file_names(name) for name in self._called(node)}
        places = set().union(*called.values())
        if places and node.op not in (*CALLS, *self.by_name):
            raise _UnsafeError(f"a file that is read within {node.op}")
        return places

    def _check_is_asset(self, name: str, place: int) -> None:
        """Raises unless an argument is captured, and captured from one of the assets."""
        bound: list[int] = []
        if name in self.objects.concrete_functions:
            bound = list(self.objects.concrete_functions[name].bound_inputs)
        given = len(self.by_name[name].signature.input_arg) - len(bound)
        if not 0 <= given <= place or not _is_asset(self.objects.nodes[bound[place - given]]):
            raise _UnsafeError(f"a file name that {name} is given")


def _held_by(node: Any) -> list[str]:
    """The functions that an object is, or takes a tensor from."""
    kind = node.WhichOneof("kind")
    if kind == "function":
        return list(node.function.concrete_functions)
    if kind == "bare_concrete_function":
        return [node.bare_concrete_function.concrete_function_name]
    return [node.captured_tensor.concrete_function] if kind == "captured_tensor" else []


def _is_asset(node: Any) -> bool:
    """Whether an object is an asset: made by TensorFlow's own class, and left as it was made."""
    is_plain = not node.registered_name and not node.children
    return is_plain and node.WhichOneof("kind") == "asset"


def _origin(source: str, nodes: Mapping[str, Any]) -> str:
    """Follows identities back to the name of an argument, or of a node that is no identity."""
    name = source.split(":")[0]
    for _ in nodes:  # or for ever, where identities feed each other
        if name not in nodes or nodes[name].op != "Identity" or not nodes[name].input:
            break
        name = nodes[name].input[0].split(":")[0]
    return name


def _named_in(values: Iterable[Any]) -> Iterator[str]:
    """The functions named in attributes, and in the attributes of these."""
    for value in values:
        functions = [*value.list.func, *([value.func] if value.HasField("func") else [])]
        for function in functions:
            yield function.name
            yield from _named_in(function.attr.values())
