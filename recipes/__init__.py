"""Recipes: flat scripts, each a real job end to end."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from keras_tl.config import TrainConfig
    from keras_tl.data.source import Source
    from keras_tl.runs import Run


def write_table(config: "TrainConfig", cells: "pd.DataFrame") -> None:
    """Writes the data of a run, if it is not finished, its folder free and its backbone known."""
    from keras_tl.agreement import refused_together
    from keras_tl.backbones import registry
    from keras_tl.files import atomic_write_text, csv_text
    from keras_tl.place_options import processes
    from keras_tl.runs import Run

    if is_finished(config):
        return
    with processes().results_in(config.out) as folder, refused_together(processes()):
        Run(folder).check_free()
        registry.get(config.backbone or "")
    atomic_write_text(config.data, csv_text(cells))


def is_finished(config: "TrainConfig") -> bool:
    """Whether a run with these settings came to its end in the chief's folder."""
    from keras_tl.place_options import processes
    from keras_tl.runs import Run

    run = Run(config.out)
    return bool(processes().share(run.path(run.CONFIG).is_file() and run.is_of(config)))


def trained(config: "TrainConfig", splits: "Sequence[str]" = ("val", "test")) -> "Run":
    """Trains, unless these settings have been trained already.

    Args:
        config: The settings.
        splits: What is needed beside the train split, with every class in it; that they are there
            is known before training.

    Returns:
        The run, measured on the test split.
    """
    import numpy as np

    import keras_tl as ktl
    from keras_tl.errors import InputError
    from keras_tl.preparing import prepare_data
    from keras_tl.runs import Run

    if is_finished(config):
        return Run(config.out)
    source = prepare_data(config).source
    wanted = source.class_names if source.task == "single-label" else ("an item",)
    for split in splits:
        labels = source.split(split).labels
        found = len(np.unique(labels)) if source.task == "single-label" else min(len(labels), 1)
        if found < len(wanted):
            expected = f"{' and '.join(wanted)} in the {split} split"
            fix = "Give more data or groups, or a column `split`."
            raise InputError(expected, f"{found} of {len(wanted)}", fix)
    return ktl.train(config)


def check_out(out: str, data: str | None) -> None:
    """Refuses a folder inside the data, or one that has a model already, before any work."""
    from keras_tl.agreement import refused_together
    from keras_tl.errors import InputError
    from keras_tl.place_options import processes
    from keras_tl.runs import Run, check_outside

    with processes().results_in(out) as folder, refused_together(processes()):
        run = Run(folder)
        taken = [name for name in (run.MODEL, run.SAVED_MODEL) if run.path(name).exists()]
        if taken or (run.folder.exists() and not run.folder.is_dir()):
            received = f"{out}, which is a file" if not taken else f"{out}, which has a {taken[0]}"
            raise InputError("a folder for new results", received, "Choose another --out.")
        if data:
            check_outside(data, out)


def without_those_of(first: "Source", second: "Source") -> "Source":
    """The second one's texts without those of the first; says how many that leaves out."""
    import numpy as np

    known = set(first.items)
    new = np.flatnonzero([item not in known for item in second.items])
    if left_out := len(second) - len(new):
        print(f"{left_out} texts of the second domain are in the first too: left out")
    return second.take(new)
