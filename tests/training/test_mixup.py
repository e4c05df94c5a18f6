import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_tl import freezing
from keras_tl.data.pipeline import Samples
from keras_tl.data.source import Source
from keras_tl.data.text_input import TextInput
from keras_tl.errors import InputError
from keras_tl.feature_cache import FeatureStore
from keras_tl.training.fit import run_phases
from keras_tl.training.mixup import blend, mixup
from keras_tl.training.phases import Phase


def batches(dtype=np.float32, weights=False, count=40):
    """Ten batches of four; a sample's features, target and weight are its number."""
    numbers = np.arange(count)
    x = np.stack([numbers, 2 * numbers], axis=1).astype(dtype)
    parts = (x, np.eye(count, dtype=np.float32)[numbers])
    if weights:
        parts = (*parts, numbers.astype(np.float32))
    return tf.data.Dataset.from_tensor_slices(parts).batch(4, drop_remainder=True)


def listed(dataset):
    return list(dataset.as_numpy_iterator())


def test_a_blend_worked_out_by_hand():
    values = tf.constant([[1.0, 2.0], [3.0, 6.0]])
    blended = blend(values, tf.constant([1, 0]), tf.constant([0.75, 1.0]))
    np.testing.assert_allclose(blended, [[1.5, 3.0], [3.0, 6.0]])


def test_inputs_targets_and_weights_are_blended_alike():
    partners = set()
    for number, (x, y, w) in enumerate(listed(mixup(batches(weights=True), 0.4, seed=1))):
        own = np.arange(4 * number, 4 * number + 4)
        # The targets say who was blended, by which shares.
        np.testing.assert_allclose(y.sum(axis=1), 1, atol=1e-6)
        assert not np.delete(y, own, axis=1).any()
        np.testing.assert_allclose(
            x, y @ np.stack([np.arange(40), 2 * np.arange(40)], 1), rtol=1e-5
        )
        np.testing.assert_allclose(w, y @ np.arange(40), rtol=1e-5)
        partners |= {tuple(row > 0) for row in y[:, own]}
    assert len(partners) > 5


def test_all_tensors_at_a_cut_are_blended_alike():
    pairs = batches().map(lambda x, y: ((x[:, 0], tf.reshape(x, (-1, 2, 1))), y))
    for (first, second), y in listed(mixup(pairs, 1.0, seed=2)):
        np.testing.assert_allclose(second[:, 0, 0], first, rtol=1e-6)
        np.testing.assert_allclose(first, y @ np.arange(40), rtol=1e-5)


def test_what_is_drawn_depends_on_seed_and_number_alone():
    whole = listed(mixup(batches(), 0.4, seed=1))
    for (x, _), (again, _) in zip(whole, listed(mixup(batches(), 0.4, seed=1)), strict=True):
        np.testing.assert_array_equal(x, again)
    other = listed(mixup(batches(), 0.4, seed=2))
    assert all((a != b).any() for (a, _), (b, _) in zip(whole, other, strict=True))
    repeated = batches(count=4).repeat(3)
    first, second, third = (x for x, _ in listed(mixup(repeated, 0.4, seed=1)))
    assert (first != second).any() and (second != third).any()


@pytest.mark.parametrize("alpha", [0.01, 0.4, 5.0])
def test_shares_are_from_the_beta_distribution(alpha):
    two = tf.data.Dataset.from_tensor_slices((np.zeros((2000, 1), np.float32), np.eye(2000)))
    ((_, y),) = listed(mixup(two.batch(2000), alpha, seed=3))
    share = y.diagonal()
    share = share[share < 1] if alpha > 0.1 else share
    assert np.isfinite(y).all()
    assert share.mean() == pytest.approx(0.5, abs=0.05)
    # The variance of Beta(a, a).
    assert share.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), abs=0.02)


def test_pixels_are_blended_as_floats():
    x, _ = listed(mixup(batches(np.uint8), 1.0, seed=0))[0]
    assert x.dtype == np.float32 and (x % 1 > 0).any()


def test_token_ids_are_refused():
    with pytest.raises(InputError, match="int32"):
        mixup(batches(np.int32), 0.2, seed=0)


def test_token_ids_at_a_cut_are_refused(tmp_path):
    """From a store they come as floats, and would be blended."""
    ids = keras.Input((), dtype="string")
    tokens = keras.layers.TextVectorization(
        vocabulary=["a", "b"], output_sequence_length=4, name="tokens"
    )(ids)
    frozen = keras.layers.Embedding(4, 3, name="given")(tokens)
    own = keras.layers.Embedding(4, 3, name="own")(tokens)
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.Concatenate()([frozen, own]))
    model = keras.Model(ids, keras.layers.Dense(2, "softmax")(x))
    texts = [(word,) for word in ("a b", "b", "a", "b b a")]
    names = np.array([f"t{i}" for i in range(4)], dtype=object)
    source = Source(names, texts, np.array([0, 1, 0, 1]), ("x", "y"))
    phase = Phase(freezing.Matching("given"), 1, 1e-3, mixup=0.2)
    store = FeatureStore(tmp_path)
    with pytest.raises(InputError, match=r"inputs of type int"):
        run_phases(
            model,
            [phase],
            Samples(source, TextInput()),
            batch_size=2,
            feature_store=store,
            verbose=0,
        )
