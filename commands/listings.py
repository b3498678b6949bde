"""What the commands info, methods, metrics and models tell other programs with --json: one document each."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from onnxplain.contract.digest import stored_digest

if TYPE_CHECKING:
    from onnxplain.catalog import Library, Row
    from onnxplain.contract import Metadata
    from onnxplain.evaluation import Metric
    from onnxplain.runtime import Method
    from onnxplain.runtime.methods.parameters import Parameter

DEMO = {
    "name": "demo",
    "summary": "the small model that comes with onnxplain",
    "classes": 10,
    "prompts": False,
    "weights": None,
}
AsJson = Annotated[bool, Option("--json", help="As one JSON document, for other programs.")]


def print_json(document: Mapping[str, Any]) -> None:
    """Print it in ASCII, whatever the terminal's encoding."""
    print(json.dumps(document, indent=2, allow_nan=False))


def artifact_document(artifact: Path, metadata: "Metadata") -> dict[str, Any]:
    """What info says: the file, its digest, how to run it, the methods that it allows, and all metadata."""
    from onnxplain.contract.interface import description
    from onnxplain.runtime import available_methods

    return {
        "artifact": str(artifact),
        "bytes": artifact.stat().st_size,
        "digest": stored_digest(artifact),
        "methods": [method.name for method in available_methods(metadata)],
        **description(metadata),
    }


def methods_document(methods: Iterable["Method"], metadata: "Metadata | None" = None) -> dict[str, Any]:
    """The methods; with an artifact's metadata, what it says of each."""
    return {"methods": [_method(item, metadata) for item in methods]}


def _method(method: "Method", metadata: "Metadata | None") -> dict[str, Any]:
    """`runs` is the parameter that says how often the file is run; `fixed` are the parameters of a plain artifact."""
    from onnxplain.runtime.methods.choice import fixed_parameters

    fixed = fixed_parameters(method.name, metadata) if metadata and method.name in metadata.heatmaps else None
    return {
        "name": method.name,
        "summary": method.summary,
        "reference": method.reference,
        "passes": list(method.passes),
        "per_class": method.per_target,
        "pixel_level": method.pixel_level,
        "signed": method.signed,
        "relative": method.relative,
        "runs": method.runs,
        "parameters": [] if fixed is not None else [_parameter(item, metadata) for item in method.parameters],
        "fixed": fixed,
        "resolution": metadata.resolution.get(method.name) if metadata else None,
        "missing": method.missing or None,
    }


def _parameter(parameter: "Parameter", metadata: "Metadata | None") -> dict[str, Any]:
    layers = {"layers": "L", "last": "L - 1"}
    if metadata is not None:
        layers = {"layers": str(metadata.layers), "last": str(metadata.layers - 1)}
    return {
        "name": parameter.name,
        "default": parameter.default,
        "summary": parameter.summary,
        "valid": parameter.valid.format(**layers),
        "choices": list(parameter.choices),
    }


def metrics_document(metrics: Iterable["Metric"]) -> dict[str, Any]:
    """The metrics of the command evaluate."""
    names = ("name", "better", "baseline", "default", "summary", "reference")
    return {"metrics": [{name: getattr(row, name) for name in names} for row in metrics]}


def models_document(rows: Iterable["Row"], libraries: Mapping[str, "Library"]) -> dict[str, Any]:
    """The models with a name, and the libraries whose models are named as <library>/<name>.

    Of a model without `classes`, a head or, if it takes `prompts`, these give it classes.
    """
    return {
        "models": [
            {
                "name": row.name,
                "summary": row.about,
                "classes": row.classes,
                "prompts": bool(row.open_clip),
                "weights": row.repository or f"timm/{row.architecture}",
            }
            for row in rows
        ]
        + [DEMO],
        "libraries": [{"name": name, "summary": library.about} for name, library in libraries.items()],
    }
