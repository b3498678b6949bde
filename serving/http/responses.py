"""What answers hold, whichever protocol they go by."""

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.responses import Response

from .questions import Answer


def json_response(document: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON in ASCII, with finite numbers."""
    body = json.dumps(document, allow_nan=False)
    return Response(body, status, headers, media_type="application/json")


def encoded_map(values: NDArray[np.float32]) -> dict[str, Any]:
    """A map as JSON holds it: its numbers row by row, least byte first, in base64."""
    data = base64.b64encode(values.astype("<f4").tobytes()).decode()
    return {"shape": list(values.shape), "dtype": "float32", "b64": data}


def explanations(answer: Answer) -> list[dict[str, Any]]:
    """What is said of each method and target, and the map, where it was asked for."""
    listed = []
    for explanation, maps in zip(answer.explanations, answer.maps, strict=True):
        document = dict(explanation)
        for values in maps.values():
            document["map"] = encoded_map(values)
        listed.append(document)
    return listed
