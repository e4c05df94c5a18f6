"""Words of texts and their near-duplicates, remembered from run to run."""

import hashlib
import io
import json
from collections.abc import Sequence

import numpy as np
from scipy import sparse

from keras_tl.data.audit.near import Pairs
from keras_tl.data.audit.text_near import near_texts
from keras_tl.data.audit.text_words import Words, read_words
from keras_tl.data.remembered import found_once

# Raise VERSION when other words or pairs would be found. Most data sets that are remembered, and
# the most characters of one, each of which takes about a byte.
VERSION, MOST_REMEMBERED, LARGEST = 1, 10, 2**27


def words_and_pairs(items: Sequence[tuple[str, ...]]) -> tuple[Words, Pairs]:
    """Takes texts apart and compares each with each, unless it did so before.

    Args:
        items: Texts, or pairs of them.

    Returns:
        What `read_words` finds in them, and `near_texts` in that; the cache folder remembers it
        for the same texts in the same order.
    """
    if sum(len(text) for item in items for text in item) > LARGEST:
        words = read_words(items)
        return words, near_texts(words)
    key = hashlib.sha256(json.dumps([VERSION, *items]).encode()).digest()
    return _from_bytes(found_once("texts", key, lambda: _found(items), most=MOST_REMEMBERED))


def _found(items: Sequence[tuple[str, ...]]) -> bytes:
    words = read_words(items)
    strings = json.dumps([words.vocabulary, words.keys.tolist()]).encode()
    arrays = {
        "strings": np.frombuffer(strings, np.uint8),
        "counts": words.counts,
        "phrases": words.phrases.astype(np.int32),
        "columns": words.held.indices,
        "starts": words.held.indptr,
        "pairs": np.frombuffer(near_texts(words).to_bytes(), np.uint8),
    }
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def _from_bytes(content: bytes) -> tuple[Words, Pairs]:
    with np.load(io.BytesIO(content)) as arrays:
        vocabulary, keys = json.loads(arrays["strings"].tobytes())
        phrases, columns = arrays["phrases"].astype(np.int64), arrays["columns"]
        ones = np.ones(len(columns), np.uint8)
        held = sparse.csr_matrix((ones, columns, arrays["starts"]), (len(keys), len(phrases)))
        words = Words(vocabulary, arrays["counts"], np.array(keys, object), phrases, held)
        return words, Pairs.from_bytes(arrays["pairs"].tobytes())
