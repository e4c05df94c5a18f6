"""Named plans, and the phases that settings describe.

    phases = keras_tl.plans.lp_ft(epochs=12, layer_decay=0.8)
    keras_tl.run_phases(model, phases, train, val)

Every plan takes further attributes of `Phase`, which each of its phases gets.
"""

from collections.abc import Sequence
from typing import Any

import keras

from keras_tl import freezing
from keras_tl.backbones import registry
from keras_tl.config import TrainConfig
from keras_tl.errors import InputError
from keras_tl.training.anchors import L2SP
from keras_tl.training.averaging import AVERAGING
from keras_tl.training.phases import Phase
from keras_tl.training.schedules import SCHEDULES

# With fewer training images than this, a fine-tuned backbone mostly memorises them.
FEW_IMAGES = 100
# The share of a backbone's blocks that "auto" trains: late blocks hold what is specific to
# ImageNet (Yosinski et al., "How transferable are features in deep neural networks?", 2014). For a
# text encoder, all but the first third: it is shallow, and its pretraining task is further away.
AUTO_SHARE, AUTO_SHARE_OF_TEXTS = 1 / 3, 2 / 3
# Default fine-tuning on texts: about this many windows are seen in all, in 3 to 24 epochs.
WINDOWS_SEEN, TEXT_EPOCHS = 16_000, (3, 24)


def feature_extraction(
    epochs: int = 30, learning_rate: float = 2e-3, **settings: Any
) -> list[Phase]:
    """The backbone stays frozen, the head trains. `keras-tl compare` says when this is enough.

    Args:
        epochs: Epochs, at least 1.
        learning_rate: The highest rate.
        **settings: Further attributes of the phase.

    Returns:
        One phase.
    """
    return [Phase(freezing.All(), epochs, learning_rate, name="head", **settings)]


def full(epochs: int = 12, learning_rate: float = 2e-4, **settings: Any) -> list[Phase]:
    """Everything trains from the first step, the new head beside the pretrained weights.

    The head's first gradients come from random weights and pull at the pretrained ones: `lp_ft`
    is mostly the better plan. This plan is there to compare it with.

    Args:
        epochs: Epochs, at least 1.
        learning_rate: The highest rate.
        **settings: Further attributes of the phase.

    Returns:
        One phase.
    """
    return [Phase(freezing.Nothing(), epochs, learning_rate, name="everything", **settings)]


def lp_ft(
    head_epochs: int = 30,
    head_learning_rate: float = 2e-3,
    epochs: int = 12,
    learning_rate: float = 2e-4,
    **settings: Any,
) -> list[Phase]:
    """A linear probe until it has converged, then everything at a low rate.

    Reference: Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform
    Out-of-Distribution", ICLR 2022.

    Args:
        head_epochs: Epochs of the head alone: enough for its loss to stop falling.
        head_learning_rate: Its highest rate.
        epochs: Epochs in which everything trains.
        learning_rate: Their highest rate.
        **settings: Further attributes of both phases.

    Returns:
        Two phases.
    """
    head = feature_extraction(head_epochs, head_learning_rate, **settings)
    return head + full(epochs, learning_rate, **settings)


def gradual(
    backbone: str | int,
    head_epochs: int = 30,
    head_learning_rate: float = 2e-3,
    epochs: int = 12,
    learning_rate: float = 2e-4,
    *,
    blocks: int | None = None,
    groups: int = 3,
    **settings: Any,
) -> list[Phase]:
    """The head first, then one more group of blocks with each phase, from the last to the first.

    Reference: Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification",
    ACL 2018, section 3.3; they lower the rate from layer to layer too: `layer_decay`.

    Args:
        backbone: The backbone's name in the registry, or how many blocks it has.
        head_epochs: Epochs of the head alone.
        head_learning_rate: Its highest rate.
        epochs: Epochs of all later phases together; a remainder goes to the last.
        learning_rate: The highest rate of each of these.
        blocks: How many blocks train in the end; None trains everything, the stem too.
        groups: How many phases these blocks are added in, at most one for each epoch and block.
        **settings: Further attributes of each phase.

    Returns:
        One phase for the head and one for each group.

    Raises:
        InputError: More blocks than the backbone has, or no group.
    """
    count = backbone if isinstance(backbone, int) else len(registry.get(backbone).blocks)
    deepest = count if blocks is None else blocks
    groups = min(groups, epochs, deepest)
    if groups < 1 or deepest > count:
        raise InputError(
            f"1 to {count} blocks, an epoch and a group at least",
            f"blocks={blocks}, epochs={epochs}, groups={groups}",
            "Give fewer blocks, or more epochs.",
        )
    phases = feature_extraction(head_epochs, head_learning_rate, **settings)
    for group in range(1, groups + 1):
        trained = round(deepest * group / groups)
        share = epochs // groups + (epochs % groups if group == groups else 0)
        policy, name = freezing.AllButLast(trained), f"last {trained} blocks"
        if group == groups and blocks is None:
            phases += full(share, learning_rate, **settings)
        else:
            phases.append(Phase(policy, share, learning_rate, name=name, **settings))
    return phases


