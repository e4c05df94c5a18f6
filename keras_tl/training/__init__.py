"""Training as a list of phases."""
