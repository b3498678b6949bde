"""Buffers of a run come from the arena: no search for free ones of the same shape as a file is opened."""

from onnxplain.runtime.backends.formats import open_artifact
from tests.helpers import tiny_artifact


def test_no_buffer_is_searched_for(tmp_path):
    artifact = open_artifact(tiny_artifact.build(tmp_path / "tiny.onnx"), "cpu", 1)
    assert not artifact._session.get_session_options().enable_mem_reuse
