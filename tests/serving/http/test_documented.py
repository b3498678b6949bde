"""What docs/server.md says: the service that is written with FastAPI, the routes, and the limits."""

import io
import re

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from onnxplain.runtime import Explainer
from onnxplain.serving.http.application import build_application
from onnxplain.serving.http.bodies import VALUES
from onnxplain.serving.http.limits import CONNECTIONS, HEADERS, KEEP_ALIVE_SECONDS, MOST_MAPS, Limits
from onnxplain.serving.http.open_inference import AS_TEXT
from tests.helpers.doc_blocks import ROOT, blocks
from tests.helpers.service import DEMO, PNG, SCENES, make_service

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


def test_the_routes_in_metrics_are_listed():
    names = {route.endpoint.__name__ for route in build_application(make_service([DEMO])).routes}
    text = (ROOT / "docs" / "server.md").read_text()
    listed = text.partition("Routes are ")[2].partition(";")[0]
    assert set(re.findall("`(.+?)`", listed)) == names


def test_the_limits_are_those_of_the_code():
    text = (ROOT / "docs" / "server.md").read_text()
    table = text.partition("These limits are fixed:")[2].partition("Methods that take long")[0]
    found = [int(number) for number in re.findall(r"\d+", re.sub(r"(?<=\d) (?=\d)", "", table.replace("V2", "")))]
    limits = Limits()
    assert (limits.unsent, HEADERS) == (256 * 2**20, 64 * 2**10)
    assert [number for number in found if number not in (400, 408, 422, 503)] == [
        *(limits.images, MOST_MAPS, limits.values, limits.values // AS_TEXT, VALUES, 64, 256, limits.receive_seconds),
        *(limits.receive_seconds, limits.receiving, limits.send_seconds, 256, CONNECTIONS, KEEP_ALIVE_SECONDS),
    ]
