"""Feature extraction or fine-tuning: a rule on what probes of the features found."""

from dataclasses import dataclass
from typing import Any

from keras_tl.evaluation.probes import Probe

# With fewer images of a class, fine-tuning gains little and may lose: it distorts good features
# (Kumar et al., "Fine-Tuning can Distort Pretrained Features", ICLR 2022).
FEW_PER_CLASS = 10
# The share of a linear layer's errors that fine-tuning takes away: little on photographs like
# ImageNet's, much on what is far from them (Kornblith et al., "Do Better ImageNet Models Transfer
# Better?", CVPR 2019). The figures are this project's, from solar cells and Fashion-MNIST.
LEAST_SHARE, MOST_SHARE = 0.1, 0.4
# With this many images per class it takes away half of that share, by the same measurements:
# fine-tuning's lead over a linear layer grows with them.
HALF_PER_CLASS = 100
# What a gain must reach: a point, or a quarter of the errors where that is less; and a point more
# for each hour that it takes.
LEAST_GAIN = AN_HOURS_GAIN = 0.01
LEAST_OF_ERRORS = 0.25


@dataclass(frozen=True)
class Verdict:
    """Whether fine-tuning is worth its price.

    Attributes:
        fine_tune: True where it is.
        why: The reason in one sentence.
        probe: The probe of the features that a head gets.
        earlier: The score of a probe of the features in front of the blocks to fine-tune; None
            where there are none.
        images_per_class: Images of a class, in the mean.
        expected_gain: What fine-tuning is expected to add to the probe's score.
        needed_gain: What it would have to add.
        seconds: What it would take; None where no clock may decide.
    """

    fine_tune: bool
    why: str
    probe: Probe
    earlier: float | None
    images_per_class: float
    expected_gain: float
    needed_gain: float
    seconds: float | None

    def __str__(self) -> str:
        decided = (
            "Fine-tuning is worth its price" if self.fine_tune else "Feature extraction will do"
        )
        return f"{decided}: {self.why}"

    def facts(self) -> dict[str, Any]:
        """The verdict ready for JSON."""
        return {
            "fine_tune": self.fine_tune,
            "why": self.why,
            self.probe.metric: self.probe.score,
            "interval": list(self.probe.interval),
            "earlier_features": self.earlier,
            "images_per_class": self.images_per_class,
            "expected_gain": self.expected_gain,
            "needed_gain": self.needed_gain,
            "seconds": self.seconds,
        }


def judge(
    probe: Probe, early: Probe | None, *, images_per_class: float, seconds: float | None
) -> Verdict:
    """Judges whether fine-tuning the last blocks is worth its price.

    Fine-tuning can gain no more than the error that a linear layer leaves. How much of that
    depends on how far the images are from those of the pretraining. Late layers are specific to
    these (Yosinski et al., "How transferable are features in deep neural networks?", NeurIPS
    2014). So where features from before the last blocks do nearly as well as those behind them,
    these blocks contribute little as they are, and training them can (Evci et al., "Head2Toe:
    Utilizing Intermediate Representations for Better Transfer Learning", ICML 2022, find that
    intermediate features help just where fine-tuning does). The share goes from `LEAST_SHARE` to
    `MOST_SHARE` with the ratio of the two probes' errors, and the less of it is expected the fewer
    images of a class there are.

    Args:
        probe: Of the last features.
        early: Of the features in front of the blocks to fine-tune, averaged over places; None
            where there are none, which counts as ones that are worth nothing.
        images_per_class: Images of a class, in the mean.
        seconds: What fine-tuning would take; None does not count its time.

    Returns:
        The verdict.
    """
    earlier = None if early is None else early.score
    error, early_error = (max(1 - score, 0.0) for score in (probe.score, earlier or 0.0))
    ratio = min(error / early_error, 1.0) if early_error > 0 else 1.0
    share = LEAST_SHARE + (MOST_SHARE - LEAST_SHARE) * ratio
    expected = error * share * images_per_class / (images_per_class + HALF_PER_CLASS)
    needed = min(LEAST_GAIN, LEAST_OF_ERRORS * error) + AN_HOURS_GAIN * (seconds or 0) / 3600
    time = "" if seconds is None else f" in {duration(seconds)}"
    enough = images_per_class >= FEW_PER_CLASS
    before = "" if earlier is None else f", on those before the last blocks {_points(earlier)}"
    why = (
        f"a linear layer on its features reaches {_points(probe.score)} "
        f"({_points(probe.interval[0])} to {_points(probe.interval[1])}){before}: fine-tuning may "
        f"add about {_points(expected)} points{time}, and {_points(needed)} would be worth that"
    )
    if not enough:
        why = f"{images_per_class:.0f} items of a class are too few for fine-tuning"
    return Verdict(
        enough and expected >= needed > 0,
        why,
        probe,
        earlier,
        images_per_class,
        expected,
        needed,
        seconds,
    )


def duration(seconds: float) -> str:
    """Seconds as people say them: "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _points(score: float) -> str:
    return f"{100 * score:.1f}"
