"""The page on which people explain images in their browser, while this service computes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from onnxplain.demo.samples import samples
from onnxplain.runtime.methods.choice import comparable_methods
from onnxplain.web import page_files

from .questions import Model
from .service import Service

POLICY = (
    "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'"
)
HEADERS = {"Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'", "Referrer-Policy": "no-referrer"}
PRIVACY = "Images are sent to the server that this page is from, which explains them and keeps nothing."
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".json": "application/json",
}


def routes(service: Service) -> list[Route]:
    """One for each file of the page, whose bytes are in memory: no path of a request is looked up on the disk."""
    known = _files(service.explains.models)

    async def page(request: Request) -> Response:
        path = request.url.path
        return Response(known[path], headers=HEADERS, media_type=TYPES[Path(path).suffix or ".html"])

    return [Route(path, page) for path in known]


def _files(models: Mapping[str, Model]) -> dict[str, bytes]:
    """By path what it has."""
    found = {f"/{name}": content for name, content in page_files(POLICY, PRIVACY).items()}
    found["/"] = found.pop("/index.html")
    scenes = samples() if any(model.metadata.model == "demo" for model in models.values()) else []
    found |= {f"/samples/{item.path.name}": item.path.read_bytes() for item in scenes}
    document = {
        "models": [_entry(model) for model in models.values()],
        "samples": [{"name": item.path.stem, "file": f"samples/{item.path.name}"} for item in scenes],
    }
    found["/page.json"] = json.dumps(document).encode()
    return found


def _entry(model: Model) -> dict[str, Any]:
    metadata = model.metadata
    methods, _ = comparable_methods(metadata)
    preprocessing = metadata.preprocessing
    return {
        "name": model.name,
        "bytes": model.bytes,
        "methods": [{"name": method.name, "summary": method.summary} for method in methods],
        "classes": len(metadata.labels),
        "patch_grid": metadata.patch_grid,
        "preprocessing": {
            name: getattr(preprocessing, name) for name in ("size", "crop_pct", "crop_mode", "crop_rounding")
        },
    }
