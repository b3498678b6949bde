"""The service's limits, its stop, what it counts, and what it does with what nobody expected."""

import asyncio
import io
import logging
import struct
import zlib

import httpx
import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from onnxplain.contract.errors import OnnxplainError, RunError
from onnxplain.runtime import Explainer
from onnxplain.runtime.outcome import Outcome
from onnxplain.serving.http.answering import answer_all, open_explainer
from onnxplain.serving.http.application import build_application
from onnxplain.serving.http.limits import Limits
from onnxplain.serving.http.models import read_models
from onnxplain.serving.http.questions import Answer, Question, UnavailableError
from onnxplain.serving.http.service import Service
from tests.helpers.service import DEMO, SCENES, client_of, in_process, make_service

IMAGES = [(SCENES / f"scene-{seed}.png").read_bytes() for seed in range(4)]
ANSWER = Answer({"model": "m", "predictions": []}, (), (), None, 3)


class Scripted:
    """Answers when it is told to, or with what it is told."""

    def __init__(self, result=None):
        self.models = in_process([DEMO]).models
        self.result, self.go_on = result, asyncio.Event()

    async def ask(self, model, question):
        if isinstance(self.result, Exception):
            raise self.result
        if self.result is not None:
            return self.result
        await self.go_on.wait()
        return Outcome(ANSWER)


def connect(service):
    transport = httpx.ASGITransport(build_application(service))
    return httpx.AsyncClient(transport=transport, base_url="http://service")


