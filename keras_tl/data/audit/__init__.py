"""What is wrong with a data set, found by looking at every image once, before training."""
