"""Does a map depend on what the model has learnt: the test of random parameters."""
