"""The service in docs/server.md that is written with FastAPI: it answers as the Explainer, and refuses in words."""

import io

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from onnxplain.runtime import Explainer
from tests.helpers.doc_blocks import ROOT, blocks
from tests.helpers.service import DEMO, PNG, SCENES

IMAGE = (SCENES / "scene-0.png").read_bytes()


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    [code] = [code for _, code in blocks((ROOT / "docs" / "server.md").read_text()) if "FastAPI()" in code]
    assert len(code.splitlines()) <= 32
    scope = {}
    exec(code.replace("artifacts/demo.onnx", str(DEMO)), scope)
    return scope


def test_it_answers(module):
    client, explainer = TestClient(module["app"]), Explainer(DEMO, "cpu", threads=1)
    found = client.post("/explain", content=IMAGE, params={"method": "rollout:head_fusion=max", "target": "four"})
    expected = explainer.explain(IMAGE, method="rollout", head_fusion="max", target="four")
    assert found.json() == expected.to_dict()
    picture = client.post("/explain", content=IMAGE, headers=PNG).content
    expected = explainer.explain(IMAGE).figure()
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(picture))), np.asarray(expected))


def test_it_refuses(module, monkeypatch):
    client = TestClient(module["app"])
    for content, status in ((b"no image", 422), (bytes(2**25 + 1), 413)):
        assert client.post("/explain", content=content).status_code == status
    assert client.post("/explain?target=eleven", content=IMAGE).json()["detail"].startswith("there is no label")
    assert module["waiting"] == 0
    monkeypatch.setitem(module, "waiting", 16)
    assert client.post("/explain", content=IMAGE).status_code == 429
