"""Outputs that are no classes have one kind of name, wherever a backbone comes from."""

from onnxplain.export import load_features
from onnxplain.export.models.labels import feature_names


def test_of_features_for_a_head():
    labels = load_features("demo").labels
    assert labels == feature_names(len(labels)) and labels[:2] == ("feature 0", "feature 1")
