"""KServe's protocols: what V1 and V2 answer is what the Explainer says."""

import base64
import json

import numpy as np
import pytest

from onnxplain.runtime import Explainer
from onnxplain.runtime.explanation import probabilities
from onnxplain.serving.http.open_inference import OUTPUTS
from tests.helpers.service import DEMO, SCENES, client_of, make_service

IMAGES = [(SCENES / f"scene-{seed}.png").read_bytes() for seed in (0, 1)]
TEXTS = [base64.b64encode(image).decode() for image in IMAGES]
INSTANCES = [{"image_bytes": {"b64": TEXTS[0]}}, {"b64": TEXTS[1]}]
TENSOR = {"name": "image", "datatype": "BYTES", "shape": [2], "data": TEXTS}
NUMPY = {"INT64": np.int64, "FP32": np.float32, "BYTES": object}


@pytest.fixture(scope="module")
def client():
    return client_of(make_service([DEMO]))


@pytest.fixture(scope="module")
def explainer():
    return Explainer(DEMO, "cpu", threads=1, packed=True)  # as the service opens it: packing changes the last bits


def refusal(response, status=422):
    assert (response.status_code, list(response.json())) == (status, ["error"]), response.text
    return response.json()["error"]


def test_v1_predict(client, explainer):
    asked = {"instances": INSTANCES, "parameters": {"top_k": 4}}
    found = client.post("/v1/models/demo:predict", json=asked).json()
    assert list(found) == ["predictions"]
    for image, prediction in zip(IMAGES, found["predictions"], strict=True):
        logits = explainer.tensors(image, passes=())["logits"][0]
        best = np.argsort(-logits)[:4]
        shares = probabilities(logits, explainer.metadata)
        assert [each["index"] for each in prediction["predictions"]] == best.tolist()
        assert [each["probability"] for each in prediction["predictions"]] == shares[best].tolist()


def test_v1_explain(client, explainer):
    methods = ["legrad", "rollout:head_fusion=max"]
    asked = {"instances": INSTANCES, "parameters": {"method": methods, "target": [1, "-2"]}}
    found = client.post("/v1/models/demo:explain", json=asked).json()["explanations"]
    for image, document in zip(IMAGES, found, strict=True):
        expected = explainer.explain_all(image, target=[1, -2], methods=methods)
        items = [item for several in expected.values() for item in several]
        for item, said in zip(items, document["explanations"], strict=True):
            values = said.pop("map")
            array = np.frombuffer(base64.b64decode(values["b64"]), "<f4").reshape(values["shape"])
            np.testing.assert_array_equal(array, item.input_heatmap)
            said.pop("key")
            assert {**{name: document[name] for name in document if name != "explanations"}, **said} == item.to_dict()


def test_v1_lists_models(client):
    assert client.get("/v1/models").json() == {"models": ["demo"]}
    assert client.get("/v1/models/demo").json() == {"name": "demo", "ready": True}
    assert refusal(client.post("/v1/models/demo:foo"), 404) == "there is no verb 'foo'; there are: predict, explain"
    assert client.get("/v1/models/demo:predict").headers["allow"] == "POST"
    assert "there is no model 'dmo'" in refusal(client.get("/v1/models/dmo"), 404)


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"", "the body is not JSON"),
        (b"\xff\xfe", "the body is not JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        (b'{"instances": ' + b"[" * 5_000 + b"]" * 5_000 + b"}", ""),
        (b'{"instances": NaN}', "NaN is no number in JSON"),
        (b'{"instances": ' + b"9" * 5000 + b"}", "the body is not JSON"),
        (b"[]", "the body must be a JSON object, got a list"),
        (b"{}", "instances must be a list of at least one image, got null"),
        (b'{"instances": []}', "instances must be a list of at least one image"),
        (b'{"instances": [1]}', "an instance must be"),
        (b'{"instances": [{"b64": 1}]}', "an image must be a text in base64, got a number"),
        (b'{"instances": [{"b64": ""}]}', "got an empty text"),
        (b'{"instances": [{"b64": "?"}]}', "an image is not base64"),
        ('{"instances": [{"b64": "ä"}]}'.encode(), "an image is not base64"),
        (b'{"instances": [{"b64": "AAAA", "more": 1}]}', "an instance must be"),
        (b'{"instances": [{"b64": "AAAA"}]}', "is not an image in a format that is read"),
        (b'{"instance": []}', "there is no 'instance' here; fields of the body are instances, parameters"),
        (b'{"instances": [{"b64": "AAAA"}], "parameters": []}', "parameters must be an object, got a list"),
        (b'{"instances": [{"b64": "AAAA"}], "parameters": {"method": 1}}', "a method must be a name"),
        (b'{"instances": [{"b64": "AAAA"}], "parameters": {"target": true}}', "a target must be"),
        (b'{"instances": [{"b64": "AAAA"}], "parameters": {"target": 1.5}}', "a target must be"),
        (b'{"instances": [{"b64": "AAAA"}], "parameters": {"target": []}}', "the list of targets is empty"),
        (b'{"instances": [{"b64": "AAAA"}], "parameters": {"map": {}}}', "map must be one of"),
        (b'{"instances": [{"b64": "AAAA"}], "parameters": {"top_k": true}}', "top_k must be"),
        (b'{"instances": [{"b64": "AAAA"}], "parameters": {"norm": "l2"}}', "norm is a parameter of methods"),
    ],
)
def test_what_v1_refuses(client, body, part):
    assert part in refusal(client.post("/v1/models/demo:explain", content=body))


