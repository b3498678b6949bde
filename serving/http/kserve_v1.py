"""KServe's V1 protocol: `/v1/models`, and of each model `:predict` and `:explain`."""

import base64
import binascii
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .asked import check_names, map_of, methods_of, targets_of, top_k_of
from .bodies import kind, parse_json
from .errors import json_response, refused
from .questions import TOP_K, Answer, Question
from .service import Service

INSTANCE = 'an instance must be {"image_bytes": {"b64": TEXT}} or {"b64": TEXT}'
VERBS = (":predict", ":explain")
PARAMETERS_PREDICT = ("top_k",)
PARAMETERS_EXPLAIN = ("method", "target", "map", "top_k")


def routes(service: Service) -> list[Route]:
    """Those of the protocol."""

    async def v1_models(request: Request) -> Response:
        return json_response({"models": list(service.explains.models)})

    async def v1_model(request: Request) -> Response:
        name = request.path_params["name"]
        if name.endswith(VERBS):
            raise HTTPException(405, headers={"Allow": "POST"})
        model = service.model(request, name)
        return json_response({"name": model.name, "ready": not service.is_stopping})

    async def v1_predict(request: Request) -> Response:
        answers = await ask(request, PARAMETERS_PREDICT)
        return json_response({"predictions": [dict(answer.about) for answer in answers]})

    async def v1_explain(request: Request) -> Response:
        answers = await ask(request, PARAMETERS_EXPLAIN)
        documents = [{**answer.about, "explanations": explanations(answer)} for answer in answers]
        return json_response({"explanations": documents})

    async def ask(request: Request, known: tuple[str, ...]) -> list[Answer]:
        check_names(request.query_params, (), "parameters of the query")
        model = service.model(request, request.path_params["name"])
        document = parse_json(await service.body(request, model))
        check_names(document, ("instances", "parameters"), "fields of the body")
        parameters = document.get("parameters", {})
        if not isinstance(parameters, dict):
            raise refused(f"parameters must be an object, got {kind(parameters)}")
        check_names(parameters, known, "parameters")
        top_k = top_k_of(parameters.get("top_k", TOP_K), len(model.metadata.labels))
        images = _images(document.pop("instances", None))
        if known is PARAMETERS_PREDICT:
            questions = [Question(image, None, top_k=top_k) for image in images]
        else:
            methods, targets = methods_of(parameters.get("method")), targets_of(parameters.get("target"))
            maps = map_of(parameters.get("map", "input"))
            questions = [Question(image, methods, targets, top_k, True, maps) for image in images]
        return await service.ask(model, questions)

    return [
        Route("/v1/models", v1_models),
        Route("/v1/models/{name}:predict", v1_predict, methods=["POST"]),
        Route("/v1/models/{name}:explain", v1_explain, methods=["POST"]),
        Route("/v1/models/{name}", v1_model),
    ]


def encoded_map(values: NDArray[np.float32]) -> dict[str, Any]:
    """A map as JSON holds it: its numbers row by row, least byte first, in base64."""
    data = base64.b64encode(values.astype("<f4").tobytes()).decode()
    return {"shape": list(values.shape), "dtype": "float32", "b64": data}


def decoded_image(text: object) -> bytes:
    """The bytes of an image in base64.

    Raises:
        HttpError: 422, if it is none.
    """
    if not isinstance(text, str) or not text:
        raise refused(f"an image must be a text in base64, got {kind(text) if text != '' else 'an empty text'}")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise refused(f"an image is not base64: {error}") from None


def _images(instances: object) -> list[bytes]:
    if not isinstance(instances, list) or not instances:
        said = "an empty one" if instances == [] else kind(instances)
        raise refused(f"instances must be a list of at least one image, got {said}; {INSTANCE}")
    images = []
    for instance in instances:
        inner = instance.get("image_bytes", instance) if isinstance(instance, dict) else None
        if not isinstance(inner, dict) or set(inner) != {"b64"} or (inner is not instance and len(instance) > 1):
            raise refused(INSTANCE)
        images.append(decoded_image(inner["b64"]))
    return images


def explanations(answer: Answer) -> list[dict[str, Any]]:
    """What is said of each method and target, and the map, where it was asked for."""
    listed = []
    for explanation, maps in zip(answer.explanations, answer.maps, strict=True):
        document = dict(explanation)
        for values in maps.values():
            document["map"] = encoded_map(values)
        listed.append(document)
    return listed
