"""From a name or a checkpoint to a classifier with weights, labels and preprocessing."""
