"""What may be loaded in safe mode, and what may not."""

import dataclasses
import shutil
import zipfile

import hub_modules
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.saving.serialization_lib import SafeModeScope
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from keras_tl.backbones import hub_files
from keras_tl.backbones.hub_check import why_unsafe
from keras_tl.backbones.hub_ops import ALLOWED_OPS, TEXT_OPS
from keras_tl.builders.hub import build_hub_model
from keras_tl.errors import InputError

TEXTS = tf.constant(["good film", "bad"])


def reason(folder):
    files = hub_files.read(folder)
    return why_unsafe(files.graph(), files.names)


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    return hub_modules.publish(hub_modules.TextModule(folder), folder / "module")


@pytest.fixture
def text_copy(text_folder, tmp_path):
    return shutil.copytree(text_folder, tmp_path / "module")


def edit(folder, change):
    """Changes a SavedModel's protocol buffer."""
    path = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    change(saved.meta_graphs[0])
    path.write_bytes(saved.SerializeToString())


class Harmful(tf.train.Checkpoint):
    """Strings to numbers, and something else on the way."""

    def __init__(self, act):
        super().__init__()
        self.weight = tf.Variable([1.0, 2.0])
        self.act = act
        self.asset = None

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
    def __call__(self, texts):
        extra = self.act(texts)
        length = tf.cast(tf.strings.length(texts), tf.float32)
        return (length[:, None] + extra) * self.weight


def read_file(texts):
    return tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)


def write_file(texts):
    with tf.control_dependencies([tf.io.write_file("written.txt", texts[0])]):
        return tf.constant(0.0)


def python(texts):
    found = tf.py_function(lambda: 0.0, [], tf.float32)
    found.set_shape(())
    return found


def print_to_file(texts):
    with tf.control_dependencies([tf.print(texts, output_stream="file://printed.txt")]):
        return tf.constant(0.0)


def in_a_branch(texts):
    return tf.cond(tf.shape(texts)[0] > 5, lambda: read_file(texts), lambda: tf.constant(0.0))


def in_a_loop(texts):
    return tf.while_loop(lambda i: i < 1, lambda i: i + read_file(texts), [tf.constant(0.0)])[0]


def in_a_map(texts):
    return tf.reduce_sum(tf.map_fn(lambda _: read_file(texts), tf.zeros(2)))


def in_a_data_set(texts):
    lines = tf.data.TextLineDataset("/etc/hostname")
    return lines.reduce(0.0, lambda total, line: total + 1.0)


@pytest.mark.parametrize(
    ("act", "operation"),
    [
        (read_file, "ReadFile"),
        (write_file, "WriteFile"),
        (python, "EagerPyFunc"),
        (print_to_file, "PrintV2"),
        (in_a_branch, "ReadFile"),
        (in_a_loop, "ReadFile"),
        (in_a_map, "ReadFile"),
        (in_a_data_set, "TextLineDataset"),
    ],
)
def test_what_does_more_than_compute_is_found(tmp_path, act, operation):
    tf.saved_model.save(Harmful(act), str(tmp_path / "module"))
    assert f"the operation {operation} in" in reason(tmp_path / "module")


def test_what_computes_passes(tmp_path, text_folder):
    tf.saved_model.save(hub_modules.ImageModule(), str(tmp_path / "image"))
    tf.saved_model.save(hub_modules.Encoder(), str(tmp_path / "encoder"))
    tf.saved_model.save(hub_modules.Preprocessor(tmp_path), str(tmp_path / "pre"))
    tf.saved_model.save(Harmful(lambda texts: 0.0), str(tmp_path / "harmless"))
    # Saved again, functions are wrapped in functions.
    tf.saved_model.save(tf.saved_model.load(str(text_folder)), str(tmp_path / "again"))
    for name in ("image", "encoder", "pre", "harmless", "again"):
        assert reason(tmp_path / name) == ""
    assert reason(text_folder) == ""


def test_tensorflow_text_passes(tmp_path):
    import tensorflow_text

    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("\n".join(hub_modules.WORDS) + "\n")

    class WithBert(tf.train.Checkpoint):
        def __init__(self):
            super().__init__()
            self.tokenizer = tensorflow_text.BertTokenizer(str(vocabulary), lower_case=True)
            self.weight = tf.Variable([1.0, 2.0])

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
        def __call__(self, texts):
            ids = self.tokenizer.tokenize(texts).merge_dims(1, 2)
            return tf.cast(tf.reduce_sum(ids, 1), tf.float32)[:, None] * self.weight

    module = WithBert()
    tf.saved_model.save(module, str(tmp_path / "module"))
    assert reason(tmp_path / "module") == ""
    model = build_hub_model(tmp_path / "module", outputs=2)
    layer = model.get_layer("hub_module")
    # "good film" and "bad", by their places in the vocabulary.
    np.testing.assert_array_equal(layer(tf.constant(["Good film", "bad"])), [[10, 20], [5, 10]])


