"""Embeddings and predictions on many machines: an Apache Beam pipeline (the extra `beam`).

Nothing here is imported by the rest of keras_tl, so that Apache Beam need not be installed.
"""
