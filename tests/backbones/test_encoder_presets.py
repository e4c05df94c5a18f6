"""KerasHub's presets, saved here, against KerasHub's own outputs."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_tl.backbones.encoders import load_encoder
from keras_tl.errors import InputError

keras_hub = pytest.importorskip("keras_hub")
SIZES = {
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 8,
    "intermediate_dim": 16,
    "max_sequence_length": 12,
}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "one", "two", "##s", "three"]
TEXTS = ["One twos", "three", ""]


def randomised(backbone):
    rng = np.random.default_rng(0)
    backbone.set_weights([rng.normal(0, 0.5, w.shape) for w in backbone.get_weights()])
    return backbone


def preset(folder, kind):
    """Saves a tiny preset and gives its backbone, preprocessor and texts that it knows."""
    models = keras_hub.models
    if kind == "Roberta":
        pieces = ["<s>", "<pad>", "</s>", "<mask>", "<unk>", "a", "b", "Ġ", "ab", "Ġa"]
        vocabulary = {piece: index for index, piece in enumerate(pieces)}
        tokenizer = models.RobertaTokenizer(vocabulary, ["a b", "Ġ a"])
    else:
        tokenizer = getattr(models, f"{kind}Tokenizer")(vocabulary=WORDS, lowercase=True)
    backbone_class = getattr(models, f"{kind}Backbone")
    backbone = randomised(backbone_class(vocabulary_size=tokenizer.vocabulary_size(), **SIZES))
    preprocessor = getattr(models, f"{kind}TextClassifierPreprocessor")(tokenizer, 8)
    backbone.save_to_preset(str(folder))
    tokenizer.save_to_preset(str(folder))
    return backbone, preprocessor


@pytest.mark.parametrize("kind", ["Bert", "DistilBert", "Roberta"])
def test_vectors_are_those_of_keras_hub(kind, tmp_path):
    backbone, preprocessor = preset(tmp_path, kind)
    texts = ["ab a", "b", ""] if kind == "Roberta" else TEXTS
    inputs = preprocessor(texts)
    hidden = backbone(inputs)
    hidden = hidden["sequence_output"] if isinstance(hidden, dict) else hidden
    mask = np.asarray(inputs["padding_mask"], np.float32)[..., None]
    expected = (np.asarray(hidden) * mask).sum(1) / mask.sum(1)
    model = load_encoder(f"keras_hub:{tmp_path}", max_tokens=8)
    np.testing.assert_array_equal(
        model.get_layer("tokenizer")(tf.constant(texts))[:, 0], inputs["token_ids"]
    )
    np.testing.assert_allclose(model(tf.constant(texts)), expected, atol=1e-5)


def test_another_model_is_refused(tmp_path):
    backbone = keras_hub.models.AlbertBackbone(
        vocabulary_size=9, embedding_dim=4, num_groups=1, num_inner_repetitions=1, **SIZES
    )
    backbone.save_to_preset(str(tmp_path))
    with pytest.raises(InputError, match="AlbertBackbone"):
        load_encoder(f"keras_hub:{tmp_path}")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("config.json", {"num_heads": 0}, "heads of at least 1, received 0"),
        ("config.json", {"vocabulary_size": 10**9}, "an encoder of at most .* parameters"),
        ("config.json", {"num_segments": "2"}, "segments of at least 0, received '2'"),
        ("config.json", None, "a backbone in config.json"),
        ("tokenizer.json", None, "a preset of KerasHub"),
    ],
)
def test_a_damaged_preset_is_refused_in_one_line(name, changes, message, tmp_path, monkeypatch):
    preset(tmp_path, "Bert")
    saved = json.loads((tmp_path / name).read_text())
    saved = {"class_name": "BertBackbone"} if changes is None else saved
    saved.get("config", {}).update(changes or {})
    if name == "tokenizer.json":
        saved = {}
    else:
        # Nothing is built before.
        monkeypatch.setattr(keras_hub.models.Backbone, "from_preset", None)
    (tmp_path / name).write_text(json.dumps(saved))
    with pytest.raises(InputError, match=message) as caught:
        load_encoder(f"keras_hub:{tmp_path}", weights=None, max_tokens=8)
    assert "\n" not in str(caught.value)


def test_a_hugging_face_folder_is_looked_at_before_keras_hub_reads_it(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert", "type_vocab_size": 0}')
    with pytest.raises(InputError, match="'type_vocab_size'"):
        load_encoder(f"keras_hub:{tmp_path}")


def test_an_unknown_preset_is_refused_in_one_line(tmp_path):
    with pytest.raises(InputError, match="a preset of KerasHub") as caught:
        load_encoder(f"keras_hub:{tmp_path / 'none'}")
    assert "\n" not in str(caught.value)
    assert keras.backend.backend() == "tensorflow"
