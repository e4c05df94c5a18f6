"""Which labels are probably wrong, by what a model that never saw them says of their items."""

from dataclasses import dataclass

import numpy as np

# Classes with fewer items say nothing of how sure a model is of them.
LEAST_ITEMS = 5


@dataclass(frozen=True)
class Suspect:
    """An item whose label is probably wrong.

    Attributes:
        item: Its index.
        suggested: The class it probably has.
        given_probability: What the model gave the class it is labelled with.
        suggested_probability: What it gave the suggested one.
    """

    item: int
    suggested: int
    given_probability: float
    suggested_probability: float


def suspected_labels(labels: np.ndarray, probabilities: np.ndarray) -> list[Suspect]:
    """Confident learning: labels that a model contradicts as surely as it affirms others.

    A class's threshold is the mean probability that items labelled with it are given for it. An
    item is confidently of a class where its probability is at least that threshold, of several
    such classes the most probable. Counted by label and such class, scaled up to all items of
    each label, that estimates how many labels of one class should be another; so many items of
    each kind are suspects, those whose other class is the most probable one by the widest margin
    (Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels",
    JAIR 70, 2021, pruning by noise rate). Thresholds of their own make it indifferent to a model
    that is surer of some classes than of others.

    Args:
        labels: int64 `[items]`, the classes given.
        probabilities: Float `[items, classes]` by models that were not fitted to the item: from a
            cross-validation.

    Returns:
        The suspects, the surest first: by how much more probable the suggested class is. Items of
        classes with fewer than `LEAST_ITEMS` items are none, nor is such a class suggested.
    """
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    of_label = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    sums = np.bincount(labels, of_label, minlength=len(counts))
    thresholds = np.where(counts >= LEAST_ITEMS, sums / np.maximum(counts, 1), np.inf)
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    found = np.where(confident.max(axis=1) >= 0, confident.argmax(axis=1), -1)
    likeliest = probabilities.argmax(axis=1)
    margin = of_label - probabilities.max(axis=1)
    chosen: list[int] = []
    for label in np.flatnonzero(counts >= LEAST_ITEMS):
        of_class = found[(labels == label) & (found >= 0)]
        for other in np.unique(of_class[of_class != label]):
            expected = round(float((of_class == other).mean()) * int(counts[label]))
            items = np.flatnonzero((labels == label) & (likeliest == other))
            chosen += items[np.argsort(margin[items], kind="stable")[:expected]].tolist()
    return [
        Suspect(i, int(likeliest[i]), float(of_label[i]), float(probabilities[i, likeliest[i]]))
        for i in sorted(chosen, key=lambda i: (margin[i], i))
    ]
