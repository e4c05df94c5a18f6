import numpy as np
import pytest
from audit_pictures import photograph

from keras_tl.data.audit.signatures import CLOSE, ROUGH, Whitening, mirrored, moments, spectrum


def pictures(count):
    return np.stack(
        [np.asarray(photograph(i).convert("L").resize((32, 32)), np.float32) for i in range(count)]
    )


def test_the_mirrored_spectrum_is_that_of_the_mirrored_picture():
    seen = pictures(3)
    np.testing.assert_allclose(mirrored(spectrum(seen)), spectrum(seen[:, :, ::-1]), atol=1e-6)
    assert np.abs(mirrored(spectrum(seen)) - spectrum(seen[:, ::-1])).max() > 0.01


def test_brightness_and_contrast_do_not_matter():
    seen = pictures(2)
    np.testing.assert_allclose(spectrum(seen), spectrum(0.5 * seen + 40), atol=1e-6)


def test_whitening_by_another_way():
    """With many random items the prior hardly counts: scikit-learn's PCA whitens alike."""
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(0)
    waves = rng.normal(size=(20_000, CLOSE * CLOSE - 1)) @ np.diag(rng.uniform(0.5, 2, 575))
    signatures = Whitening(moments([waves.astype(np.float32)]), ROUGH)(waves[:50])
    rows, columns = np.divmod(np.arange(1, CLOSE * CLOSE), CLOSE)
    kept = waves[:, (rows < ROUGH) & (columns < ROUGH)]
    white = PCA(whiten=True).fit(kept).transform(kept[:50])
    white /= np.linalg.norm(white, axis=1, keepdims=True)
    np.testing.assert_allclose(signatures @ signatures.T, white @ white.T, atol=0.02)


@pytest.mark.parametrize("count", [2, 30, 300])
def test_what_all_share_does_not_make_them_alike(count):
    """One background with a small mark each: they correlate, their signatures do not."""
    rng = np.random.default_rng(0)
    seen = np.repeat(200 * pictures(1) / 255, count, 0)
    for picture in seen:
        y, x = rng.integers(2, 28, 2)
        picture[y : y + 3, x : x + 3] += rng.choice([-40, 40])
    waves = spectrum(seen)
    others = ~np.eye(count, dtype=bool)
    assert np.median((waves @ waves.T)[others]) > 0.9
    signatures = Whitening(moments([waves]), CLOSE)(waves)
    assert np.quantile((signatures @ signatures.T)[others], 0.99) < 0.9
    again = Whitening(moments([waves]), CLOSE)(spectrum(seen + rng.normal(0, 0.3, seen.shape)))
    assert np.quantile((again * signatures).sum(axis=1), 0.1) > 0.9
