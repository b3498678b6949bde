"""A head for classes of one's own, fitted on the features of a folder of images."""
