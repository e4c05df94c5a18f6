import io
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_tl.data import augment, pipeline
from keras_tl.data.augment import Augmentation
from keras_tl.data.decoding import ImageInput, fit_to_input
from keras_tl.data.pipeline import Samples, permutation
from keras_tl.data.source import Source
from keras_tl.errors import InputError

COUNT = 22
SIZE = 8


def arrays():
    """Images that a pixel tells apart: uint8 [8, 8, 3] each."""
    images = np.random.default_rng(0).integers(0, 256, (COUNT, SIZE, SIZE, 3)).astype(np.uint8)
    images[:, 0, 0, 0] = np.arange(COUNT)
    return list(images)


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def samples(items=None, augmentation="none", image_input=None):
    items = arrays() if items is None else items
    source = Source(
        ids=np.array([f"{i}.png" for i in range(len(items))], dtype=object),
        items=items,
        labels=np.arange(len(items)) % 3,
        class_names=("a", "b", "c"),
    )
    return Samples(source, image_input or ImageInput(size=SIZE), augment.get(augmentation))


def collect(dataset):
    """Concatenates each part of the batches."""
    return [np.concatenate(part) for part in zip(*dataset.as_numpy_iterator(), strict=True)]


def indices_in(x):
    return x[:, 0, 0, 0].astype(int)


def test_permutations_depend_on_seed_and_epoch():
    first = permutation(50, 3, 0)
    assert first.dtype == np.int64 and sorted(first) == list(range(50))
    np.testing.assert_array_equal(first, permutation(50, 3, 0))
    assert (first != permutation(50, 3, 1)).any()
    assert (first != permutation(50, 4, 0)).any()
    # Written out, since stored runs rely on it.
    assert permutation(6, 0, 0).tolist() == [3, 2, 5, 4, 0, 1]


def test_images_come_in_the_order_asked_for():
    indices = np.array([5, 0, 21, 5])
    images = np.stack(list(samples().images(indices).as_numpy_iterator()))
    np.testing.assert_array_equal(images, np.stack(arrays())[indices])


def test_evaluation_is_in_order_and_complete():
    x, y = collect(samples(augmentation="strong").batches(5))
    np.testing.assert_array_equal(x, np.stack(arrays()))
    np.testing.assert_array_equal(y.argmax(1), np.arange(COUNT) % 3)
    assert y.dtype == np.float32 and y.shape == (COUNT, 3)


def test_each_epoch_is_its_permutation():
    dataset = samples().batches(5, seed=7, epochs=3)
    assert dataset.cardinality().numpy() == 15
    sizes = [len(y) for _, y in dataset]
    assert sizes == [5, 5, 5, 5, 2] * 3
    x, y = collect(dataset)
    expected = np.concatenate([permutation(COUNT, 7, epoch) for epoch in range(3)])
    np.testing.assert_array_equal(indices_in(x), expected)
    np.testing.assert_array_equal(y.argmax(1), expected % 3)


def test_the_remainder_is_dropped_in_each_epoch():
    dataset = samples().batches(5, seed=7, epochs=2, drop_remainder=True)
    assert dataset.cardinality().numpy() == 8
    assert dataset.element_spec[0].shape == (5, SIZE, SIZE, 3)
    x, _ = collect(dataset)
    expected = np.concatenate([permutation(COUNT, 7, epoch)[:20] for epoch in range(2)])
    np.testing.assert_array_equal(indices_in(x), expected)


def test_a_run_that_goes_on_sees_what_it_would_have_seen():
    whole, _ = collect(samples(augmentation="strong").batches(5, seed=1, epochs=3))
    rest, _ = collect(samples(augmentation="strong").batches(5, seed=1, epochs=1, first_epoch=2))
    np.testing.assert_array_equal(rest, whole[2 * COUNT :])


def test_the_same_stream_twice():
    dataset = samples(augmentation="strong").batches(5, seed=1, epochs=2)
    first, again = collect(dataset)[0], collect(dataset)[0]
    np.testing.assert_array_equal(first, again)


def test_epochs_show_their_views():
    dataset = samples(augmentation="dihedral").batches(COUNT, seed=2, epochs=9)
    for epoch, (x, _) in enumerate(dataset.as_numpy_iterator()):
        order = permutation(COUNT, 2, epoch)
        views = samples(augmentation="dihedral").images(order, epoch % 8)
        np.testing.assert_array_equal(x, np.stack(list(views.as_numpy_iterator())))
    np.testing.assert_array_equal(
        collect(dataset)[0][:COUNT], np.stack(arrays())[permutation(COUNT, 2, 0)]
    )


def test_an_order_says_which_samples_come_and_in_which_views():
    def order(epoch):
        return np.full(COUNT, epoch + 1), np.arange(COUNT)

    some = samples(augmentation="strong")
    epochs = list(some.batches(COUNT, order=order, epochs=3).as_numpy_iterator())
    for epoch, (x, y) in enumerate(epochs):
        # As many views as epochs.
        views = some.images(np.full(COUNT, epoch + 1), np.arange(COUNT) % 3)
        np.testing.assert_array_equal(x, np.stack(list(views.as_numpy_iterator())))
        assert (y.argmax(1) == (epoch + 1) % 3).all()


