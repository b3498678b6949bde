"""`onnxplain.ray`: what programs on Ray import. In a folder called ray, it would hide Ray from programs run in here."""

from onnxplain.batch.explain_batch import ExplainBatch

__all__ = ["ExplainBatch"]
