"""Artefacts that others can use without keras_tl."""
