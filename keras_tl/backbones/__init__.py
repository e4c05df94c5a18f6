"""Pretrained image models: what they are, and the one place they are built."""
