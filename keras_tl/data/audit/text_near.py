"""Near-duplicate texts: the same text, lightly edited, quoted or addressed to somebody else."""

import numpy as np
from scipy import sparse

from keras_tl.data.audit.groups import LARGEST_LIMIT
from keras_tl.data.audit.near import Pairs
from keras_tl.data.audit.text_words import Words

# Least similarity of two texts that count as one.
SAME = 0.6
# Texts of fewer words are alike by chance.
LEAST_WORDS = 5
# Most texts with a shared phrase that each is compared with: the nearest by weight.
MOST = LARGEST_LIMIT
CHUNK = 4096


def near_texts(words: Words) -> Pairs:
    """Finds pairs of texts that share most of what they say.

    Similarity is the weighted Jaccard index of the sets of words and pairs of neighbouring words:
    the weight of what two texts share over that of what either holds. A phrase weighs the
    logarithm of how rare it is, so that what all texts have in common (signatures, headers) counts
    little. Pairs are found exactly by prefix filtering (Chaudhuri, Ganti and Kaushik, "A primitive
    operator for similarity joins in data cleaning", ICDE 2006): of each text, only the rarest
    phrases are looked at, until the rest weighs too little; two texts that are similar enough share
    one of these. Some pairs may be missed only if more than `MOST` texts share such a phrase.

    Args:
        words: The words of the texts.

    Returns:
        The pairs, the most similar first; of equal texts (see `Words.keys`) the first stands for
        all.
    """
    _, first_of = np.unique(words.keys.astype(str), return_index=True)
    chosen = np.sort(first_of)
    chosen = chosen[words.counts[chosen] >= LEAST_WORDS]
    held = _rarest_first(words.held[chosen])
    weights = _weights(held)
    first, second = _candidates(held, weights)
    similarity = _similarities(held, weights, first, second)
    alike = np.flatnonzero(similarity >= SAME)
    alike = alike[np.argsort(-similarity[alike], kind="stable")]
    return Pairs(
        chosen[first[alike]],
        chosen[second[alike]],
        similarity[alike],
        np.zeros(len(alike), bool),
    )


def _rarest_first(held: sparse.csr_matrix) -> sparse.csr_matrix:
    """Sorts the phrases (columns) by the number of texts that hold them."""
    texts = np.bincount(held.indices, minlength=held.shape[1])
    rank = np.empty(held.shape[1], np.int32)
    rank[np.argsort(texts, kind="stable")] = np.arange(held.shape[1], dtype=np.int32)
    ordered = sparse.csr_matrix((held.data, rank[held.indices], held.indptr), held.shape)
    ordered.sort_indices()
    return ordered


def _weights(held: sparse.csr_matrix) -> np.ndarray:
    """float64 `[phrases]`."""
    texts = np.bincount(held.indices, minlength=held.shape[1])
    return np.log((held.shape[0] + 1) / np.maximum(texts, 1))


def _candidates(held: sparse.csr_matrix, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Texts that share one of the rarest phrases of both: two int64 arrays, first < second."""
    row = np.repeat(np.arange(held.shape[0]), np.diff(held.indptr))
    weight = weights[held.indices]
    total = np.bincount(row, weight, minlength=held.shape[0])
    before = np.cumsum(weight) - weight
    in_row = before - before[held.indptr[:-1]].repeat(np.diff(held.indptr))
    shared = np.bincount(held.indices, minlength=held.shape[1]) > 1
    # The phrases after these weigh too little to be enough by themselves. The tolerance is for the
    # rounding of long sums.
    is_rare = (total[row] - in_row) * (1 + 1e-9) >= SAME * total[row]
    chosen = np.flatnonzero(is_rare & shared[held.indices])
    # Texts of similar weight come next to each other.
    chosen = chosen[np.lexsort((total[row[chosen]], held.indices[chosen]))]
    text, phrase = row[chosen], held.indices[chosen]
    found = [np.zeros(0, np.int64)]
    at = np.arange(len(chosen))
    for step in range(1, MOST + 1):
        at = at[at + step < len(chosen)]
        at = at[phrase[at + step] == phrase[at]]
        at = at[total[text[at]] >= SAME * total[text[at + step]]]
        if not len(at):
            break
        low, high = np.sort((text[at], text[at + step]), axis=0)
        found.append(np.unique(low * held.shape[0] + high))
    pairs = np.unique(np.concatenate(found))
    return pairs // max(held.shape[0], 1), pairs % max(held.shape[0], 1)


def _similarities(
    held: sparse.csr_matrix, weights: np.ndarray, first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """Weighted Jaccard indices: float32 `[pairs]`."""
    # The product of two roots is the weight.
    roots = np.sqrt(weights[held.indices]).astype(np.float32)
    rooted = sparse.csr_matrix((roots, held.indices, held.indptr), held.shape)
    total = np.asarray(rooted.multiply(rooted).sum(axis=1)).ravel()
    found = np.zeros(len(first), np.float32)
    for at in range(0, len(first), CHUNK):
        one, other = first[at : at + CHUNK], second[at : at + CHUNK]
        common = np.asarray(rooted[one].multiply(rooted[other]).sum(axis=1)).ravel()
        either = total[one] + total[other] - common
        found[at : at + CHUNK] = common / np.maximum(either, np.finfo(np.float32).tiny)
    return found
