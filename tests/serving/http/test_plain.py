"""POST /explain: what it answers is what the Explainer says of the same image."""

import base64
import io
import json

import jsonschema
import numpy as np
import pytest
from PIL import Image

from onnxplain.runtime import Explainer
from onnxplain.runtime.summary import about_image, about_map
from onnxplain.serving.http.errors import HttpError
from onnxplain.serving.http.plain import accepted
from tests.helpers.service import DEMO, PNG, ROOT, SCENES, client_of, make_service

IMAGE = (SCENES / "scene-0.png").read_bytes()


@pytest.fixture(scope="module")
def client():
    return client_of(make_service([DEMO]))


@pytest.fixture(scope="module")
def explainer():
    return Explainer(DEMO, "cpu", threads=1, packed=True)  # as the service opens it: packing changes the last bits


def refusal(response, status=422):
    assert (response.status_code, list(response.json())) == (status, ["error"]), response.text
    return response.json()["error"]


def test_json_is_the_document_of_explain(client, explainer):
    given = {"method": ["legrad", "rollout:discard_ratio=0.5"], "target": ["four", "-2"], "top_k": 3}
    found = client.post("/explain", content=IMAGE, params=given).json()
    expected = explainer.explain_all(IMAGE, target=["four", -2], methods=given["method"])
    items = [(key, item) for key, several in expected.items() for item in several]
    about = about_image(items[0][1])
    assert found == {
        "image": "image",
        "artifact": DEMO.name,
        "digest": DEMO.read_bytes()[-64:].decode(),
        **about,
        "predictions": about["predictions"][:3],
        "explanations": [{"key": key, **about_map(item)} for key, item in items],
        "files": [],
    }
    jsonschema.validate(found, json.loads((ROOT / "docs" / "explain.schema.json").read_text()))


def test_without_a_question_it_is_the_best_method_and_the_top_class(client, explainer):
    found = client.post("/explain", content=IMAGE).json()
    expected = explainer.explain(IMAGE)
    assert len(found["predictions"]) == 5
    [only] = found["explanations"]
    assert {**only, "key": None} == {"key": None, **about_map(expected)}


@pytest.mark.parametrize(("size", "name"), [("image", "heatmap"), ("input", "input_heatmap"), ("tokens", "tokens")])
def test_maps(client, explainer, size, name):
    image = io.BytesIO()
    Image.open(io.BytesIO(IMAGE)).resize((150, 90)).save(image, "JPEG")
    found = client.post("/explain", content=image.getvalue(), params={"map": size, "method": "attnlrp"}).json()
    values = found["explanations"][0]["map"]
    assert values["dtype"] == "float32"
    array = np.frombuffer(base64.b64decode(values["b64"]), "<f4").reshape(values["shape"])
    np.testing.assert_array_equal(array, getattr(explainer.explain(image.getvalue(), method="attnlrp"), name))


def test_several_lines_of_accept_are_one(client):
    given = [("accept", "text/html"), ("accept", "image/png")]
    assert client.post("/explain", content=IMAGE, headers=given).headers["content-type"] == "image/png"


@pytest.mark.parametrize("layout", [None, "bare", "map"])
def test_a_picture_is_the_figure(client, explainer, layout):
    given = {"target": "seven"} | ({"layout": layout} if layout else {})
    answer = client.post("/explain", content=IMAGE, params=given, headers=PNG)
    assert answer.headers["content-type"] == "image/png"
    expected = explainer.explain(IMAGE, target="seven").figure(layout or "side")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), np.asarray(expected))


def test_a_form_is_as_good_as_the_body_alone(client):
    raw = client.post("/explain", content=IMAGE).json()
    form = client.post("/explain", files={"image": ("some.png", IMAGE)}).json()
    assert form == {**raw, "image": "some.png"}


@pytest.mark.parametrize(
    "files",
    [
        {"picture": ("a.png", IMAGE)},
        [("image", ("a.png", IMAGE)), ("image", ("b.png", IMAGE))],
        {"image": ("a.png", IMAGE), "more": (None, "text")},
        {"image": (None, "text")},
    ],
)
def test_another_form_is_refused(client, files):
    assert "a form must have one field, image, with one file" in refusal(client.post("/explain", files=files))