def huge_png(width, height):
    """A PNG of a few bytes that says it is so large."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_a_long_body_is_refused_whatever_its_length_is_said_to_be():
    client = client_of(make_service([DEMO], body=50_000))
    exact = IMAGES[0] + bytes(50_000 - len(IMAGES[0]))
    assert client.post("/explain", content=exact).status_code == 200
    for content in (exact + b"x", iter([exact, b"x"])):
        answer = client.post("/explain", content=content)
        assert answer.status_code == 413
        assert answer.json() == {"error": "the body is longer than the limit of 50000 bytes"}


def test_many_pixels_are_refused_before_they_are_decoded():
    client = client_of(make_service([DEMO], pixels=96 * 96))
    assert client.post("/explain", content=IMAGES[0]).status_code == 200
    larger = io.BytesIO()
    Image.new("RGB", (97, 96)).save(larger, "PNG")
    for image in (larger.getvalue(), huge_png(60_000, 60_000), huge_png(2**31 - 1, 1)):
        answer = client.post("/explain", content=image)
        assert answer.status_code == 422 and answer.json()["error"].startswith("the data given")


def test_a_full_queue_is_answered_at_once_and_empties():
    async def check():
        scripted = Scripted()
        service = Service(scripted, Limits(queue=2))
        async with connect(service) as client:
            waiting = [asyncio.create_task(client.post("/explain", content=b"x")) for _ in range(2)]
            while service.metrics.registry.get_sample_value("onnxplain_queue_images", {"model": "demo"}) != 2:
                await asyncio.sleep(0)
            third = await client.post("/explain", content=b"x")
            assert (third.status_code, third.headers["retry-after"]) == (429, "1")
            assert "the queue of model demo is full" in third.json()["error"]
            scripted.go_on.set()
            assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200, 200]
            assert (await client.post("/explain", content=b"x")).status_code == 200
        assert service.metrics.registry.get_sample_value("onnxplain_queue_images", {"model": "demo"}) == 0

    asyncio.run(check())


def test_each_image_of_a_request_has_a_place_in_the_queue():
    images = {"instances": [{"b64": "AAAA"}] * 3}

    async def check():
        scripted = Scripted()
        async with connect(Service(scripted, Limits(queue=5))) as client:
            first = asyncio.create_task(client.post("/v1/models/demo:predict", json=images))
            while 'onnxplain_queue_images{model="demo"} 3.0' not in (await client.get("/metrics")).text:
                await asyncio.sleep(0)
            assert (await client.post("/v1/models/demo:predict", json=images)).status_code == 429
            scripted.go_on.set()
            assert (await first).status_code == 200
            assert (await client.post("/v1/models/demo:predict", json=images)).status_code == 200

    asyncio.run(check())


def test_an_answer_that_does_not_come_is_503_and_leaves_the_queue():
    async def check():
        service = Service(Scripted(), Limits(answer_seconds=0.05))
        async with connect(service) as client:
            for _ in range(2):
                answer = await client.post("/explain", content=b"x")
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
                assert answer.json()["error"] == "there was no answer within 0.05 seconds"
        assert service.metrics.registry.get_sample_value("onnxplain_queue_images", {"model": "demo"}) == 0

    asyncio.run(check())


def test_a_body_that_does_not_come_is_408():
    async def slow():
        yield b"x"
        await asyncio.sleep(10)

    async def check():
        async with connect(Service(Scripted(), Limits(receive_seconds=0.05))) as client:
            answer = await client.post("/explain", content=slow())
            assert (answer.status_code, answer.headers["connection"]) == (408, "close")

    asyncio.run(check())


def test_only_so_many_bodies_are_received_at_a_time():
    async def check():
        more = asyncio.Event()

        async def slow():
            yield b"x"
            await more.wait()

        scripted = Scripted(Outcome(ANSWER))
        service = Service(scripted, Limits(receiving=1))
        async with connect(service) as client:
            first = asyncio.create_task(client.post("/explain", content=slow()))
            while not service.under_way:
                await asyncio.sleep(0)
            assert (await client.post("/explain", content=b"x")).status_code == 503
            more.set()
            assert (await first).status_code == 200
            assert (await client.post("/explain", content=b"x")).status_code == 200

    asyncio.run(check())


def test_a_service_that_stops_says_so():
    service = make_service([DEMO])
    client = client_of(service)
    service.is_stopping = True
    for path in ("/explain", "/v1/models/demo:predict", "/v2/models/demo/infer"):
        answer = client.post(path, content=IMAGES[0])
        assert (answer.status_code, answer.json()["error"]) == (503, "the service is stopping")
    assert client.get("/v2/health/ready").status_code == client.get("/v2/models/demo/ready").status_code == 503
    assert client.get("/v2/health/live").status_code == 200
    assert client.get("/v1/models/demo").json() == {"name": "demo", "ready": False}


@pytest.mark.parametrize("result", [UnavailableError("dead"), Outcome(error=RunError("no memory"))])
def test_who_cannot_answer_now_is_503(result):
    answer = client_of(Service(Scripted(result), Limits())).post("/explain", content=b"x")
    assert answer.status_code == 503 and answer.headers["retry-after"] == "1"


def test_what_nobody_expected_is_logged_under_the_number_that_the_client_gets(caplog):
    client = client_of(Service(Scripted(KeyError("secret")), Limits()))
    with caplog.at_level(logging.ERROR):
        answer = client.post("/explain", content=b"x")
    assert answer.status_code == 500
    message = answer.json()["error"]
    assert "secret" not in message and "Traceback" not in message
    [record] = caplog.records
    assert message.split()[2].rstrip(";") in record.message and record.exc_info


def test_metrics():
    service = make_service([DEMO])
    client = client_of(service)
    for _ in range(3):
        client.post("/explain", content=IMAGES[0])
    client.post("/v1/models/demo:predict", content=b"x")
    client.get("/nowhere")
    families = text_string_to_metric_families(client.get("/metrics").text)
    samples = {(each.name, *sorted(each.labels.items())): each.value for family in families for each in family.samples}

    def value(name, **labels):
        return samples.get((name, *sorted(labels.items())))

    assert value("onnxplain_requests_total", route="explain", model="demo", status="200") == 3
    assert value("onnxplain_requests_total", route="v1_predict", model="demo", status="422") == 1
    assert value("onnxplain_requests_total", route="", model="", status="404") == 1
    assert value("onnxplain_request_seconds_count", route="explain", model="demo") == 3
    assert value("onnxplain_images_together_count", model="demo") == 3
    assert value("onnxplain_queue_images", model="demo") == 0


def test_several_models(artifact):
    client = client_of(make_service([DEMO, artifact]))
    assert client.get("/v1/models").json() == {"models": ["demo", "tiny"]}
    answer = client.post("/explain", content=IMAGES[0])
    assert (answer.status_code, answer.json()["error"]) == (422, "there are several models; name one: demo, tiny")
    for name, path in (("demo", DEMO), ("tiny", artifact)):
        found = client.post(f"/explain?model={name}", content=IMAGES[0]).json()
        assert found["artifact"] == path.name
        assert found["predictions"][0]["label"] == Explainer(path, "cpu").explain(IMAGES[0]).label
    assert client.post("/explain?model=other", content=IMAGES[0]).status_code == 404


def test_questions_are_answered_together_and_each_as_if_alone():
    explainer = open_explainer(str(DEMO), 1, 2**24)
    asked = [
        Question(image, methods, targets, maps=("input",))
        for methods, targets in [(("legrad",), (1,)), (("legrad",), ("1",)), ((), (-1, -2)), (None, (-1,))]
        for image in (*IMAGES, b"no image")
    ]
    found = answer_all(explainer, asked)
    for question, outcome in zip(asked, found, strict=True):
        [alone] = answer_all(explainer, [question])
        if question.image == b"no image":
            assert str(outcome.error) == str(alone.error) != "None"
            continue
        assert outcome.value.together == (1 if question.methods is None else 5)
        assert [each["target"] for each in outcome.value.explanations] == [
            each["target"] for each in alone.value.explanations
        ]
        for together, single in zip(outcome.value.maps, alone.value.maps, strict=True):
            scale = np.abs(single["input"]).max()
            np.testing.assert_allclose(together["input"], single["input"], atol=1e-4 * scale, rtol=0)


def test_what_all_ask_in_vain_is_each_ones_error():
    explainer = open_explainer(str(DEMO), 1, 2**24)
    found = answer_all(explainer, [Question(IMAGES[0], ("nowhere",)), Question(IMAGES[0], ("legrad",))])
    assert "there is no method" in str(found[0].error) and found[1].error is None


@pytest.mark.parametrize("name", ["a:b", "100%", "\udcff", "line\n"])
def test_files_whose_names_cannot_be_models(name, tmp_path):
    path = tmp_path / f"{name}.onnx"
    path.symlink_to(DEMO)
    with pytest.raises(OnnxplainError, match=r"\.onnx cannot be a model's name in an address"):
        read_models([path])