def test_one_bad_image_is_named(client):
    asked = {"instances": [*INSTANCES, {"b64": base64.b64encode(IMAGES[0][:200]).decode()}]}
    assert refusal(client.post("/v1/models/demo:explain", json=asked)).startswith("the image at index 2: ")


def test_too_many_images(client):
    assert refusal(client.post("/v1/models/demo:predict", json={"instances": INSTANCES[:1] * 33})) == (
        "a request may have 32 images, this one has 33"
    )


def test_v2_infer(client, explainer):
    targets = {"name": "target", "datatype": "INT64", "shape": [2, 2], "data": [[1, -2], [7, -1]]}
    body = {"id": "x1", "inputs": [TENSOR, targets], "parameters": {"method": "legrad"}}
    found = client.post("/v2/models/demo/infer", json=body).json()
    assert (found["model_name"], found["id"]) == ("demo", "x1")
    tensors = {
        each["name"]: np.array(each["data"], NUMPY[each["datatype"]]).reshape(each["shape"])
        for each in found["outputs"]
    }
    described = {each["name"]: each for each in client.get("/v2/models/demo").json()["outputs"]}
    assert list(tensors) == list(OUTPUTS) == list(described)
    for name, tensor in tensors.items():
        expected = [[2, 2][axis] if length == -1 else length for axis, length in enumerate(described[name]["shape"])]
        assert list(tensor.shape) == expected, name
    for row, (image, target) in enumerate(zip(IMAGES, ([1, -2], [7, -1]), strict=True)):
        items = explainer.explain(image, target=target, method="legrad")
        np.testing.assert_array_equal(tensors["class_index"][row], [item.target for item in items])
        assert tensors["label"][row].tolist() == [item.label for item in items]
        np.testing.assert_array_equal(tensors["heatmap"][row], [item.input_heatmap for item in items])
        np.testing.assert_array_equal(tensors["tokens"][row], [item.tokens for item in items])
        np.testing.assert_array_equal(tensors["score"][row], np.float32([item.score for item in items]))
        np.testing.assert_array_equal(tensors["probability"][row], np.float32([item.probability for item in items]))
        logits = explainer.tensors(image, passes=())["logits"][0]
        shares = np.float32(probabilities(logits, explainer.metadata))
        np.testing.assert_array_equal(tensors["probabilities"][row], shares)
        assert tensors["seen"][row].tolist() == items[0].to_dict()["seen"]


def test_v2_gives_the_outputs_asked_for(client):
    body = {"inputs": [TENSOR], "outputs": [{"name": "tokens"}, {"name": "label"}]}
    found = client.post("/v2/models/demo/infer", json=body).json()
    assert [each["name"] for each in found["outputs"]] == ["tokens", "label"]
    assert "id" not in found


def test_v2_metadata_and_health(client):
    assert client.get("/v2").json()["name"] == "onnxplain"
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2/models/demo/ready").json() == {"name": "demo", "ready": True}
    assert "there is no model" in refusal(client.get("/v2/models/other"), 404)


