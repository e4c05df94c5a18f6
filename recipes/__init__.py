"""Recipes: flat scripts, each a real job end to end."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from keras_tl.config import TrainConfig


def write_table(config: "TrainConfig", cells: "pd.DataFrame") -> None:
    """Writes the data of a run, once its folder is known to be free for it."""
    from keras_tl.agreement import refused_together
    from keras_tl.files import atomic_write_text, csv_text
    from keras_tl.place_options import processes
    from keras_tl.runs import Run

    with processes().results_in(config.out) as folder, refused_together(processes()):
        Run(folder).check_free()
    atomic_write_text(config.data, csv_text(cells))


def is_finished(config: "TrainConfig") -> bool:
    """Whether a run with these settings came to its end in the chief's folder."""
    from keras_tl.place_options import processes
    from keras_tl.runs import Run

    return bool(processes().share(Run(config.out).is_of(config)))
