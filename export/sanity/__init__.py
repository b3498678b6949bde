"""Does the map depend on what the model has learnt: maps of the model with more and more of its weights random."""
