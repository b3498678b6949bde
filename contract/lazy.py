"""Names that a package has, but imports only when they are used."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def importer(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Make the `__getattr__` of a package whose names are in modules that take time to import.

    Args:
        package: Its `__name__`.
        modules: By name, the module that has it, relative to the package, such as ".metadata".

    Returns:
        A function of a name; it raises AttributeError for any other.
    """

    def get(name: str) -> Any:
        if name in modules:
            return getattr(import_module(modules[name], package), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get