def test_a_form_without_boundary_or_end(client):
    for kind in ("multipart/form-data", "multipart/form-data; boundary=x"):
        for body in (b"", IMAGE, b"--x\r\n", b'--x\r\ncontent-disposition: form-data; name="image"\r\n\r\nabc'):
            refusal(client.post("/explain", content=body, headers={"content-type": kind}))


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"method": "nowhere"}, "there is no method 'nowhere'"),
        ({"method": ""}, "a method must be a name"),
        ({"method": "x" * 300}, "got a text of 300 characters"),
        ({"method": "rollout:head_fusion=most"}, "one of mean, max, min"),
        ({"method": ["legrad", "legrad"]}, "given twice"),
        ({"method": "rise:masks=1001"}, "need 1001 runs of the model for this request, more than 1000"),
        ({"target": "eleven"}, "there is no label 'eleven'"),
        ({"target": "10"}, "target 10 is out of range"),
        ({"target": ["0"] * 65}, "64 maps of an image"),
        ({"head_fusion": "max"}, "write it behind the method: method=NAME:head_fusion=VALUE"),
        ({"metod": "legrad"}, "there is no 'metod' here; parameters are model, layout, map, top_k, method, target"),
        ({"top_k": "0"}, "top_k must be a whole number of at least 1"),
        ({"top_k": "²"}, "top_k must be a whole number of at least 1"),
        ({"map": "large"}, "map must be one of none, image, input, tokens"),
        ({"layout": "bare"}, "layout is for pictures"),
        ({"map": ["input", "input"]}, "map is given twice"),
    ],
)
def test_what_is_refused_in_words(client, given, part):
    assert part in refusal(client.post("/explain", content=IMAGE, params=given))


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"target": ["1", "2"]}, "a picture shows one method and one target"),
        ({"map": "input"}, "map is for JSON"),
        ({"layout": "beside"}, "there is no layout 'beside'"),
    ],
)
def test_what_a_picture_cannot_be(client, given, part):
    assert part in refusal(client.post("/explain", content=IMAGE, params=given, headers=PNG))


@pytest.mark.parametrize("body", [b"", b"no image", IMAGE[:300], b"\x89PNG\r\n\x1a\n"])
def test_no_image(client, body):
    message = refusal(client.post("/explain", content=body))
    assert "image" in message and "\n" not in message


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("image/png", "image/png"),
        ("image/*", "image/png"),
        ("text/html, image/png;q=0.5, application/json;q=0.4", "image/png"),
        ("image/png;q=0.3, */*;q=0.8", "application/json"),
        ("application/json;q=0, */*", "image/png"),
        ("text/html, */*;q=0.1", "application/json"),
        ("IMAGE/PNG", "image/png"),
    ],
)
def test_accept(header, expected):
    assert accepted(header) == expected


@pytest.mark.parametrize("header", ["text/html", "image/jpeg", "", "image/png;q=0", "image/png;q=x", "*/*;q=nan"])
def test_accept_of_nothing_that_there_is(client, header):
    with pytest.raises(HttpError):
        accepted(header)
    refusal(client.post("/explain", content=IMAGE, headers={"accept": header}), 406)


@pytest.mark.parametrize(
    ("verb", "path", "status", "allowed"),
    [
        ("GET", "/explain", 405, "POST"),
        ("DELETE", "/explain", 405, "POST"),
        ("POST", "/metrics", 405, "GET, HEAD"),
        ("POST", "/", 405, "GET, HEAD"),
        ("GET", "/v1/models/demo:predict", 405, "POST"),
        ("GET", "/explain/", 404, None),
        ("GET", "/../pyproject.toml", 404, None),
        ("GET", "/%2e%2e/pyproject.toml", 404, None),
        ("GET", "/samples/../page.json/x", 404, None),
    ],
)
def test_verbs_and_paths(client, verb, path, status, allowed):
    answer = client.request(verb, path)
    refusal(answer, status)
    assert sorted(answer.headers.get("allow", "").split(", ")) == sorted((allowed or "").split(", "))


def test_maps_that_would_be_too_large_are_refused(explainer):
    """The images of a request share the numbers that its maps may hold."""
    wide = io.BytesIO()
    Image.new("RGB", (100, 50)).save(wide, "PNG")
    client = client_of(make_service([DEMO], values=3 * 5000))
    given = {"map": "image", "target": ["0", "1", "2"]}
    assert client.post("/explain", content=wide.getvalue(), params=given).status_code == 200
    said = refusal(client.post("/explain", content=wide.getvalue(), params={**given, "target": ["0", "1", "2", "3"]}))
    assert said.startswith("the maps hold 20000 numbers, more than the 15000 that")
    text = base64.b64encode(IMAGE).decode()
    for count, status in ((1, 200), (2, 422)):  # 9216 numbers each
        body = {"instances": [{"b64": text}] * count}
        assert client.post("/v1/models/demo:explain", json=body).status_code == status
        assert client.post("/v1/models/demo:explain", json={**body, "parameters": {"map": "none"}}).status_code == 200
