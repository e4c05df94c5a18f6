"""`python -m keras_tl` is `keras-tl`."""

from keras_tl.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
