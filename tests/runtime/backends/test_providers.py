"""Which of onnxruntime's providers an artifact runs on: those of a device, or those that the caller names."""

import pickle
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from onnxplain.runtime import Explainer, OnnxplainError
from onnxplain.runtime.backends import onnx as module
from onnxplain.runtime.backends import providers
from onnxplain.runtime.backends.providers import CPU, DEVICES, Device, check_providers, providers_of_device
from tests.helpers.messages import message_of
from tests.helpers.tiny_artifact import build

CUDA = "CUDAExecutionProvider"
CORE_ML = "CoreMLExecutionProvider"
IMAGE = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return build(tmp_path_factory.mktemp("artifact") / "tiny.onnx")


@pytest.fixture
def offered(monkeypatch):
    """As if onnxruntime had been built with these."""

    def offer(*names):
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(names))

    return offer


def test_devices_are_rows(offered, monkeypatch):
    offered(CORE_ML, CUDA, CPU)
    assert providers_of_device("auto") == providers_of_device("cuda") == [(CUDA, {"use_tf32": "0"}), CPU]
    assert providers_of_device("cpu") == [CPU]
    offered(CORE_ML, CPU)
    assert providers_of_device("auto") == [CPU]
    message = message_of(providers_of_device, "cuda")
    assert message.startswith(f"`device` cuda needs {CUDA}, onnxruntime here has {CORE_ML}, {CPU}: pip install")
    monkeypatch.setitem(DEVICES, "coreml", Device(CORE_ML, {"MLComputeUnits": "ALL"}))
    assert providers_of_device("coreml") == [(CORE_ML, {"MLComputeUnits": "ALL"}), CPU]


def test_providers_need_no_row(offered):
    offered(CORE_ML, CUDA, CPU)
    given = [CORE_ML, (CUDA, {"device_id": 1}), CPU]
    assert check_providers(given) == [CORE_ML, (CUDA, {"use_tf32": "0", "device_id": 1}), CPU]
    assert check_providers([(CUDA, {"use_tf32": "1"})]) == [(CUDA, {"use_tf32": "1"})]  # whoever asks for it


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], r"`providers` must be a list of onnxruntime's providers, got \[\]; write \['CPUExecutionProvider'\]"),
        (CPU, "`providers` must be a list"),
        ([1], "a provider must be a name, or a name and a dict of options, got 1"),
        ([(CPU, "x")], r"or a name and a dict of options, got \('CPU"),
        (["TpuExecutionProvider"], "there is no provider 'TpuExecutionProvider'; there are: .*CPUExecutionProvider"),
        (["cpu"], r"there is no provider 'cpu'; there are: .*; did you mean 'CPUExecutionProvider'\?"),
    ],
)
def test_providers_that_are_none(given, message, artifact):
    with pytest.raises(OnnxplainError, match=message):
        Explainer(artifact, providers=given)


def test_an_explainer_with_providers(artifact):
    explainer = Explainer(artifact, threads=1, providers=[(CPU, {})])
    assert explainer.device == "cpu"
    again = pickle.loads(pickle.dumps(explainer))
    expected = Explainer(artifact, "cpu", threads=1).explain(IMAGE)
    for one in (explainer, again):
        np.testing.assert_array_equal(one.explain(IMAGE).heatmap, expected.heatmap)
    with pytest.raises(OnnxplainError, match="`device` and `providers` exclude each other, got cpu and "):
        Explainer(artifact, "cpu", providers=[CPU])


def test_the_cpu_with_options_is_the_cpu(tmp_path):
    """With weights where they lie in the file, `packed` and the cache, and with its options."""
    path = build(tmp_path / "tiny.onnx")
    expected = Explainer(path, "cpu", 1).explain(IMAGE).heatmap
    for cache in (False, True):
        for packed in (False, True):
            options = {"providers": [(CPU, {"use_arena": "1"})], "cache": cache, "packed": packed}
            explainer = Explainer(path, threads=1, **options)
            session = explainer.artifact._session
            entry = session.get_session_options().get_session_config_entry("session.disable_prepacking")
            assert entry == str(int(not packed))
            np.testing.assert_allclose(explainer.explain(IMAGE).heatmap, expected, rtol=1e-5, atol=1e-6)
        assert Path(f"{path}.cache").is_dir() == cache


def test_a_provider_that_cannot_be_used_is_an_error(artifact, offered, monkeypatch):
    """onnxruntime falls back to the CPU; that is wanted only where nobody chose."""
    offered(CORE_ML, CUDA, CPU)
    start = onnxruntime.InferenceSession
    monkeypatch.setattr(
        module.onnxruntime, "InferenceSession", lambda *given, **rest: start(*given, **{**rest, "providers": [CPU]})
    )
    assert Explainer(artifact).device == "cpu"
    for arguments, name in (({"device": "cuda"}, CUDA), ({"providers": [CORE_ML]}, CORE_ML)):
        with pytest.raises(OnnxplainError, match=f"onnxruntime cannot use {name} here and fell back to {CPU}"):
            Explainer(artifact, **arguments)


def test_libraries_of_other_providers_are_loaded_first(artifact, offered, monkeypatch, capsys):
    """pip puts CUDA's libraries where onnxruntime does not search; without them it falls back to the CPU."""
    offered(CUDA, CPU)
    start, steps = onnxruntime.InferenceSession, []
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("loaded") or steps.append("libraries"))
    monkeypatch.setattr(
        module.onnxruntime,
        "InferenceSession",
        lambda *given, **rest: steps.append(rest["providers"][0]) or start(*given, **{**rest, "providers": [CPU]}),
    )
    Explainer(artifact, "cpu")
    assert steps == [CPU]
    Explainer(artifact, "auto")
    assert steps == [CPU, "libraries", (CUDA, {"use_tf32": "0"})]
    assert capsys.readouterr() == ("", "loaded\n")  # what is on the standard output may be read by programs


def test_a_provider_without_a_row_is_called_by_its_own_name():
    assert providers.device_name(CORE_ML) == CORE_ML and providers.device_name(CUDA) == "cuda"


def test_torchscript_has_no_providers(tmp_path):
    (tmp_path / "x.pt").write_bytes(b"x")
    with pytest.raises(OnnxplainError, match=r"`providers` are for onnxruntime, and .*x\.pt is opened with PyTorch"):
        Explainer(tmp_path / "x.pt", trust=True, providers=[CPU])
