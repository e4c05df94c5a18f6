"""From settings to phases."""

import logging

from keras_tl import freezing
from keras_tl.backbones import registry
from keras_tl.config import TrainConfig
from keras_tl.errors import InputError
from keras_tl.training.phases import Phase
from keras_tl.training.schedules import SCHEDULES

# Below so many training images a fine-tuned backbone mostly learns them by heart.
FEW_IMAGES = 100
# The share of a backbone's blocks that "auto" trains: late blocks hold what is specific to
# ImageNet (Yosinski et al., "How transferable are features in deep neural networks?", 2014).
AUTO_SHARE = 1 / 3

log = logging.getLogger("keras_tl")


def make_plan(config: TrainConfig, images: int) -> list[Phase]:
    """Turns a configuration into phases: the head first, then perhaps a part of the backbone.

    A head with random weights would send large gradients into the pretrained layers, so it is
    trained alone first (Kumar et al., "Fine-Tuning can Distort Pretrained Features", ICLR 2022).
    From random weights there is nothing to keep: everything trains, in one phase, with
    BatchNormalization learning its statistics. With "auto", what comes after the head is what
    fine-tuning would be; whether it is to be, `keras_tl.probing` decides on the head's features.

    Args:
        config: The settings.
        images: How many images there are to train on.

    Returns:
        The phases, in order.

    Raises:
        InputError: No phase would train anything.
    """
    if config.weights == "none":
        policy = freezing.Nothing(batch_norm="trained")
        epochs = config.epochs + config.fine_tune_epochs
        return [_phase(config, "from scratch", policy, epochs, config.learning_rate)]
    phases = []
    if config.epochs:
        phases.append(head_phase(config))
    policy_or_none = _fine_tuning_policy(config, images)
    if policy_or_none and config.fine_tune_epochs:
        phases.append(fine_tuning_phase(config, policy_or_none))
    if not phases:
        raise InputError("something to train", "0 epochs", "Give --epochs of 1 or more.")
    return phases


def head_phase(config: TrainConfig) -> Phase:
    """The phase in which the head trains alone."""
    return _phase(config, "head", freezing.All(), config.epochs, config.learning_rate)


def fine_tuning_phase(config: TrainConfig, policy: freezing.Policy | None = None) -> Phase:
    """The phase after it.

    Args:
        config: The settings.
        policy: What is frozen; None is what "auto" freezes.
    """
    rate = config.fine_tune_learning_rate
    policy = policy or _all_but_a_third(config)
    return _phase(config, "fine-tuning", policy, config.fine_tune_epochs, rate)


def _fine_tuning_policy(config: TrainConfig, images: int) -> freezing.Policy | None:
    if config.fine_tune == "none":
        return None
    if config.fine_tune == "all":
        return freezing.Nothing()
    if isinstance(config.fine_tune, int):
        return freezing.AllButLast(config.fine_tune) if config.fine_tune else None
    if images < FEW_IMAGES:
        log.info("No fine-tuning: %d training images are too few for it", images)
        return None
    return _all_but_a_third(config)


def _all_but_a_third(config: TrainConfig) -> freezing.Policy:
    blocks = len(registry.get(config.backbone).blocks)
    return freezing.AllButLast(max(round(AUTO_SHARE * blocks), 1))


def _phase(
    config: TrainConfig, name: str, policy: freezing.Policy, epochs: int, rate: float
) -> Phase:
    return Phase(
        policy,
        epochs,
        rate,
        schedule=SCHEDULES[config.schedule](),
        optimizer=config.optimizer,
        weight_decay=config.weight_decay,
        label_smoothing=config.label_smoothing,
        patience=config.patience,
        name=name,
    )
