"""Metadata of artifacts that take images as they are."""

import json

import pytest

from onnxplain.runtime import Metadata, OnnxplainError
from tests.helpers.plain_artifact import plain_document


def test_shapes():
    for kind, size in (("image", ("height", "width")), ("pixels", (16, 24))):
        metadata = Metadata.from_json(plain_document(("rollout",), input=kind))
        assert metadata.input_shape(2) == ((2, *size, 3) if kind == "image" else (2, 3, *size))
        assert metadata.full_shape("heatmap_rollout", 2, "targets") == (2, "targets", *size)
        assert metadata.full_shape("class_index", 2, 3) == (2, 3)


def test_only_with_heatmaps():
    document = json.loads(plain_document(("rollout",), input="image"))
    with pytest.raises(OnnxplainError, match="'input' must be pixels where there are no heatmaps"):
        Metadata.from_json(json.dumps({**document, "heatmaps": {}}))
