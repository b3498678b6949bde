"""`export` up to the moment when it would trace the model: what it has read is compared with what is there."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Inspect = Callable[[Any], str | None]


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

    import onnxplain.export.from_timm
    import onnxplain.export.from_transformers  # noqa: F401
    from fuzz import artifacts

    artifacts.imports()
    artifacts.ask_in_vain("export", "--model", "timm/no", "--output", "no.onnx")


def export_until_read(arguments: tuple[str, ...], inspect: Inspect) -> Callable[[], None]:
    """The command line, with `inspect(backbone)` for `export_model`; what it finds is left beside the folder."""

    def work() -> None:
        from onnxplain import cli
        from onnxplain import export as package

        def inspected(backbone: Any, path: Path, *_: Any, **__: Any) -> None:
            Path("..", "finding.json").write_text(json.dumps([inspect(backbone)]))
            raise SystemExit(0)

        package.export_model = inspected  # type: ignore[assignment]
        cli.app(list(arguments))

    return work
