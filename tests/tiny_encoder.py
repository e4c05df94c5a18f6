"""A Hugging Face folder of a BERT so small that tests can train it."""

import json

import numpy as np

WIDTH, HEADS, LAYERS, INTERMEDIATE, POSITIONS = 32, 2, 2, 64, 32
GOOD, BAD = ("good", "great", "fine", "lovely"), ("bad", "poor", "awful", "dull")
OTHERS = ("the", "film", "was", "story", "book", "it", "and", "very", "not", "of", "plot")
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def write_tiny_bert(folder, seed=0):
    """Writes config.json, vocab.txt and model.safetensors with random weights."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = [*SPECIALS, *GOOD, *BAD, *OTHERS, ".", ",", "!", *"abcdefghijklmnopqrstuvwxyz"]
    vocabulary += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    config = {
        "model_type": "bert",
        "vocab_size": len(vocabulary),
        "hidden_size": WIDTH,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "pad_token_id": 0,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    generator = np.random.default_rng(seed)
    shapes = dict(_shapes(len(vocabulary)))
    tensors = {
        name: np.ones(shape, np.float32)
        if name.endswith("LayerNorm.weight")
        else generator.normal(0, 1.0 if "word_embeddings" in name else 0.1, shape).astype(
            np.float32
        )
        for name, shape in shapes.items()
    }
    save_file(tensors, folder / "model.safetensors")
    return folder


def write_reviews(path, count=160, seed=0):
    """Writes a CSV of made reviews, `title,text,label`, whose words tell the label."""
    generator = np.random.default_rng(seed)
    rows = ["title,text,label"]
    for i in range(count):
        label = "positive" if i % 2 else "negative"
        words = GOOD if i % 2 else BAD
        picked = generator.choice(words, 2)
        filler = " ".join(generator.choice(OTHERS, 4))
        rows.append(f'{picked[0]} book,"the film was {picked[1]}, {filler} {i}",{label}')
    path.write_text("\n".join(rows) + "\n")
    return path


def _shapes(words):
    yield "embeddings.word_embeddings.weight", (words, WIDTH)
    yield "embeddings.position_embeddings.weight", (POSITIONS, WIDTH)
    yield "embeddings.token_type_embeddings.weight", (2, WIDTH)
    yield from _norm("embeddings.LayerNorm")
    for i in range(LAYERS):
        prefix = f"encoder.layer.{i}"
        for name in ("query", "key", "value"):
            yield from _dense(f"{prefix}.attention.self.{name}", WIDTH, WIDTH)
        yield from _dense(f"{prefix}.attention.output.dense", WIDTH, WIDTH)
        yield from _norm(f"{prefix}.attention.output.LayerNorm")
        yield from _dense(f"{prefix}.intermediate.dense", INTERMEDIATE, WIDTH)
        yield from _dense(f"{prefix}.output.dense", WIDTH, INTERMEDIATE)
        yield from _norm(f"{prefix}.output.LayerNorm")


def _dense(name, outputs, inputs):
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def _norm(name):
    yield f"{name}.weight", (WIDTH,)
    yield f"{name}.bias", (WIDTH,)
