"""Options that belong together as one record: a dataclass each field of which is an option of the command."""

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import wraps
from typing import Any


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command have each field of its parameters that are such records as an option of its own for typer."""
    parameters = inspect.signature(command).parameters
    groups: dict[str, Any] = {
        name: each.annotation for name, each in parameters.items() if is_dataclass(each.annotation)
    }

    @wraps(command)
    def with_records(**given: Any) -> None:
        records = {
            name: kind(**{item.name: given.pop(item.name) for item in fields(kind)}) for name, kind in groups.items()
        }
        command(**given, **records)

    shown = []
    for name, each in parameters.items():
        own = inspect.signature(groups[name]).parameters.values() if name in groups else [each]
        shown += [item.replace(kind=inspect.Parameter.KEYWORD_ONLY) for item in own]
    with_records.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    with_records.__annotations__ = {each.name: each.annotation for each in shown}
    return with_records
