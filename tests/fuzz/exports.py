"""`export` up to the moment when it would trace the model: what it has read is compared with what is there."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Inspect = Callable[[Any], str | None]
NOT_FINITE = "logits that are not finite are taken"
"""Found by an inspection where the model is read rightly but of no use: the export itself has to refuse it."""


def imports() -> None:
    """What `export` imports."""
    import timm  # noqa: F401
    from transformers import (  # noqa: F401
        AutoImageProcessor,
        AutoModelForImageClassification,
        CLIPModel,
        CLIPTokenizer,
        ViTForImageClassification,
    )

    from tests.fuzz import artifacts

    artifacts.imports()
    artifacts.ask_in_vain("export", "--model", "timm/no", "--output", "no.onnx")


def export_until_read(arguments: tuple[str, ...], inspect: Inspect) -> Callable[[], None]:
    """The command line, until `export_model` says that it begins to work; then `inspect(backbone)` instead.

    What that finds is left beside the folder. If it is NOT_FINITE, the export goes on to its end.
    """

    def work() -> None:
        from onnxplain import cli
        from onnxplain import export as package

        export_model = package.export_model

        def inspected(backbone: Any, *given: Any, **options: Any) -> Any:
            def stop(stage: str) -> None:
                if place.exists():
                    return
                found = inspect(backbone)
                place.write_text(json.dumps([found]))
                if found != NOT_FINITE:
                    raise SystemExit(0)

            return export_model(backbone, *given, **{**options, "progress": stop})

        place = Path("..", "finding.json").resolve()
        package.export_model = inspected  # type: ignore[assignment]
        cli.app(list(arguments))

    return work