def test_a_picture_is_read_larger_for_its_views_only():
    items = list(np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8))
    crops = Augmentation("crops", scale=(0.3, 1.0), oversample=2.0)
    some = replace(samples(items), augmentation=crops)
    larger = fit_to_input(items[1], ImageInput(size=2 * SIZE))
    (view,) = some.images(np.array([1]), 5).as_numpy_iterator()
    seed = augment.image_seeds(some.keys)[1]
    np.testing.assert_array_equal(view, augment.augment(larger, crops, seed, 5))
    (plain,) = some.images(np.array([1])).as_numpy_iterator()
    np.testing.assert_array_equal(plain, fit_to_input(items[1], ImageInput(size=SIZE)))
    small = replace(some, augmentation=replace(crops, oversample=1.0))
    assert some.fingerprint(0) != small.fingerprint(0)


def test_the_order_of_the_run_does_not_change_a_view():
    def view_of_image_3(seed):
        x, _ = collect(samples(augmentation="strong").batches(4, seed=seed))
        return x[np.flatnonzero(permutation(COUNT, seed, 0) == 3)[0]]

    np.testing.assert_array_equal(view_of_image_3(0), view_of_image_3(1))


def test_each_index_may_have_its_own_view():
    some = samples(augmentation="strong")
    indices, views = np.array([3, 3, 4]), np.array([0, 5, 5])
    together = np.stack(list(some.images(indices, views).as_numpy_iterator()))
    for image, index, view in zip(together, indices, views, strict=True):
        (alone,) = some.images(np.array([index]), int(view)).as_numpy_iterator()
        np.testing.assert_array_equal(image, alone)


def test_all_views_share_one_decoder(monkeypatch):
    made = []

    def counted(pixels, image_input):
        made.append(image_input)
        return fit_to_input(pixels, image_input)

    monkeypatch.setattr(pipeline, "fit_to_input", counted)
    for view in (None, 0, 1):
        samples(augmentation="light").images(np.arange(3), view)
    assert len(made) == 1
    samples(image_input=ImageInput(size=SIZE + 1)).images(np.arange(3))
    assert len(made) == 2


def test_settings_that_are_equal_and_draw_differently_are_kept_apart():
    for rotation in (15.0, 15):
        settings = augment.Augmentation("turned", rotation=rotation)
        some = Samples(samples().source, ImageInput(size=SIZE), settings)
        (image,) = some.images(np.array([3]), 1).as_numpy_iterator()
        seed = augment.image_seeds(some.keys)[3]
        expected = augment.augment(tf.constant(arrays()[3]), settings, seed, 1)
        np.testing.assert_array_equal(image, expected)


def test_weights_go_with_their_samples():
    weights = np.linspace(1, 2, COUNT)
    x, _, w = collect(samples().batches(5, seed=0, epochs=2, weights=weights))
    np.testing.assert_allclose(w, weights[indices_in(x)])
    assert w.dtype == np.float32


def test_paths_bytes_and_arrays_are_alike(tmp_path):
    files = [png(image) for image in arrays()]
    paths = [str(tmp_path / f"bild ü {i}.png") for i in range(COUNT)]
    for path, contents in zip(paths, files, strict=True):
        with open(path, "wb") as file:
            file.write(contents)
    settings = ImageInput(size=5)
    expected = np.stack([fit_to_input(image, settings) for image in arrays()])
    for items in (paths, files, arrays()):
        x, _ = collect(samples(items, image_input=settings).batches(4))
        np.testing.assert_array_equal(x, expected)


def test_arrays_of_different_shapes():
    items = [np.zeros((4, 9, 1), np.uint8), np.zeros((5, 5, 4), np.uint8)]
    x, _ = collect(samples(items).batches(2))
    assert x.shape == (2, SIZE, SIZE, 3)
    assert (x[0] == 0).all() and (x[1] == 255).all()


def test_any_number_of_workers_gives_the_same_batches():
    def stream(threads):
        options = tf.data.Options()
        options.threading.private_threadpool_size = threads
        dataset = samples(augmentation="strong").batches(5, seed=1, epochs=2)
        return collect(dataset.with_options(options))[0]

    np.testing.assert_array_equal(stream(1), stream(10))


@pytest.mark.filterwarnings("ignore:The model does not have any trainable weights")
def test_fit_takes_one_epoch_after_the_other():
    import keras

    seen = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs):
            seen.append(logs["first_pixels"])

    def first_pixels(y_true, y_pred):
        return y_pred[:, 0]

    inputs = keras.Input((SIZE, SIZE, 3))
    model = keras.Model(inputs, keras.layers.Rescaling(1.0)(inputs[:, 0, 0, :]))
    model.compile(loss="mse", metrics=[first_pixels])
    dataset = samples().batches(5, seed=7, epochs=2, drop_remainder=True)
    model.fit(dataset, epochs=2, steps_per_epoch=4, shuffle=False, verbose=0, callbacks=[Watch()])
    expected = [permutation(COUNT, 7, epoch)[:20].mean() for epoch in range(2)]
    np.testing.assert_allclose(seen, expected, rtol=1e-5)


@pytest.mark.parametrize("settings", [{"epochs": 2}, {"first_epoch": 1}])
def test_several_epochs_need_a_seed(settings):
    with pytest.raises(InputError, match="a seed"):
        samples().batches(4, **settings)


def test_no_full_batch_is_an_error():
    with pytest.raises(InputError, match="at least one full batch of 32 samples"):
        samples().batches(32, seed=0, drop_remainder=True)
