"""Short functions that return plain functional `keras.Model`s."""
