"""KServe's V1 protocol: `/v1/models`, and of each model `:predict` and `:explain`."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from onnxplain.contract.names import no_such

from .asked import LONGEST_NAME, check_names, decoded_image, map_of, methods_of, targets_of, top_k_of
from .bodies import kind, parse_json
from .errors import HttpError, refused
from .questions import TOP_K, Answer, Question
from .responses import explanations, json_response
from .service import Service

INSTANCE = 'an instance must be {"image_bytes": {"b64": TEXT}} or {"b64": TEXT}'
VERBS = ("predict", "explain")
PARAMETERS_PREDICT = ("top_k",)
PARAMETERS_EXPLAIN = ("method", "target", "map", "top_k")


def routes(service: Service) -> list[Route]:
    """Those of the protocol."""

    async def v1_models(request: Request) -> Response:
        return json_response({"models": list(service.explains.models)})

    async def v1_model(request: Request) -> Response:
        model = service.model(request, request.path_params["name"])
        return json_response({"name": model.name, "ready": not service.is_stopping})

    async def v1_verb(request: Request) -> Response:
        verb = request.path_params["verb"]
        if verb in VERBS:
            raise HTTPException(405, headers={"Allow": "POST"})
        raise HttpError(404, no_such("verb", verb[:LONGEST_NAME], VERBS))

    async def v1_predict(request: Request) -> Response:
        answers = await answers_to(request, PARAMETERS_PREDICT)
        return json_response({"predictions": [dict(answer.about) for answer in answers]})

    async def v1_explain(request: Request) -> Response:
        answers = await answers_to(request, PARAMETERS_EXPLAIN)
        documents = [{**answer.about, "explanations": explanations(answer)} for answer in answers]
        return json_response({"explanations": documents})

    async def answers_to(request: Request, known: tuple[str, ...]) -> list[Answer]:
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
        Route("/v1/models/{name}:{verb}", v1_verb, methods=["GET", "POST"]),
        Route("/v1/models/{name}", v1_model),
    ]


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
