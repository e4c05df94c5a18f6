"""The versions of what decides a result."""

from importlib.metadata import version

PACKAGES = ("keras_tl", "tensorflow", "keras", "numpy")


def versions(*more: str) -> dict[str, str]:
    """The version of each package that every result depends on, and of `more`."""
    return {package: version(package) for package in (*PACKAGES, *more)}
