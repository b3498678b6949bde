"""`POST /explain`: an image as the body, JSON or a PNG as the answer; and what is asked of the service itself."""

from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from onnxplain.contract.names import no_such
from onnxplain.runtime.figures.style import LAYOUTS

from .asked import check_names, map_of, methods_of, targets_of, top_k_of
from .bodies import image_of
from .errors import HttpError, refused
from .questions import TOP_K, Answer, Model, Question
from .responses import explanations, json_response
from .service import Service

JSON, PNG = "application/json", "image/png"
LEVELS = {"*/*": 0, "application/*": 1, "image/*": 1, JSON: 2, PNG: 2}
"""What Accept may say, and how exactly that names a type."""
ONCE = ("model", "layout", "map", "top_k")
SEVERAL = ("method", "target")


def routes(service: Service) -> list[Route]:
    """Those of an explanation, and of metrics."""

    async def explain(request: Request) -> Response:
        given = _query(request)
        model = service.model(request, given.get("model"))
        wanted = accepted(",".join(request.headers.getlist("accept") or ["*/*"]))
        question = _question(given, model, wanted)
        image, name = await image_of(request, await service.body(request, model))
        [answer] = await service.ask(model, [Question(image, *question)])
        if answer.picture is not None:
            return Response(answer.picture, media_type=PNG)
        return json_response(_document(answer, model, name))

    async def metrics(request: Request) -> Response:
        return service.metrics.response()

    return [
        Route("/explain", explain, methods=["POST"]),
        Route("/metrics", metrics),
    ]


def accepted(header: str) -> str:
    """Which of JSON and PNG the client would rather have; JSON if it does not mind.

    Raises:
        HttpError: 406 if it takes neither.
    """
    shares = {JSON: 0.0, PNG: 0.0}
    fits = {JSON: -1, PNG: -1}  # the level of what has said so
    for part in header.split(",")[:100]:
        kind, *parameters = (word.strip().lower() for word in part.split(";"))
        share = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    share = min(1.0, max(0.0, float(parameter[2:])))
                except ValueError:
                    share = 0.0
        for type in shares:
            level = LEVELS.get(kind, -1)
            if level > fits[type] and (level == 0 or type.startswith(kind.rstrip("*"))):
                shares[type], fits[type] = share, level
    best = max(shares, key=lambda type: (shares[type], fits[type], type == JSON))
    if not shares[best] > 0:
        raise HttpError(406, f"the answer is {JSON} or {PNG}; ask for one of them with Accept")
    return best


def _query(request: Request) -> dict[str, Any]:
    """The query's parameters: those of SEVERAL as lists."""
    pairs = request.query_params.multi_items()
    check_names(dict(pairs), (*ONCE, *SEVERAL), "parameters")
    given: dict[str, Any] = {}
    for name, value in pairs:
        if name in SEVERAL:
            given.setdefault(name, []).append(value)
        elif name in given:
            raise refused(f"{name} is given twice; give it once")
        else:
            given[name] = value
    return given


def _question(given: dict[str, Any], model: Model, wanted: str) -> tuple[Any, ...]:
    """The fields of a Question that follow its image."""
    methods, targets = methods_of(given.get("method")), targets_of(given.get("target"))
    digits = given.get("top_k", str(TOP_K))
    top_k = top_k_of(int(digits) if digits.isdecimal() and len(digits) < 10 else None, len(model.metadata.labels))
    maps, layout = map_of(given.get("map")), given.get("layout")
    if wanted == JSON:
        if layout is not None:
            raise refused(f"layout is for pictures; ask for one with Accept: {PNG}, or leave it out")
        return methods, targets, top_k, True, maps, None
    if maps:
        raise refused("map is for JSON; leave it out")
    if max(1, len(methods)) * len(targets) > 1:
        raise refused("a picture shows one method and one target; give one of each")
    layout = LAYOUTS[0] if layout is None else layout
    if layout not in LAYOUTS:
        raise refused(no_such("layout", layout[:100], LAYOUTS))
    return methods, targets, top_k, False, (), layout


def _document(answer: Answer, model: Model, name: str) -> dict[str, Any]:
    """As `explain --json` has it, but without files, and of the artifact's path the name alone."""
    return {
        "image": name,
        "artifact": Path(model.artifact).name,
        "digest": model.digest,
        **answer.about,
        "explanations": explanations(answer),
        "files": [],
    }
