"""Views of a model without a class: the heads of a layer, and the features of patches as colours."""