def make_plan(
    config: TrainConfig, images: int, blocks: int | None = None, windows: int = 1
) -> list[Phase]:
    """Turns a configuration into phases: the head first, then perhaps a part of the backbone.

    A head with random weights would send large gradients into the pretrained layers, so it is
    trained alone first (Kumar et al., "Fine-Tuning can Distort Pretrained Features", ICLR 2022).
    From random weights there is nothing to keep: everything trains, in one phase, with
    BatchNormalization learning its statistics. With "auto", the phase after the head is what a
    fine-tuning would be; `keras_tl.probing` decides by the head's features whether it takes place.

    With a named `plan`, the phases are those of that plan.

    Args:
        config: The settings.
        images: How many images or texts there are to train on.
        blocks: How many blocks the backbone has, see `freezing.block_count`; None looks it up in
            the registry.
        windows: Windows of a text.

    Returns:
        The phases, in order.

    Raises:
        InputError: No phase would train anything, or there are no weights to plan for.
    """
    some = config.fine_tune not in ("auto", "all", "none", 0)
    if config.weights == "none" and (config.plan != "auto" or config.l2_sp or some):
        given = f"plan={config.plan}, l2_sp={config.l2_sp:g}, fine_tune={config.fine_tune}"
        raise InputError("pretrained weights", f"none, with {given}", "Leave these out.")
    if config.plan != "auto":
        return _named_plan(config, images * windows, blocks)
    if config.weights == "none":
        policy = freezing.Nothing(batch_norm="trained")
        epochs = config.epochs
        if config.fine_tune not in ("none", 0):
            epochs += _tuning(config, images * windows)[0]
        return [_phase(config, "from scratch", policy, epochs, config.learning_rate)]
    phases = []
    if config.epochs:
        phases.append(head_phase(config))
    policy_or_none = _fine_tuning_policy(config, images, blocks)
    if policy_or_none and config.fine_tune_epochs != 0:
        phases.append(fine_tuning_phase(config, policy_or_none, items=images * windows))
    if not phases:
        raise InputError("something to train", "0 epochs", "Give --epochs of 1 or more.")
    return phases


def check_plan(phases: Sequence[Phase], model: keras.Model) -> None:
    """Refuses phases whose policies do not fit a model; sets no flag.

    Raises:
        InputError: More blocks than there are, a name that no layer has, or nothing to train.
    """
    for phase in phases:
        phase.freezing.frozen_layers(model)


def head_phase(config: TrainConfig) -> Phase:
    """The phase in which the head trains alone."""
    return _phase(config, "head", freezing.All(), config.epochs, config.learning_rate)


def fine_tuning_phase(
    config: TrainConfig,
    policy: freezing.Policy | None = None,
    blocks: int | None = None,
    items: int = WINDOWS_SEEN,
) -> Phase:
    """The phase after the head's, which fine-tunes.

    Args:
        config: The settings.
        policy: What is frozen; None is what "auto" freezes.
        blocks: See `make_plan`.
        items: How many images, or windows of texts, there are to train on.
    """
    policy = policy or _last_blocks(config, blocks)
    return _phase(config, "fine-tuning", policy, *_tuning(config, items))


def _tuning(config: TrainConfig, items: int) -> tuple[int, float]:
    """Epochs and rate of a fine-tuning; a configuration leaves only epochs of texts open."""
    epochs = config.fine_tune_epochs
    if epochs is None:
        fewest, most = TEXT_EPOCHS
        epochs = min(max(round(WINDOWS_SEEN / max(items, 1)), fewest), most)
    return epochs, config.fine_tune_learning_rate or 0.0


def _named_plan(config: TrainConfig, items: int, blocks: int | None) -> list[Phase]:
    settings = _settings(config)
    head = (config.epochs, config.learning_rate)
    tuning = _tuning(config, items)
    if config.plan == "feature-extraction":
        return feature_extraction(*head, **settings)
    if config.plan == "full":
        return full(*tuning, **settings)
    if config.plan == "lp-ft":
        return lp_ft(*head, *tuning, **settings)
    trained = config.fine_tune if isinstance(config.fine_tune, int) else None
    backbone = blocks or config.backbone or ""
    return gradual(backbone, *head, *tuning, blocks=trained, **settings)


def _fine_tuning_policy(
    config: TrainConfig, images: int, blocks: int | None
) -> freezing.Policy | None:
    if config.fine_tune == "none":
        return None
    if config.fine_tune == "all":
        return freezing.Nothing()
    if config.fine_tune == "lora":
        return freezing.LoRA(config.lora_rank)
    if config.fine_tune == "bitfit":
        return freezing.BitFit()
    if isinstance(config.fine_tune, int):
        return freezing.AllButLast(config.fine_tune) if config.fine_tune else None
    return None if images < FEW_IMAGES else _last_blocks(config, blocks)


def _last_blocks(config: TrainConfig, blocks: int | None) -> freezing.Policy:
    """What "auto" trains."""
    count = blocks or len(registry.get(config.backbone or "").blocks)
    share = AUTO_SHARE_OF_TEXTS if config.has_texts else AUTO_SHARE
    return freezing.AllButLast(max(round(share * count), 1))


def _phase(
    config: TrainConfig, name: str, policy: freezing.Policy, epochs: int, rate: float
) -> Phase:
    return Phase(policy, epochs, rate, name=name, **_settings(config))


def _settings(config: TrainConfig) -> dict[str, Any]:
    """What all phases of a run have in common."""
    settings: dict[str, Any] = {
        "schedule": SCHEDULES[config.schedule](),
        "optimizer": config.optimizer,
        "weight_decay": config.weight_decay,
        "label_smoothing": config.label_smoothing,
        "clip_norm": config.clip_norm,
        "focal_gamma": config.focal_gamma,
        "mixup": config.mixup,
        "sampling": config.sampling,
        "head_start": config.head_start,
        "patience": config.patience,
        "layer_decay": config.layer_decay,
    }
    if config.averaging != "none":
        settings["averaging"] = AVERAGING[config.averaging]()
    if config.l2_sp:
        # It replaces decay towards zero.
        settings |= {"l2_sp": L2SP(config.l2_sp), "weight_decay": 0.0}
    return settings
