"""The configuration against the graph, as the onnxruntime backend of Triton compares them when it loads a model."""

import onnxruntime
import pytest

from onnxplain.contract.errors import ArtifactError, OnnxplainError
from onnxplain.contract.metadata import Metadata
from onnxplain.serving.triton.model_repository import write_model
from onnxplain.serving.triton.triton_config import config_text
from tests.helpers.model_config import parse_config
from tests.helpers.plain_artifact import build_plain, metadata_of, plain_document

# Numbers of DataType in model_config.proto
TYPES = {"tensor(bool)": 1, "tensor(uint8)": 2, "tensor(int64)": 9, "tensor(float)": 11}
KIND_AUTO = 0
HEATMAPS = ("rollout", "grad_rollout")


@pytest.fixture(params=["none", "required"])
def flags(request):
    return request.param


@pytest.mark.parametrize("image", ["pixels", "image"])
def test_config_fits_the_graph(tmp_path, flags, image):
    path = build_plain(tmp_path / "p.onnx", HEATMAPS, flags, image)
    write_model(path, metadata_of(path), tmp_path / "models/p", 8)
    session = onnxruntime.InferenceSession(tmp_path / "models/p/1/model.onnx")
    config = parse_config(tmp_path / "models/p/config.pbtxt")
    assert config.max_batch_size == 8 and config.HasField("dynamic_batching")
    assert (config.platform, config.backend, config.name) == ("onnxruntime_onnx", "onnxruntime", "p")
    assert not session.get_overridable_initializers()
    _assert_loads(config.input, session.get_inputs(), exact=False)
    _assert_loads(config.output, session.get_outputs(), exact=True)
    assert not any(item.optional or item.allow_ragged_batch for item in config.input)
    assert [item.name for item in config.output if item.label_filename] == ["logits"]
    assert [(group.count, group.kind) for group in config.instance_group] == [(1, KIND_AUTO)]
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert (accelerator.name, dict(accelerator.parameters)) == ("cuda", {"use_tf32": "0"})


def _assert_loads(entries, arguments, exact):
    """Triton's check: batch axis open; where an axis of the graph is given, and of outputs always, the same length."""
    assert [item.name for item in entries] == [argument.name for argument in arguments]
    for item, argument in zip(entries, arguments, strict=True):
        graph = [length if isinstance(length, int) else -1 for length in argument.shape]
        dims = list(item.reshape.shape) if item.HasField("reshape") else list(item.dims)
        assert graph[0] == -1 and len(graph) == 1 + len(dims)
        assert all(one == other or (one == -1 and not exact) for one, other in zip(graph[1:], dims, strict=True))
        assert item.data_type == TYPES[argument.type]
        assert item.dims and all(length == -1 or length >= 1 for length in item.dims)  # never empty


def test_flag_is_one_number_of_each_image(tmp_path):
    metadata = Metadata.from_json(plain_document(HEATMAPS, "required"))
    (tmp_path / "config.pbtxt").write_text(config_text("p", metadata, 8))
    *_, flag = parse_config(tmp_path / "config.pbtxt").input
    assert flag.name == "with_heatmap_grad_rollout" and list(flag.dims) == [1]
    assert flag.HasField("reshape") and not flag.reshape.shape


def test_target_may_have_any_length_in_each_request(tmp_path):
    (tmp_path / "config.pbtxt").write_text(config_text("p", Metadata.from_json(plain_document()), 3))
    config = parse_config(tmp_path / "config.pbtxt")
    assert list(config.input[1].dims) == [-1] and list(config.output[2].dims) == [-1, 16, 24]
    assert config.max_batch_size == 3


@pytest.mark.parametrize("size", [0, -1, 1.5, True, 10**12])
def test_max_batch_size(size):
    with pytest.raises(OnnxplainError, match="`max_batch_size` must be an integer from 1 to 10000"):
        config_text("p", Metadata.from_json(plain_document()), size)


def test_artifact_error_is_of_its_kind(tmp_path):
    metadata = Metadata.from_json(plain_document(HEATMAPS, "optional"))
    with pytest.raises(ArtifactError, match="`flags='required'`"):
        write_model(tmp_path / "p.onnx", metadata, tmp_path / "p", 8)