def test_an_asset_elsewhere_is_found(text_copy):
    edit(text_copy, lambda graph: setattr(graph.asset_file_def[0], "filename", "../../secret"))
    assert "an asset '../../secret'" in reason(text_copy)


def test_a_table_from_another_file_is_found(text_copy):
    def bind_to_a_constant(graph):
        objects = graph.object_graph_def
        assets = [i for i, n in enumerate(objects.nodes) if n.WhichOneof("kind") == "asset"]
        constant = next(
            i for i, n in enumerate(objects.nodes) if n.WhichOneof("kind") == "constant"
        )
        for function in objects.concrete_functions.values():
            bound = [constant if node in assets else node for node in function.bound_inputs]
            del function.bound_inputs[:]
            function.bound_inputs.extend(bound)

    edit(text_copy, bind_to_a_constant)
    assert "a file name that __inference__initializer" in reason(text_copy)


def test_a_file_name_that_a_function_makes_is_found(text_copy):
    def name_a_file(graph):
        for function in graph.graph_def.library.function:
            for node in function.node_def:
                if node.op == "InitializeTableFromTextFileV2":
                    made = function.node_def.add(name="made", op="StringJoin")
                    made.input.append(node.input[1])
                    node.input[1] = "made:output:0"

    edit(text_copy, name_a_file)
    assert "a file name that __inference__initializer" in reason(text_copy)


def test_a_function_called_by_its_name_is_looked_through(text_copy):
    def call(graph):
        library = graph.graph_def.library
        hidden = library.function.add()
        hidden.signature.name = "hidden"
        hidden.node_def.add(name="read", op="ReadFile")
        main = next(f for f in library.function if "__call__" in f.signature.name)
        main.node_def.add(name="calls", op="hidden")

    edit(text_copy, call)
    assert "the operation ReadFile in hidden" in reason(text_copy)


def test_a_saver_that_is_called_is_looked_through(text_copy):
    assert reason(text_copy) == ""

    def call(graph):
        library = graph.graph_def.library
        saver = next(f for f in library.function if "traced_save" in f.signature.name)
        main = next(f for f in library.function if "__call__" in f.signature.name)
        node = main.node_def.add(name="calls", op="PartitionedCall")
        node.attr["f"].func.name = saver.signature.name

    edit(text_copy, call)
    assert "in __inference__traced_save" in reason(text_copy)


def constant(function, name, text):
    """Adds a constant string to a function."""
    node = function.node_def.add(name=name, op="Const")
    node.attr["dtype"].type = tf.string.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(text))
    return f"{name}:output:0"


def held_by_the_table(graph, function):
    """Makes the table's `_initialize` another function, which the object graph's map has not."""
    nodes = graph.object_graph_def.nodes
    nodes.add().bare_concrete_function.concrete_function_name = function.signature.name
    table = next(node for node in nodes if node.WhichOneof("kind") == "resource")
    child = next(child for child in table.children if child.local_name == "_initialize")
    child.node_id = len(nodes) - 1


def test_a_saver_that_an_object_holds_is_looked_through(text_copy, tmp_path):
    written = tmp_path / "written.txt"

    def hold(graph):
        function = graph.graph_def.library.function.add()
        function.signature.name = "__inference__traced_save_1"
        node = function.node_def.add(name="write", op="WriteFile")
        node.input.extend(constant(function, name, str(written)) for name in ("name", "content"))
        function.control_ret["write"] = "write"
        function.signature.control_output.append("write")
        function.signature.is_stateful = True
        held_by_the_table(graph, function)

    edit(text_copy, hold)
    assert reason(text_copy) == "the operation WriteFile in __inference__traced_save_1"
    with pytest.raises(InputError, match=r"only computes.*WriteFile"):
        build_hub_model(text_copy, outputs=2)
    assert not written.exists()
    # The twin: TensorFlow runs it.
    tf.saved_model.load(str(text_copy))
    assert written.exists()


def initializer(graph):
    return next(f for f in graph.graph_def.library.function if "initializer" in f.signature.name)


def test_a_file_that_a_function_of_an_object_reads_is_found(text_copy):
    def hold(graph):
        function = graph.graph_def.library.function.add()
        function.CopyFrom(initializer(graph))
        function.signature.name = "other"
        read = next(n for n in function.node_def if n.op == "InitializeTableFromTextFileV2")
        read.input[1] = constant(function, "secret", "/etc/passwd")
        held_by_the_table(graph, function)

    edit(text_copy, hold)
    assert reason(text_copy) == "a file name that other makes itself"


