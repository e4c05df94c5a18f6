"""Finished runs that nobody trained: random weights, written down as `train` does."""

from keras_tl.config import TrainConfig
from keras_tl.data.image_input import ImageInput
from keras_tl.data.text_input import TextInput
from keras_tl.export.saved_model import export_saved_model
from keras_tl.files import atomic_write_text
from keras_tl.model_info import ModelInfo
from keras_tl.runs import Run


def make_run(folder, model, info, config):
    """Writes a run's folder."""
    run = Run(folder)
    run.begin()
    atomic_write_text(run.path(Run.CONFIG), config.to_yaml())
    info.write(run.folder)
    model.save(run.path(Run.MODEL))
    export_saved_model(model, run.path(Run.SAVED_MODEL), info)
    atomic_write_text(run.path(Run.METRICS), "{}")
    return run


def image_run(folder, model, **changes):
    """A run of a model of three classes of images."""
    size = model.input_shape[1]
    info = ModelInfo(ImageInput(size=size), ("a", "b", "c"), "single-label", backbone="TinyNet")
    return make_run(folder, model, info, TrainConfig("photos", str(folder), **changes))


def text_run(folder, model, max_tokens, **changes):
    """A run of a model of two classes of texts."""
    pair = model.input.shape[1:] == (2,)
    spec = TextInput(max_tokens=max_tokens, texts=2 if pair else 1)
    info = ModelInfo(None, ("bad", "good"), "single-label", text_input=spec)
    column = "title,text" if pair else "text"
    config = TrainConfig("t.csv", str(folder), text_column=column, pair=pair, **changes)
    return make_run(folder, model, info, config)
