"""The hardest data set for near-duplicates: 2,624 photographs of solar cells."""

from pathlib import Path

import numpy as np
import pytest
from audit_pictures import COPIES
from PIL import Image

from keras_tl.data.audit.groups import bounded_groups
from keras_tl.data.audit.judging import look_through
from keras_tl.data.audit.near import near_duplicates
from keras_tl.data.image_input import ImageInput
from keras_tl.data.inspection import inspect
from keras_tl.data.source import Source

COPIED = 20
# In the order of the file the cells of a module (36 to 72) are neighbours; some modules were
# photographed again 542 cells later.
MODULE, AGAIN = 72, 542


def cells_with_copies():
    """The cells, then copies of some, made in turn in one of the ways."""
    import elpv_dataset

    folder = Path(elpv_dataset.__file__).parent / "data"
    lines = (folder / "labels.csv").read_text().splitlines()
    items = [(folder / line.split()[0]).read_bytes() for line in lines]
    chosen = np.random.default_rng(0).permutation(len(items))[: COPIED * len(COPIES)]
    ways = list(COPIES.values())
    for number, cell in enumerate(chosen):
        image = Image.open(folder / lines[cell].split()[0]).convert("L")
        items.append(ways[number % len(ways)](image))
    ids = np.array([f"{i:04d}" for i in range(len(items))], dtype=object)
    return Source(ids, items, np.zeros(len(ids), np.int64), ("a",)), len(lines), chosen


@pytest.mark.slow
def test_copies_are_found_and_few_pairs_beside_them():
    source, cells, chosen = cells_with_copies()
    source = inspect(source, ImageInput())
    seen = look_through(source, ImageInput())
    first, second = seen.pairs.first, seen.pairs.second
    found = set(zip(first.tolist(), second.tolist(), strict=True))
    ways = list(COPIES)
    hits = np.array([(cell, cells + i) in found for i, cell in enumerate(chosen.tolist())])
    recall = {way: hits[i :: len(ways)].mean() for i, way in enumerate(ways)}
    assert hits.mean() > 0.93, recall
    assert min(recall.values()) > 0.6, recall
    names = seen.groups.names
    together = [names[cell] == names[cells + i] != "" for i, cell in enumerate(chosen.tolist())]
    assert np.mean(together) > hits.mean() - 0.01
    assert np.unique(names[names != ""], return_counts=True)[1].max() <= 12
    assert seen.groups.too_large == ()
    # Different cells that show one crystal: neighbours cut from one block, or a cell taken twice.
    # 3.4 million pairs could be; single cells of a module correlate with 0.99.
    between = (first < cells) & (second < cells)
    assert between.sum() < 600
    apart = second[between] - first[between]
    assert np.mean((apart <= MODULE) | (apart == AGAIN)) > 0.9


@pytest.mark.slow
def test_the_twin_with_single_linkage_melts_them():
    """What average linkage is for: as chains, at a looser similarity, modules become one."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    from keras_tl.data.audit import near

    source, cells, _ = cells_with_copies()
    source = inspect(source.take(np.arange(cells)), ImageInput())
    seen = look_through(source, ImageInput())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near, "SAME", 0.5)
        patch.setattr(near, "SAME_IN_CROWD", 0.5)
        loose = near_duplicates(seen.looks, source.hashes)
    shape = (cells, cells)
    links = coo_matrix((np.ones(len(loose)), (loose.first, loose.second)), shape)
    chains = np.bincount(connected_components(links, directed=False)[1])
    groups = bounded_groups(source.ids, source.hashes, loose.first, loose.second, loose.similarity)
    _, sizes = np.unique(groups.names[groups.names != ""], return_counts=True)
    assert chains.max() > 3 * sizes.max()
