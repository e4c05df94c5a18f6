"""Learning rates for a run before it is run: what `keras-tl lr-find` does."""

import tensorflow as tf

from keras_tl import strategies
from keras_tl.agreement import check_data, check_settings
from keras_tl.config import TrainConfig
from keras_tl.data.source import Source
from keras_tl.errors import InputError
from keras_tl.feature_cache import FeatureStore
from keras_tl.preparing import (
    build_model,
    keras_settings,
    plan_for,
    prepare_data,
    training_options,
)
from keras_tl.training.fit import run_phases
from keras_tl.training.lr_finder import LearningRates, check_sweep, find_learning_rate
from keras_tl.workers import Workers


def find_rates(
    config: TrainConfig,
    *,
    fine_tuning: bool = False,
    steps: int = 100,
    source: Source | None = None,
    place: strategies.Place | None = None,
    verbose: int = 1,
) -> list[LearningRates]:
    """Sweeps the rate of a run's first phase, and on request that of its second.

    The data are opened, divided, augmented and stored as `train` does it with the same settings.

    Args:
        config: The settings; `out` is not written to.
        fine_tuning: Whether to train the first phase too, and to sweep the one after it.
        steps: Steps of each sweep.
        source: The images or texts, where they are already opened; else `config.data` is.
        place: Where to train, see `keras_tl.strategies.choose`. Several processes share the steps,
            and all find the same; all need the data.
        verbose: As in Keras' `fit`: 0 is silent, 1 shows bars, 2 a line an epoch.

    Returns:
        A sweep for each phase.

    Raises:
        InputError: The data cannot be used, or there is no second phase.
        LostWorkerError: Another process is gone.
    """
    check_sweep(steps)
    strategy = strategies.choose(place)
    workers = Workers(strategy)
    with keras_settings(config), workers.losses_told(), workers.chief_speaks():
        return _find(config, fine_tuning, steps, source, workers, strategy, verbose)


def _find(
    config: TrainConfig,
    fine_tuning: bool,
    steps: int,
    source: Source | None,
    workers: Workers,
    strategy: tf.distribute.Strategy,
    verbose: int,
) -> list[LearningRates]:
    check_settings(workers, config, fine_tuning=fine_tuning, steps=steps)
    data = prepare_data(config, source)
    check_data(workers, data.source)
    with strategy.scope():
        model = build_model(config, data)
    phases = plan_for(model, data, config)
    if fine_tuning and len(phases) == 1:
        named = config.plan != "auto"
        fix = "Take another --plan." if named else "Give --fine-tune all or a number."
        raise InputError("a plan with a phase behind the head's", "one phase", fix)
    options = training_options(config, data) | {"strategy": strategy, "feature_store": False}
    if config.feature_cache:
        options["feature_store"] = FeatureStore(dtype=config.feature_dtype)
    sweep = {"steps": steps, "verbose": int(verbose == 1), **options}
    found = [find_learning_rate(model, phases[0], data.train, **sweep)]
    if fine_tuning:
        run_phases(model, phases[:1], data.train, data.val, verbose=verbose, **options)
        found.append(find_learning_rate(model, phases[1], data.train, **sweep))
    return found
