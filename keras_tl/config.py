"""Everything that decides a training run, as one value that can be written down."""

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from keras_tl.backbones.hub_handles import HUB, parted
from keras_tl.errors import InputError
from keras_tl.setting_values import CHOICES, RANGES, as_written, choice, in_utf8, within
from keras_tl.versions import versions

SCHEMA_VERSION = 1
MINILM = "MiniLM"
# Values of `weights` that are not files.
NAMED_WEIGHTS = ("imagenet", "none")
# Defaults that depend on the kind of items: False for images, True for texts.
DEFAULTS: dict[bool, dict[str, Any]] = {
    False: {
        "backbone": "EfficientNetLite0",
        "fine_tune_epochs": 12,
        "fine_tune_learning_rate": 2e-4,
        "augment": "light",
    },
    True: {
        "backbone": MINILM,
        # Devlin et al. ("BERT", NAACL 2019) try 2e-5 to 5e-5; the narrow MiniLM takes more.
        "fine_tune_learning_rate": 5e-5,
        "augment": "none",
    },
}
MINILM_RATE = 3e-4
# Values of `fine_tune` that train few weights, which take higher rates: Hu et al. (LoRA, ICLR 2022)
# and Ben-Zaken et al. (BitFit, ACL 2022) use about ten times those of a whole fine-tuning.
FEW_WEIGHTS = ("lora", "bitfit")
FEW_WEIGHTS_RATE = 1e-3
# Settings only for images, with the values they must keep for texts.
FOR_IMAGES = {
    "augment": "none",
    "cutmix": 0.0,
    "image_size": None,
    "resize": "squash",
    "views": None,
}
# Values of `augment` that fix the number of views.
COUNTED_VIEWS = ("none", "dihedral")
# Settings only for texts, with the values they must keep for images.
FOR_TEXTS = {
    "max_tokens": 128,
    "windows": None,
    "truncate": "auto",
    "markup": "auto",
    "bag_of_words": None,
    "pooling": "auto",
    "id_column": None,
    "encoding": "utf-8",
}
# Settings only for classes, with the values they must keep for a regression.
FOR_CLASSES = {
    "label_smoothing": 0.0,
    "focal_gamma": 0.0,
    "cutmix": 0.0,
    "sampling": "shuffled",
    "class_weights": False,
    "class_weight_beta": None,
}


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one run; the options of `keras-tl train` have the same names.

    Attributes:
        data: A folder of class folders (perhaps below train, val, test), a CSV file, or
            "tfds:NAME"; of texts a CSV, TSV or JSON lines file, or such a folder.
        out: The run's folder.
        backbone: A name in the backbone registry, or "hub:" and a TF-Hub handle; for texts an
            encoder, see `keras_tl.backbones.encoders.load_encoder`. None takes
            EfficientNetLite0, for texts MiniLM.
        weights: "imagenet", "none", or a weights file; for texts "imagenet" (whatever the encoder
            was trained on) or "none", from which all blocks train at the head's rate, for its
            epochs and, unless `fine_tune` is "none", those of the fine-tuning. A module of TF-Hub
            has its own.
        image_size: Height and width in pixels; None takes the backbone's own.
        resize: "squash", "crop", "pad" or "shorter-crop".
        task: "auto", "single-label", "multi-label" or "regression".
        epochs: Epochs of the new head alone.
        learning_rate: The head's highest learning rate.
        plan: "auto" (the head, then what `fine_tune` says), "feature-extraction", "full", "lp-ft"
            or "gradual"; see `keras_tl.plans`.
        fine_tune: "none", "all", the number of blocks that train, or "auto", which trains the
            last third of them (of texts two thirds) where a probe of the frozen backbone's
            features says that this is worth its price, from 100 training items on (without
            `feature_cache`: by their number).
            "lora" trains low-rank adapters, "bitfit" the biases; see `keras_tl.freezing`.
        lora_rank: Rank of the adapters of `fine_tune="lora"`.
        fine_tune_epochs: Epochs of the fine-tuning; None takes 12, for texts 3 to 24, so that about
            16,000 windows are seen in all.
        fine_tune_learning_rate: Its highest learning rate; None takes 2e-4, for texts 3e-4 with
            MiniLM and 5e-5 with others, and 1e-3 for "lora" and "bitfit".
        optimizer: "adamw", "adam", "sgd" or "rmsprop".
        schedule: "constant", "step", "cosine" or "one-cycle".
        layer_decay: What the rate is multiplied by from the head to the block before it, and so
            on to the stem.
        weight_decay: Decoupled weight decay.
        l2_sp: Strength of the pull of pretrained weights to where they started, instead of
            weight decay; 0 has none.
        averaging: Which mean of the weights a phase ends with: "none", "ema" or "swa".
        label_smoothing: Share of each class target spread over all classes.
        dropout: Dropout before the last layer.
        patience: Epochs without a lower validation loss before a phase stops; None never stops.
        focal_gamma: Gamma of the focal loss; 0 is plain cross-entropy.
        mixup: Alpha of mixup, which blends samples of a batch; 0 blends none.
        cutmix: Share of the views into which a box of another image is pasted.
        augment: "none", "light", "strong", "dihedral", "randaugment" or "trivial"; None takes
            "light", for texts "none".
        sampling: "shuffled" shows each image once in an epoch, "balanced" all classes equally
            often.
        head_start: "fitted" lets a head that is trained alone on few items start at a logistic
            (for numbers, a ridge) regression on its features, "given" at random weights; see
            `keras_tl.training.head_start`.
        batch_size: Images in a batch, over all devices.
        micro_batches: Number of parts in which a device computes its batch, to save memory; the
            update is that of the whole batch. None takes 1; for texts in several windows, at least
            the number of windows, so that they need no more memory than one.
        clip_norm: The norm that each weight's gradient is clipped to; None does not clip.
        val_fraction: Share of the images that choose the best epoch.
        test_fraction: Share of the images that the final figures are measured on.
        class_weights: Whether rare classes count more, so that all classes count the same.
        class_weight_beta: Makes them count more, but less so: by the effective number of their
            images, with this beta (0.99 to 0.9999).
        seed: Decides splits, order, augmentation, initial weights and dropout.
        precision: "float32", "mixed_bfloat16" or "mixed_float16", of what trains. On a CPU what is
            frozen is computed in float32.
        path_column: CSV: the column of image paths.
        text_column: CSV: the column of texts, or several separated by commas. A run that names one
            is a run of texts; others are of images.
        pair: Whether two columns of texts are a pair, which the encoder tells apart, rather than
            one text with the first above the second.
        max_tokens: Tokens of a text that are read, in each window.
        windows: Maximum number of windows a long text is cut into, and averaged over. None takes
            enough to read four fifths of the texts whole, but at most 4, and no more than the
            16,000 windows of `fine_tune_epochs` allow for three epochs; with a module of TF-Hub,
            and where texts are read in a stream, 1.
        truncate: What is read of a text that is longer than all windows: "head", its beginning,
            or "head-tail", as much of its beginning as of its end. "auto" takes "head-tail"; with
            a module of TF-Hub "head", since its preprocessor cuts.
        markup: Whether HTML tags in texts are read: "keep" reads them, "drop" does not. "auto"
            drops them where at least one text in a hundred has some; with a module of TF-Hub, and
            where texts are read in a stream, it keeps them.
        bag_of_words: Number of buckets for the word counts of whole texts, which join an encoder's
            features (`keras_tl.backbones.bag_of_words`); 0 counts none. None is 4096; with a module
            of TF-Hub 0.
        pooling: How an encoder's tokens become one vector of a text: "mean", "cls", or "layers",
            the means of what each block gives, side by side. "auto" takes "layers"; with a module
            of TF-Hub what that gives.
        id_column: Texts: a table's column of ids; None names the lines.
        encoding: Texts: the encoding of their files.
        label_column: CSV: the column of labels; several, separated by commas, are targets.
        split_column: CSV: the column of splits.
        group_column: CSV: the column of groups that are never divided between splits.
        max_bad_fraction: The share of unreadable images from which a run does not start.
        views: How many views of each image there are with a random `augment`; None takes 4 with
            "light" and 8 with the others. Epoch e shows view e modulo this.
        feature_cache: Whether the frozen part of the model is computed once and stored.
        feature_dtype: What is stored: "float16", "float32" for every bit, or "auto", which is
            float16 where that moves the loss by less than a thousandth.
        engine: What computes it: "auto" (the fastest that agrees with Keras) or "tensorflow".
        deterministic: Whether two runs on one machine give the same bits, even if one was stopped
            and resumed. It is slower; `engine` is then "tensorflow". It stays on for the rest of
            the process, since TensorFlow has no call to switch it off.
        tensorboard: Whether to write TensorBoard logs.
        audit: Whether the images are looked through before they are divided, so that
            near-duplicates stay together, and what is wrong with them is said.
        strict: Whether a serious finding stops the run before it trains.
        baseline: Whether a small network is trained from scratch on the same images, to tell
            what transfer was worth. Texts are always measured beside TF-IDF with a linear model.
    """

    data: str
    out: str
    backbone: str | None = None
    weights: str = "imagenet"
    image_size: int | None = None
    resize: str = "squash"
    task: str = "auto"
    epochs: int = 30
    learning_rate: float = 2e-3
    plan: str = "auto"
    fine_tune: str | int = "auto"
    lora_rank: int = 8
    fine_tune_epochs: int | None = None
    fine_tune_learning_rate: float | None = None
    optimizer: str = "adamw"
    schedule: str = "cosine"
    layer_decay: float = 1.0
    weight_decay: float = 1e-4
    l2_sp: float = 0.0
    averaging: str = "none"
    label_smoothing: float = 0.0
    dropout: float = 0.2
    patience: int | None = None
    focal_gamma: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    augment: str | None = None
    sampling: str = "shuffled"
    head_start: str = "fitted"
    batch_size: int = 32
    micro_batches: int | None = None
    clip_norm: float | None = None
    val_fraction: float = 0.15
    test_fraction: float = 0.15
    class_weights: bool = False
    class_weight_beta: float | None = None
    seed: int = 0
    precision: str = "float32"
    path_column: str = "path"
    text_column: str | None = None
    pair: bool = False
    max_tokens: int = 128
    windows: int | None = None
    truncate: str = "auto"
    markup: str = "auto"
    bag_of_words: int | None = None
    pooling: str = "auto"
    id_column: str | None = None
    encoding: str = "utf-8"
    label_column: str = "label"
    split_column: str = "split"
    group_column: str | None = None
    max_bad_fraction: float = 0.1
    views: int | None = None
    feature_cache: bool = True
    feature_dtype: str = "auto"
    engine: str = "auto"
    deterministic: bool = False
    tensorboard: bool = False
    audit: bool = True
    strict: bool = False
    baseline: bool = False

    def __post_init__(self) -> None:
        """Fills in what is left out; refuses what is known to be wrong before any work is done."""
        for name in asdict(self):
            value = as_written(getattr(self, name))
            object.__setattr__(self, name, value)
            if isinstance(value, str):
                in_utf8(name, value)
        for name in DEFAULTS[self.has_texts]:
            if getattr(self, name) is None:
                object.__setattr__(self, name, self._left_out(name))
        if self.deterministic and self.engine == "auto":
            # "auto" picks by timing, and no two engines agree to the last bit.
            object.__setattr__(self, "engine", "tensorflow")
        self._check_kind()
        for name, choices in CHOICES.items():
            choice(name, getattr(self, name), choices)
        for name, allowed in RANGES.items():
            within(name, getattr(self, name), allowed)
        fine_tune = self.fine_tune
        if isinstance(fine_tune, str) and fine_tune.isdecimal():
            object.__setattr__(self, "fine_tune", int(fine_tune))
        elif isinstance(fine_tune, str):
            known = ("auto", "all", "none", *FEW_WEIGHTS)
            choice("fine_tune", fine_tune, known, "or a number of blocks")
        self._settle_plan()
        self._check_companions()
        self.check_task(self.task)
        if self.has_texts and self.mixup and (self.fine_tune == "all" or self.weights == "none"):
            fix = "Fine-tune a number of blocks, or leave mixup out: token ids cannot be blended."
            raise InputError("an encoder that stays frozen in part for mixup", "all trained", fix)

    def _left_out(self, name: str) -> Any:
        """The default of a setting in `DEFAULTS`."""
        if name == "fine_tune_learning_rate":
            if self.fine_tune in FEW_WEIGHTS:
                return FEW_WEIGHTS_RATE
            if self.has_texts and (self.backbone or "").lower() == MINILM.lower():
                return MINILM_RATE
        return DEFAULTS[self.has_texts].get(name)

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of a CSV, as `keras_tl.data.open.open_data` takes them."""
        names = ["path_column", "label_column", "split_column", "group_column"]
        names += ["text_column", "pair", "id_column", "encoding"] if self.has_texts else []
        return {name: getattr(self, name) for name in names}

    @property
    def item_columns(self) -> dict[str, Any]:
        """Those of `columns` that say what an item is, not its label, split, group or id."""
        names = ("text_column", "pair", "encoding") if self.has_texts else ("path_column",)
        return {name: getattr(self, name) for name in names}

    @property
    def has_texts(self) -> bool:
        """Whether the run is one of texts."""
        return self.text_column is not None

    @property
    def is_of_hub(self) -> bool:
        """Whether the backbone is a module of TF-Hub."""
        return (self.backbone or "").startswith(HUB)

    @property
    def handle(self) -> str:
        """The name of the backbone without the prefix of TF-Hub."""
        return (self.backbone or "").removeprefix(HUB)

    def _check_kind(self) -> None:
        """Refuses settings of images for texts, and the other way round."""
        if self.pair and len((self.text_column or "").split(",")) != 2:
            fix = "Give --text-column TITLE,BODY."
            raise InputError("two text columns for a pair", repr(self.text_column), fix)
        if self.has_texts:
            self._refuse(FOR_IMAGES, "texts", "Leave it out.")
        else:
            fix = "Name the texts with --text-column, or leave it out."
            self._refuse(FOR_TEXTS, "images", fix)
        if self.is_of_hub:
            fix = "Leave it out: a module comes with its weights."
            self._refuse({"weights": "imagenet"}, "a module of TF-Hub", fix)
        elif self.has_texts:
            choice("weights of a text encoder", self.weights, NAMED_WEIGHTS)

    def _check_companions(self) -> None:
        """Refuses settings that make no sense beside the others."""
        if self.fine_tune != "lora":
            fix = "Take fine_tune=lora, or leave it out."
            self._refuse({"lora_rank": 8}, f"fine_tune={self.fine_tune}", fix)
        if self.class_weight_beta is not None:
            self._refuse({"class_weights": False}, "a class_weight_beta", "Leave one of them out.")
        if self.sampling == "balanced":
            fix = "Leave one of them out: rare classes would be favoured twice."
            weighed = {"class_weights": False, "class_weight_beta": None}
            self._refuse(weighed, "sampling='balanced'", fix)
        if self.augment in COUNTED_VIEWS and not self.cutmix:
            fix = "Leave it out: how many views there are is known."
            self._refuse({"views": None}, f"augment={self.augment}", fix)

    def check_task(self, task: str) -> None:
        """Refuses settings that a task has no use for.

        Args:
            task: "single-label", "multi-label" or "regression", as the data are.

        Raises:
            InputError: It is a regression, and a setting is one of classes.
        """
        if task == "regression":
            self._refuse(FOR_CLASSES, "a regression", "Leave it out: it is for classes.")

    def _refuse(self, others: dict[str, Any], what: str, fix: str) -> None:
        """Refuses settings that mean nothing for `what`, unless they have these values."""
        for name, value in others.items():
            if getattr(self, name) != value:
                received = f"{name}={getattr(self, name)!r} with {what}"
                raise InputError(f"settings for {what}", received, fix)

    def _settle_plan(self) -> None:
        """Sets `fine_tune` to what a named plan trains; unless "auto", it must agree already."""
        if self.plan == "auto":
            return
        says = "none" if self.plan == "feature-extraction" else "all"
        blocks = self.plan == "gradual" and isinstance(self.fine_tune, int) and self.fine_tune
        if self.fine_tune not in ("auto", says) and not blocks:
            raise InputError(
                f"a fine_tune that plan {self.plan} can have",
                repr(self.fine_tune),
                f"Leave it out: it is {says!r}.",
            )
        if not blocks:
            object.__setattr__(self, "fine_tune", says)

    def with_absolute_paths(self) -> "TrainConfig":
        """The same settings for another working directory."""
        # keras_tl's own names are not files, whatever is in the working directory.
        weights = self.weights if self.weights in NAMED_WEIGHTS else _absolute(self.weights)
        backbone = self.backbone or ""
        if self.is_of_hub:
            handles = parted(self.handle)
            backbone = HUB + "+".join(_absolute(handle) for handle in handles if handle)
        elif self.has_texts and backbone.lower() != MINILM.lower():
            backbone = _absolute(backbone)
        return replace(self, data=_absolute(self.data), weights=weights, backbone=backbone)

    def to_yaml(self) -> str:
        """Returns the settings, the schema's version and those of the packages as YAML."""
        facts = {"schema_version": SCHEMA_VERSION, **asdict(self), "versions": versions()}
        return yaml.safe_dump(facts, sort_keys=False, allow_unicode=True)


def _absolute(name: str) -> str:
    """The absolute path if `name` is an existing file or folder, else `name`."""
    return str(Path(name).absolute()) if name and os.path.exists(name) else name