def test_a_function_that_is_held_but_not_there_is_refused(text_copy):
    def hold(graph):
        graph.object_graph_def.nodes.add().function.concrete_functions.append("nowhere")

    edit(text_copy, hold)
    assert reason(text_copy) == "a function nowhere that is not there"


def secret(graph, name="secret"):
    """Adds a constant to the object graph: the index of its node."""
    node = graph.graph_def.node.add(name=name, op="Const")
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto("/no/such/secret"))
    made = graph.object_graph_def.nodes.add(registered_name="tf.TrackableConstant")
    made.constant.operation = name
    return len(graph.object_graph_def.nodes) - 1


def the_asset(graph):
    return next(n for n in graph.object_graph_def.nodes if n.WhichOneof("kind") == "asset")


def an_asset_of_another_class(graph):
    """The class of constants reads the operation that an asset does not name."""
    secret(graph, name="")
    the_asset(graph).registered_name = "tf.TrackableConstant"


def more_captures_than_arguments(graph):
    """TensorFlow takes the first; what comes last is the asset."""
    initializer(graph).signature.input_arg.reverse()
    bound = graph.object_graph_def.concrete_functions[initializer(graph).signature.name]
    asset, table = bound.bound_inputs
    bound.bound_inputs[:] = [table, secret(graph), asset]


@pytest.mark.parametrize("change", [an_asset_of_another_class, more_captures_than_arguments])
def test_what_takes_an_assets_place_is_found(text_copy, change):
    edit(text_copy, change)
    assert "a file name that __inference__initializer" in reason(text_copy)
    # The twin: TensorFlow reads it.
    with pytest.raises(FileNotFoundError, match="/no/such/secret"):
        tf.saved_model.load(str(text_copy))


def test_an_asset_with_another_path_is_found(text_copy):
    edit(text_copy, lambda g: the_asset(g).children.add(local_name="_path", node_id=secret(g)))
    assert "a file name that __inference__initializer" in reason(text_copy)


def test_a_function_with_other_captures_is_refused(text_copy):
    def set_captures(graph):
        kind = "bare_concrete_function"
        held = next(n for n in graph.object_graph_def.nodes if n.WhichOneof("kind") == kind)
        held.children.add(local_name="_captured_inputs", node_id=secret(graph))

    edit(text_copy, set_captures)
    assert reason(text_copy) == "a function whose _captured_inputs is set"


@pytest.mark.parametrize("inputs", [["around:output:0"], []], ids=["itself", "nothing"])
def test_an_identity_of_itself_or_nothing_is_refused(text_copy, inputs):
    def go_around(graph):
        for node in initializer(graph).node_def:
            if node.op == "InitializeTableFromTextFileV2":
                node.input[1] = "around:output:0"
        node = initializer(graph).node_def.add(name="around", op="Identity")
        node.input.extend(inputs)

    edit(text_copy, go_around)
    assert "makes itself" in reason(text_copy)


def test_an_identity_of_the_argument_passes(text_copy):
    def hand_on(graph):
        function = initializer(graph)
        for node in function.node_def:
            if node.op == "InitializeTableFromTextFileV2":
                path, node.input[1] = node.input[1], "second:output:0"
        for name, source in (("first", path), ("second", "first:output:0")):
            node = function.node_def.add(name=name, op="Identity")
            node.attr["T"].type = tf.string.as_datatype_enum
            node.input.append(source)

    edit(text_copy, hand_on)
    assert reason(text_copy) == ""
    assert tf.saved_model.load(str(text_copy))(TEXTS).shape == (2, 5)


def test_a_damaged_graph_in_a_file_ends_in_one_line(text_copy, text_folder):
    layer = build_hub_model(text_folder, outputs=2).get_layer("hub_module")

    def cut(graph):
        for node in initializer(graph).node_def:
            del node.input[:]

    edit(text_copy, cut)
    files = hub_files.read(text_copy)
    layer.module = dataclasses.replace(layer.module, digest=files.digest)
    with pytest.raises(InputError, match="a SavedModel, received IndexError"):
        layer.load_assets(str(text_copy))


