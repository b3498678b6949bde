"""The Open Inference Protocol, KServe's V2: metadata, health, and `infer` with images in base64, in JSON."""

from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from onnxplain.contract.metadata import Metadata

from .asked import check_names, decoded_image, methods_of, targets_of
from .bodies import kind, parse_json
from .errors import refused
from .questions import Answer, Question
from .responses import json_response
from .service import Service

NAME = "onnxplain"
BINARY = "inference-header-content-length"
AS_TEXT = 8
"""How many times as long numbers take as text than in base64."""


class Output(NamedTuple):
    """A tensor of the answer.

    Attributes:
        datatype: As the protocol names it.
        shape: Without the images' axis; -1 for the number of targets.
        values: Of one image.
    """

    datatype: str
    shape: Callable[[Metadata], tuple[int, ...]]
    values: Callable[[Answer], Any]


def _each(name: str) -> Callable[[Answer], list[Any]]:
    return lambda answer: [explanation[name] for explanation in answer.explanations]


def _maps(name: str) -> Callable[[Answer], NDArray[np.float32]]:
    return lambda answer: np.stack([maps[name] for maps in answer.maps])


def _probabilities(answer: Answer) -> list[float]:
    listed = {each["index"]: each["probability"] for each in answer.about["predictions"]}
    return [listed[index] for index in range(len(listed))]


OUTPUTS = {
    "class_index": Output("INT64", lambda metadata: (-1,), _each("target")),
    "label": Output("BYTES", lambda metadata: (-1,), _each("label")),
    "score": Output("FP32", lambda metadata: (-1,), _each("score")),
    "probability": Output("FP32", lambda metadata: (-1,), _each("probability")),
    "probabilities": Output("FP32", lambda metadata: (len(metadata.labels),), _probabilities),
    "tokens": Output("FP32", lambda metadata: (-1, *metadata.patch_grid), _maps("tokens")),
    "heatmap": Output("FP32", lambda metadata: (-1, *metadata.preprocessing.size), _maps("input")),
    "seen": Output("INT64", lambda metadata: (4,), lambda answer: answer.about["seen"]),
}
MAP_SIZE_OF = {"tokens": "tokens", "heatmap": "input"}


