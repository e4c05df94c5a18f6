import subprocess
import sys
from dataclasses import replace

import pytest

from keras_tl.backbones import registry
from keras_tl.backbones.applications import ROWS
from keras_tl.errors import InputError


def test_there_are_all_forty_applications_and_efficientnet_lite():
    expected = {"EfficientNetLite0", *(row.name for row in ROWS)}
    assert len(expected) == 41
    assert expected <= set(registry.names())
    assert registry.names() == sorted(registry.names())


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("vgg", ["VGG16", "VGG19"]),
        ("RESNET50*", ["ResNet50", "ResNet50V2"]),
        ("mobilenetv3?arge", ["MobileNetV3Large"]),
        ("nothing-like-it", []),
    ],
)
def test_names_takes_a_part_or_a_glob(pattern, expected):
    assert registry.names(pattern) == expected


@pytest.mark.parametrize("name", ["MobileNetV2", "mobilenet_v2", "MOBILENET-V2", "mobilenetv2"])
def test_get_forgives_case_and_dashes(name):
    assert registry.get(name).name == "MobileNetV2"


def test_get_suggests_near_misses():
    with pytest.raises(InputError, match=r"Did you mean .*EfficientNetB0"):
        registry.get("EficientNetB0")


def test_register_adds_a_row_once(monkeypatch):
    monkeypatch.setattr(registry, "_SPECS", dict(registry._SPECS))
    row = replace(registry.get("VGG16"), name="Mine")
    registry.register(row)
    assert registry.get("mine") is row
    with pytest.raises(InputError, match="Mine exists already"):
        registry.register(replace(row, name="MINE"))


def layer_names(name):
    spec = registry.get(name)
    return {spec.stem, spec.output, *(block.last for block in spec.blocks), "preprocessing"}


def test_recognise_takes_the_row_with_most_blocks():
    for name in ("ResNet50V2", "EfficientNetLite0", "MobileNetV3Large", "VGG16", "ConvNeXtBase"):
        assert registry.recognise(layer_names(name)).name == name
    # B0 has the landmarks of Lite0, but its preprocessing is its own.
    b0 = layer_names("EfficientNetB0") - {"preprocessing"}
    assert registry.recognise(b0).name == "EfficientNetB0"
    assert registry.recognise(layer_names("ResNet101")).name == "ResNet101"
    assert registry.recognise(layer_names("ResNet50")).name == "ResNet50"
    assert registry.recognise(layer_names("ResNet50") - {"conv3_block2_out"}) is None


def test_recognise_takes_the_row_of_the_model_s_name(monkeypatch):
    monkeypatch.setattr(registry, "_SPECS", dict(registry._SPECS))
    whole = registry.get("MobileNetV2")
    stages = replace(whole, name="Stages", blocks=(whole.blocks[2], whole.blocks[-1]))
    registry.register(stages)
    present = layer_names("MobileNetV2")
    assert registry.recognise(present, "Stages") is stages
    assert registry.recognise(present, "MobileNetV2") is whole
    assert registry.recognise(present, "sequential") is whole
    assert registry.recognise(present, "VGG16") is whole
    # Up to a layer of the last block, all of both rows' blocks are there but that one.
    present -= {whole.output, whole.blocks[-1].last}
    assert registry.recognise(present, "Stages").blocks == whole.blocks[2:3]
    assert registry.recognise(present).blocks == whole.blocks[:-1]


def test_recognise_takes_the_first_blocks_of_a_row_that_is_cut():
    spec = registry.get("ResNet50")
    first = {spec.stem, "preprocessing", *(block.last for block in spec.blocks[:3])}
    assert registry.recognise(first, "ResNet50").blocks == spec.blocks[:3]
    assert registry.recognise(first).blocks == spec.blocks[:3]
    assert registry.recognise(first - {"preprocessing"}, "ResNet50") is None
    assert registry.recognise(first - {spec.blocks[1].last}, "ResNet50") is None
    # Not one whole block: other networks have such a stem.
    assert registry.recognise({spec.stem, "preprocessing"}, "ResNet50").blocks == ()
    assert registry.recognise({spec.stem, "preprocessing"}, "mine") is None


def test_importing_the_registry_does_not_import_tensorflow():
    code = (
        "import sys; import keras_tl.backbones.registry; "
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
