"""Settings of a comparison of backbones."""

from dataclasses import dataclass, fields

from keras_tl.config import TrainConfig
from keras_tl.errors import InputError
from keras_tl.setting_values import Range, as_written, within

# Default backbones to compare, for images and for texts.
BACKBONES = {
    False: "EfficientNetLite0,MobileNetV2,EfficientNetV2B0,ResNet50V2,ConvNeXtTiny",
    True: "MiniLM,keras_hub:bert_small_en_uncased,keras_hub:distil_bert_base_en_uncased",
}


@dataclass(frozen=True)
class CompareConfig:
    """Settings of a comparison; the options of `keras-tl compare` have the same names.

    Settings that decide pixels and splits have the defaults of `TrainConfig`, so that a later
    training reuses what a comparison has stored.

    Attributes:
        data: See `TrainConfig`.
        backbones: Names in the backbone registry, for texts encoders, separated by commas; None
            takes `BACKBONES`.
        weights: "imagenet", "none", or a weights file of the one backbone.
        image_size: Height and width in pixels; None takes each backbone's own.
        resize: See `TrainConfig`.
        task: See `TrainConfig`.
        augment: See `TrainConfig`; the first view of each training image is looked at.
        val_fraction: See `TrainConfig`.
        test_fraction: See `TrainConfig`; the test split is not looked at.
        folds: Folds of the cross-validation.
        images: Maximum number of images looked at.
        few_shot: Whether to measure probes of a few images of each class too.
        shots: How many of each class, several numbers separated by commas.
        seeds: Seeds of the choice of these images, separated by commas.
        seed: Decides splits and folds.
        engine: See `TrainConfig`.
        feature_dtype: See `TrainConfig`.
        max_bad_fraction: See `TrainConfig`.
        path_column: See `TrainConfig`.
        text_column: See `TrainConfig`.
        pair: See `TrainConfig`.
        max_tokens: See `TrainConfig`.
        windows: See `TrainConfig`.
        truncate: See `TrainConfig`.
        markup: See `TrainConfig`.
        id_column: See `TrainConfig`.
        encoding: See `TrainConfig`.
        label_column: See `TrainConfig`.
        split_column: See `TrainConfig`.
        group_column: See `TrainConfig`.
        audit: See `TrainConfig`.
        out: A JSON file for all figures; None writes none.
    """

    data: str
    backbones: str | None = None
    weights: str = "imagenet"
    image_size: int | None = None
    resize: str = "squash"
    task: str = "auto"
    augment: str | None = None
    val_fraction: float = 0.15
    test_fraction: float = 0.15
    folds: int = 5
    images: int = 5000
    few_shot: bool = False
    shots: str = "1,5,10,25"
    seeds: str = "0,1,2"
    seed: int = 0
    engine: str = "auto"
    feature_dtype: str = "auto"
    max_bad_fraction: float = 0.1
    path_column: str = "path"
    text_column: str | None = None
    pair: bool = False
    max_tokens: int = 128
    windows: int | None = None
    truncate: str = "auto"
    markup: str = "auto"
    id_column: str | None = None
    encoding: str = "utf-8"
    label_column: str = "label"
    split_column: str = "split"
    group_column: str | None = None
    audit: bool = True
    out: str | None = None

    def __post_init__(self) -> None:
        """Fills in what is left out; refuses what is known to be wrong before any work is done."""
        for field in fields(self):
            object.__setattr__(self, field.name, as_written(getattr(self, field.name)))
        has_texts = self.training("").has_texts
        if self.backbones is None:
            object.__setattr__(self, "backbones", BACKBONES[has_texts])
        for name in ("folds", "images"):
            within(name, getattr(self, name), Range(2, 10**6))
        for name, low in (("shots", 1), ("seeds", 0)):
            if not self.few_shot and getattr(self, name) != getattr(type(self), name):
                fix = "Add --few-shot, or leave it out."
                raise InputError(f"few_shot for {name}", repr(getattr(self, name)), fix)
            words = getattr(self, name).split(",")
            if not all(word.strip().isdecimal() and int(word) >= low for word in words):
                raise InputError(
                    f"{name} of at least {low}, separated by commas",
                    repr(getattr(self, name)),
                    "Mend the value.",
                )

    def training(self, backbone: str) -> TrainConfig:
        """The settings of a run with one of the backbones."""
        names = {field.name for field in fields(TrainConfig)} & {f.name for f in fields(self)}
        shared = {name: getattr(self, name) for name in names - {"out"}}
        return TrainConfig(**shared, out="", backbone=backbone)