def routes(service: Service) -> list[Route]:
    """Those of the protocol."""

    async def v2_server(request: Request) -> Response:
        return json_response({"name": NAME, "version": version("onnxplain"), "extensions": []})

    async def v2_live(request: Request) -> Response:
        return json_response({"live": True})

    async def v2_ready(request: Request) -> Response:
        return json_response({"ready": not service.is_stopping}, 503 if service.is_stopping else 200)

    async def v2_model_ready(request: Request) -> Response:
        model = service.model(request, request.path_params["name"])
        return json_response(
            {"name": model.name, "ready": not service.is_stopping}, 503 if service.is_stopping else 200
        )

    async def v2_model(request: Request) -> Response:
        model = service.model(request, request.path_params["name"])
        outputs = [
            {"name": name, "datatype": output.datatype, "shape": [-1, *output.shape(model.metadata)]}
            for name, output in OUTPUTS.items()
        ]
        inputs = [
            {"name": "image", "datatype": "BYTES", "shape": [-1]},
            {"name": "target", "datatype": "INT64", "shape": [-1, -1]},
        ]
        platform = f"{NAME}_{model.metadata.model}"
        return json_response({"name": model.name, "platform": platform, "inputs": inputs, "outputs": outputs})

    async def v2_infer(request: Request) -> Response:
        model = service.model(request, request.path_params["name"])
        check_names(request.query_params, (), "parameters of the query")
        if BINARY in request.headers:
            raise refused("tensors are taken in JSON only; leave out Inference-Header-Content-Length")
        document = parse_json(await service.body(request, model))
        check_names(document, ("id", "inputs", "outputs", "parameters"), "fields of the body")
        identity = document.get("id", "")
        if not isinstance(identity, str):
            raise refused(f"id must be a text, got {kind(identity)}")
        names = _outputs(document.get("outputs"))
        inputs = _inputs(document.get("inputs"))
        images = [decoded_image(each) for each in inputs["image"]]
        parameters = document.get("parameters", {})
        if not isinstance(parameters, dict):
            raise refused(f"parameters must be an object, got {kind(parameters)}")
        check_names(parameters, ("method", "target"), "parameters")
        methods = methods_of(parameters.get("method"))
        if len(methods) > 1:
            raise refused("V2 explains by one method in a request; give one")
        if "target" in inputs and "target" in parameters:
            raise refused("target is given twice, as an input and as a parameter; give it once")
        rows = inputs.get("target", [parameters.get("target")] * len(images))
        if len(rows) != len(images):
            raise refused(f"target has {len(rows)} rows for {len(images)} images; give one for each")
        maps = tuple(MAP_SIZE_OF[name] for name in names if name in MAP_SIZE_OF)
        questions = [
            Question(image, methods, targets_of(row), None, maps=maps) for image, row in zip(images, rows, strict=True)
        ]
        if len({len(question.targets) for question in questions}) > 1:
            raise refused("all images must have equally many targets")
        del document, inputs, images, rows  # or their memory would be held until the answer is there
        answers = await service.ask(model, questions, service.limits.values // AS_TEXT)
        tensors = [_tensor(name, answers) for name in names]
        return json_response({"model_name": model.name, **({"id": identity} if identity else {}), "outputs": tensors})

    return [
        Route("/v2", v2_server),
        Route("/v2/health/live", v2_live),
        Route("/v2/health/ready", v2_ready),
        Route("/v2/models/{name}", v2_model),
        Route("/v2/models/{name}/ready", v2_model_ready),
        Route("/v2/models/{name}/infer", v2_infer, methods=["POST"]),
    ]


def _tensor(name: str, answers: Sequence[Answer]) -> dict[str, Any]:
    output = OUTPUTS[name]
    values = [output.values(answer) for answer in answers]
    if output.datatype == "BYTES":
        shape, data = [len(values), len(values[0])], [text for row in values for text in row]
    else:
        array = np.asarray(values, {"INT64": np.int64, "FP32": np.float32}[output.datatype])
        shape, data = list(array.shape), array.ravel().tolist()
    return {"name": name, "datatype": output.datatype, "shape": shape, "data": data}


def _outputs(given: object) -> list[str]:
    """The names of the outputs asked for; all, where none is."""
    if given is None or given == []:
        return list(OUTPUTS)
    if not isinstance(given, list) or not all(
        isinstance(each, dict) and isinstance(each.get("name"), str) for each in given
    ):
        raise refused("outputs must be a list of objects with a name")
    for each in given:
        check_names(each, ("name", "parameters"), "fields of an output")
        _check_parameters(each)
    names = [each["name"] for each in given]
    check_names(dict.fromkeys(names), tuple(OUTPUTS), "outputs")
    if len(set(names)) < len(names):
        raise refused("an output is asked for twice")
    return names


def _inputs(given: object) -> dict[str, list[Any]]:
    """The rows of each input, by name."""
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
        raise refused(f"inputs must be a list of tensors, got {kind(given)}")
    found: dict[str, list[Any]] = {}
    for tensor in given:
        name = tensor.get("name")
        if not isinstance(name, str):
            raise refused("an input must have a name")
        _check_parameters(tensor)
        check_names({name: None}, ("image", "target"), "inputs")
        if name in found:
            raise refused(f"input {name} is given twice")
        check_names(tensor, ("name", "shape", "datatype", "data", "parameters"), f"fields of input {name}")
        found[name] = _rows(name, tensor)
    if not found.get("image"):
        raise refused("input image is missing: datatype BYTES, shape [n], data of n texts in base64")
    return found


def _rows(name: str, tensor: dict[str, Any]) -> list[Any]:
    """A tensor's data: of image [n] a list, of target [n, targets] a list of lists."""
    datatypes, axes = (("BYTES",), 1) if name == "image" else (("INT64", "BYTES"), 2)
    shape, data = tensor.get("shape"), tensor.get("data")
    if tensor.get("datatype") not in datatypes:
        raise refused(f"input {name} must have the datatype {' or '.join(datatypes)}")
    if (
        not isinstance(shape, list)
        or len(shape) != axes
        or not all(type(length) is int and 0 < length < 2**31 for length in shape)
    ):
        raise refused(f"input {name} must have a shape of {axes} whole number{'s' if axes > 1 else ''} above 0")
    if not isinstance(data, list):
        raise refused(f"data of input {name} must be a list, got {kind(data)}")
    is_nested = axes == 2 and any(isinstance(row, list) for row in data)
    lengths = [len(row) if isinstance(row, list) else None for row in data]
    if is_nested and lengths != [shape[1]] * shape[0]:
        raise refused(
            f"data of input {name} must be flat, or {shape[0]} lists of {shape[1]}, as its shape {shape} says"
        )
    flat = [item for row in data for item in row] if is_nested else data
    if len(flat) != int(np.prod(shape, dtype=object)):
        raise refused(f"input {name} has the shape {shape} and {len(flat)} values")
    if axes == 1:
        return flat
    kind_of_value = int if tensor["datatype"] == "INT64" else str
    if not all(type(item) is kind_of_value for item in flat):
        raise refused(f"input {name} has the datatype {tensor['datatype']}, and data that are not of it")
    return [flat[start : start + shape[1]] for start in range(0, len(flat), shape[1])]


def _check_parameters(tensor: dict[str, Any]) -> None:
    """Raise HttpError if a tensor has parameters, but that it is to be JSON, which it is in any case."""
    if tensor.get("parameters", {}) not in ({}, {"binary_data": False}):
        raise refused('a tensor\'s parameters can only be {"binary_data": false}')