def test_what_gradients_capture_passes(tmp_path):
    """Objects name the function that a gradient takes a tensor from."""

    @tf.custom_gradient
    def doubled(x):
        y = 2.0 * x
        return y, lambda upstream: upstream * y

    class Module(hub_modules.Published):
        def __init__(self):
            super().__init__()
            self.weight = tf.Variable([1.0, 2.0])
            self.publish([self.weight])

        @tf.function(input_signature=[tf.TensorSpec((None, 2), tf.float32)])
        def __call__(self, x):
            return tf.function(doubled)(x * self.weight)

    options = tf.saved_model.SaveOptions(experimental_custom_gradients=True)
    tf.saved_model.save(Module(), str(tmp_path / "module"), options=options)
    nodes = hub_files.read(tmp_path / "module").graph().object_graph_def.nodes
    assert "captured_tensor" in {node.WhichOneof("kind") for node in nodes}
    assert reason(tmp_path / "module") == ""


def test_a_function_that_may_take_anothers_place_is_looked_through(text_copy):
    def swap(graph):
        library = graph.graph_def.library
        reader = next(f for f in library.function if "initializer" in f.signature.name)
        other = library.function.add()
        other.CopyFrom(reader)
        other.signature.name = "other"
        other.attr["api_implements"].s = b"lstm"

    edit(text_copy, swap)
    assert "a file name that other is given" in reason(text_copy)


def test_two_functions_of_one_name_are_refused(text_copy):
    def double(graph):
        functions = graph.graph_def.library.function
        functions.add().CopyFrom(functions[0])

    edit(text_copy, double)
    assert reason(text_copy) == "two functions of one name"


def test_a_function_that_calls_itself_is_refused(text_copy):
    def recur(graph):
        main = next(f for f in graph.graph_def.library.function if "__call__" in f.signature.name)
        node = main.node_def.add(name="calls", op="PartitionedCall")
        node.attr["f"].func.name = main.signature.name

    edit(text_copy, recur)
    assert "calls itself" in reason(text_copy)


def test_every_allowed_operation_is_one():
    import tensorflow_text  # noqa: F401

    assert [name for name in ALLOWED_OPS if op_def_registry.get(name) is None] == []
    assert not ALLOWED_OPS & {"ReadFile", "WriteFile", "PyFunc", "EagerPyFunc", "SaveV2", "PrintV2"}
    assert TEXT_OPS < ALLOWED_OPS


def test_safe_mode_refuses_what_is_trusted_without_it(tmp_path, caplog):
    tf.saved_model.save(Harmful(read_file), str(tmp_path / "module"))
    with pytest.raises(InputError, match=r"only computes.*ReadFile.*enable_unsafe_deserialization"):
        build_hub_model(tmp_path / "module", outputs=2)
    with SafeModeScope(False):
        model = build_hub_model(tmp_path / "module", outputs=2)
    assert "loads with safe_mode=False only: the operation ReadFile" in caplog.text
    # What the user opened trains, is copied, and is saved.
    assert keras.models.clone_model(model)(TEXTS).shape == (2, 2)
    model.save(tmp_path / "model.keras")
    with pytest.raises(
        ValueError, match=r"only computes, received one with the operation ReadFile"
    ):
        keras.models.load_model(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=False)
    np.testing.assert_array_equal(loaded(TEXTS), model(TEXTS))


def test_a_configuration_alone_is_checked_too(tmp_path):
    tf.saved_model.save(Harmful(read_file), str(tmp_path / "module"))
    with SafeModeScope(False):
        model = build_hub_model(tmp_path / "module", outputs=2)
    # Its files are in the cache; who writes a configuration may name them.
    copy = keras.models.model_from_json(model.to_json())
    with pytest.raises(RuntimeError, match="the operation ReadFile"):
        copy(TEXTS)
    tf.saved_model.save(hub_modules.TextModule(tmp_path), str(tmp_path / "text"))
    safe = build_hub_model(tmp_path / "text", outputs=2)
    copy = keras.models.model_from_json(safe.to_json())
    copy.set_weights(safe.get_weights())
    np.testing.assert_array_equal(copy(TEXTS), safe(TEXTS))


def test_an_exchanged_module_is_refused(text_folder, tmp_path):
    model = build_hub_model(text_folder, outputs=2)
    model.save(tmp_path / "model.keras")
    exchanged = tmp_path / "exchanged.keras"
    with zipfile.ZipFile(tmp_path / "model.keras") as old, zipfile.ZipFile(exchanged, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content + b"good\n" if name.endswith("vocab.txt") else content)
    with pytest.raises(ValueError, match="a TF-Hub module of SHA-256"):
        keras.models.load_model(exchanged)


def test_a_cache_that_was_changed_is_written_anew(text_folder):
    model = build_hub_model(text_folder, outputs=2)
    files = model.get_layer("hub_module")._files
    (files.folder / "assets" / "vocab.txt").write_text("other\n")
    again = build_hub_model(text_folder, outputs=2)
    same = [m.get_layer("hub_module")(TEXTS) for m in (model, again)]
    np.testing.assert_array_equal(*same)
