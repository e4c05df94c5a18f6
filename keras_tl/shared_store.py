"""A store of features that several processes fill together: each item is computed by one of them.

If all have the same store folder, as on a shared disk, or the same remote copy, all read what one
writes. If each has its own folder, they send each other what they computed. Every function is
called by all processes, in the same order, and gives all the same.
"""

import hashlib

import numpy as np

from keras_tl.agreement import check_facts
from keras_tl.feature_cache import Entry, ShardWriter
from keras_tl.workers import Workers

# Bytes of features sent at once.
CHUNK_BYTES = 32 * 2**20
SAME = "Give all processes the same data, weights and settings."


def nobody_has(entry: Entry, keys: list[str], workers: Workers) -> np.ndarray:
    """Positions in `keys` of rows that no process has, each row once."""
    if workers.count == 1:
        return entry.missing(keys)
    return _distinct(keys)[~_held(entry, keys, workers).any(axis=0)]


def share_of(positions: np.ndarray, workers: Workers) -> np.ndarray:
    """Those of the positions that this process is to compute."""
    return np.array_split(positions, workers.count)[workers.index]


def exchange(entry: Entry, keys: list[str], workers: Workers) -> None:
    """Gives every process the rows that another one has.

    Args:
        entry: An entry; rows that others have written or send are added to it.
        keys: Content hashes; each one's row is in the entry of at least one process.
        workers: The processes.

    Raises:
        InputError: The disk is full or not writable, or not all have the same keys.
        LostWorkerError: A process is gone.
    """
    if workers.count == 1:
        return
    # After this, what each wrote is in the shared folder, or in the remote copy.
    workers.barrier()
    entry.refresh()
    # What is still missing: everything, if processes have separate folders; otherwise what was not
    # written, did not fit, or is not listed yet (some shared disks lag).
    distinct, held = _distinct(keys), _held(entry, keys, workers)
    teller = np.argmax(held, axis=0)
    for number in range(workers.count):
        at = np.flatnonzero((teller == number) & ~held.all(axis=0))
        _tell(entry, [keys[i] for i in distinct[at]], number, held[workers.index][at], workers)


def _tell(entry: Entry, keys: list[str], teller: int, have: np.ndarray, workers: Workers) -> None:
    """One process sends the rows of some keys; those that lack them store them.

    Args:
        entry: The entry.
        keys: Of the rows.
        teller: The process that has them all.
        have: Which of them this one has, bool `[keys]`.
        workers: The processes.
    """
    if not keys:
        return
    features = entry.read(keys) if teller == workers.index else None
    shapes = workers.share(features and [list(shape) for shape in features.shapes], teller)
    size = 4 * sum(int(np.prod(shape)) for shape in shapes)
    step = max(CHUNK_BYTES // max(size, 1), 1)
    with ShardWriter(entry, [key for key, has in zip(keys, have, strict=True) if not has]) as out:
        for start in range(0, len(keys), step):
            part = slice(start, min(start + step, len(keys)))
            rows = np.arange(part.start, part.stop)
            mine = features.gather(rows) if features else [np.zeros((0, *s), "f4") for s in shapes]
            told = [workers.gather(tensor)[teller] for tensor in mine]
            lacking = ~have[part]
            if lacking.any():
                out.add([tensor[lacking] for tensor in told])


def _distinct(keys: list[str]) -> np.ndarray:
    """The first position of each key: int64."""
    return np.sort(np.unique(np.array(keys, object), return_index=True)[1])


def _held(entry: Entry, keys: list[str], workers: Workers) -> np.ndarray:
    """Which distinct keys each process has rows of: bool `[processes, keys]`.

    Raises:
        InputError: Their keys or entries differ. Rows are sent by their positions in the keys, so
            they would be mixed up.
    """
    facts = {"items": len(keys), "their content": _digest(keys), "frozen part": entry.folder.name}
    check_facts(workers, "stored features of the same items in all processes", facts, SAME)
    distinct = _distinct(keys)
    held = ~np.isin(distinct, entry.missing(keys))
    return np.stack(workers.gather(held))


def _digest(keys: list[str]) -> str:
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()
