"""What a model sees of a photograph: size, way of resizing, version of the decoder."""

from dataclasses import dataclass

from keras_tl.errors import InputError, did_you_mean

RESIZE_MODES = ("squash", "crop", "pad", "shorter-crop")

# Raised whenever the same file would be decoded or resized to other numbers.
DECODER_VERSION = 4


@dataclass(frozen=True)
class ImageInput:
    """How image files become the uint8 pixels that a model is fed.

    One value of this is shared by training, evaluation, prediction and the exported model.

    Attributes:
        size: Height and width of the model's input, in pixels, at least 1.
        resize: How the picture is brought to that size:
            "squash": both sides to `size`; nothing is lost, proportions are;
            "crop": the largest centred square, then to `size`;
            "pad": the whole picture in its proportions, centred on white (the colour that
            transparency is put on, so that a cut-out object has one background);
            "shorter-crop": the centred square of 7/8 of the shorter side. That is the usual
            ImageNet evaluation at any size: the shorter side to 256, the centre 224 of it.
        antialias: Whether shrinking averages over all the pixels it skips (as PIL does). Without
            it, shrinking is faster but noisier (as TensorFlow's default does).
        max_pixels: Images with more pixels are refused before they are decoded.
        decoder_version: The version of the decoder that these settings were made for.

    Raises:
        InputError: A setting is out of range.
    """

    size: int = 224
    resize: str = "squash"
    antialias: bool = True
    max_pixels: int = 100_000_000
    decoder_version: int = DECODER_VERSION

    def __post_init__(self) -> None:
        if self.size < 1:
            raise InputError("an image size of at least 1 pixel", repr(self.size), "Try 224.")
        if self.resize not in RESIZE_MODES:
            hint = did_you_mean(
                str(self.resize), RESIZE_MODES, f"Choose one of {', '.join(RESIZE_MODES)}."
            )
            raise InputError("a way of resizing", repr(self.resize), hint)
        if self.max_pixels < 1:
            raise InputError("max_pixels of at least 1", repr(self.max_pixels), "Leave it out.")
        if self.decoder_version != DECODER_VERSION:
            raise InputError(
                f"decoder version {DECODER_VERSION}",
                repr(self.decoder_version),
                "The model was made with another version of keras_tl: use that one.",
            )