def v2_bodies():
    def changed(**changes):
        return {"inputs": [{**TENSOR, **changes}]}

    target = {"name": "target", "datatype": "INT64", "shape": [2, 1], "data": [1, 2]}
    yield {}, "inputs must be a list of tensors, got null"
    yield {"inputs": []}, "input image is missing"
    yield {"inputs": [target]}, "input image is missing"
    yield {"inputs": [TENSOR, TENSOR]}, "input image is given twice"
    yield {"inputs": [TENSOR], "output": 1}, "there is no 'output' here"
    yield {"inputs": [TENSOR], "id": 1}, "id must be a text"
    yield {"inputs": [TENSOR], "parameters": 1}, "parameters must be an object"
    yield {"inputs": [TENSOR], "parameters": {"method": ["legrad", "rollout"]}}, "V2 explains by one method"
    yield {"inputs": [TENSOR, target], "parameters": {"target": 1}}, "target is given twice"
    yield {"inputs": [TENSOR, {**target, "shape": [1, 2]}]}, "target has 1 rows for 2 images"
    yield {"inputs": [TENSOR, {**target, "shape": [2]}]}, "must have a shape of 2 whole numbers"
    yield {"inputs": [TENSOR, {**target, "datatype": "FP32"}]}, "must have the datatype INT64 or BYTES"
    yield {"inputs": [TENSOR], "outputs": [{"name": "maps"}]}, "there is no 'maps' here; outputs are class_index"
    yield {"inputs": [TENSOR], "outputs": [{"name": "label"}] * 2}, "an output is asked for twice"
    yield {"inputs": [TENSOR], "outputs": {}}, "outputs must be a list"
    yield changed(name="pixels"), "there is no 'pixels' here; inputs are image, target"
    yield changed(name=None), "an input must have a name"
    yield changed(datatype="UINT8"), "input image must have the datatype BYTES"
    yield changed(datatype=[]), "input image must have the datatype BYTES"
    for shape in ([3], [0], [-2], [True], [2.0], [2, 1], [2**31], "2", None):
        yield changed(shape=shape), "input image"
    yield changed(data="x"), "data of input image must be a list"
    yield changed(data=[1, 2]), "an image must be a text in base64"
    yield changed(data=[{}, []]), "an image must be a text in base64, got an object"


@pytest.mark.parametrize(("body", "part"), list(v2_bodies()))
def test_what_v2_refuses(client, body, part):
    assert part in refusal(client.post("/v2/models/demo/infer", content=json.dumps(body)))


def test_v2_takes_no_binary_tensors(client):
    answer = client.post("/v2/models/demo/infer", content=b"{}", headers={"Inference-Header-Content-Length": "2"})
    assert "in JSON only" in refusal(answer)


@pytest.mark.parametrize(
    ("target", "part"),
    [
        ({"shape": [2, 2], "data": [[1], [2, 3, 4]]}, "data of input target must be flat, or 2 lists of 2"),
        ({"shape": [2, 1], "data": [[1], 2]}, "data of input target must be flat, or 2 lists of 1"),
        (
            {"shape": [2, 1], "data": ["four", "two"]},
            "input target has the datatype INT64, and data that are not of it",
        ),
        ({"shape": [2, 1], "data": [1, True]}, "input target has the datatype INT64, and data that are not of it"),
        ({"shape": [2, 1], "data": [1, 2], "parameters": {"x": 1}}, "a tensor's parameters can only be"),
    ],
)
def test_targets_of_v2_have_the_shape_and_the_type_that_they_say(client, target, part):
    body = {"inputs": [TENSOR, {"name": "target", "datatype": "INT64", **target}]}
    assert part in refusal(client.post("/v2/models/demo/infer", json=body))


def test_flat_and_nested_targets_are_the_same(client):
    answers = []
    for data in ([1, -2, 7, -1], [[1, -2], [7, -1]]):
        targets = {"name": "target", "datatype": "INT64", "shape": [2, 2], "data": data, "parameters": {}}
        wanted = [{"name": "class_index", "parameters": {"binary_data": False}}]
        answers.append(
            client.post("/v2/models/demo/infer", json={"inputs": [TENSOR, targets], "outputs": wanted}).json()
        )
    assert answers[0] == answers[1] and "outputs" in answers[0]
    wrong = {"name": "class_index", "parameters": {"binary_data": True}}
    body = {"inputs": [TENSOR], "outputs": [wrong]}
    assert "a tensor's parameters" in refusal(client.post("/v2/models/demo/infer", json=body))


def test_a_document_of_very_many_values_is_not_read(client):
    body = b'{"instances": [' + b"[]," * (10**5 + 1) + b"[]]}"
    assert refusal(client.post("/v1/models/demo:predict", content=body)) == "the body has more than 100000 values"


def test_images_of_a_request_share_the_runs(client):
    body = {"instances": INSTANCES[:1] * 2, "parameters": {"method": "rise:masks=501", "map": "none"}}
    assert "1002 runs of the model for this request" in refusal(client.post("/v1/models/demo:explain", json=body))
