"""Where images come from, how they are split, decoded, augmented and batched."""
