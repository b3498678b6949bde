"""The artifacts of a service: opened once to see that they can be, and what they say about themselves."""

from collections.abc import Sequence
from pathlib import Path

from onnxplain.contract.digest import file_digest, stored_digest
from onnxplain.contract.errors import OnnxplainError
from onnxplain.contract.formats import format_of
from onnxplain.runtime import Explainer

from .questions import Model


def read_models(artifacts: Sequence[Path]) -> dict[str, Model]:
    """The models by name.

    Raises:
        OnnxplainError: If an artifact cannot be opened, or two have one name.
    """
    models: dict[str, Model] = {}
    for path in artifacts:
        name = path.name.removesuffix(path.suffix)
        if name in models:
            raise OnnxplainError(f"two artifacts would be the model {name}; rename one")
        if not name or not name.isprintable() or set(name) & set("/:?#%"):
            raise OnnxplainError(f"{path} cannot be a model's name in an address; rename it")
        if path.is_file() and format_of(path) != "onnx":
            raise OnnxplainError(f"{path} is not served; export it as a .onnx file")
        metadata = Explainer(path, "cpu").metadata
        digest = stored_digest(path) or file_digest(path)
        models[name] = Model(name, str(path), digest, path.stat().st_size, metadata)
    return models
