"""What `export.json` says of an export, in words. TensorFlow is not imported."""

import json
from pathlib import Path
from typing import Any

from keras_tl.errors import InputError

FACTS = "export.json"


def read_exports(folder: str | Path) -> dict[str, dict[str, Any]]:
    """Reads the `export.json` of every export directly below a folder.

    Args:
        folder: A run's folder.

    Returns:
        Their contents by the exports' folder names, sorted.

    Raises:
        InputError: One is not as it was written.
    """
    # Hidden folders are being written, or are left from a killed process.
    files = [f for f in sorted(Path(folder).glob(f"*/{FACTS}")) if f.parent.name[0] != "."]
    return {file.parent.name: _read(file) for file in files}


def _read(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        describe(facts)
    except (OSError, LookupError, TypeError, ValueError, AttributeError) as error:
        fix = "Export it again, or delete its folder."
        raise InputError(f"{path} as it was written", "another", fix) from error
    return facts


def describe(facts: dict[str, Any]) -> str:
    """Size, times and agreement with the Keras model in a line.

    Args:
        facts: The content of an `export.json`.
    """
    taken = facts["milliseconds"]
    return (
        f"{facts['format']} {facts['precision']}: {facts['bytes'] / 1e6:.1f} MB; an image takes "
        f"{taken['one_thread']:.1f} ms with one thread, {taken['all_cores']:.1f} with "
        f"{taken['cores']}; {agreement(facts)}"
    )


def agreement(facts: dict[str, Any]) -> str:
    """How an export compares with the Keras model, in words.

    Args:
        facts: The content of an `export.json`.
    """
    found = facts["compared"]
    images = f"{found['images']:,} images"
    if "largest_difference" in found:
        return f"outputs within {found['largest_difference']:.1e} of Keras' on {images}"
    if "agreement" in found:
        return (
            f"decides as Keras does on {found['agreement']:.1%} of {images}, rightly on "
            f"{found['accuracy']:.1%} (Keras {found['keras_accuracy']:.1%})"
        )
    return f"outputs within {found['difference']:.3f} deviations of Keras' on {images}"
