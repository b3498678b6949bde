"""Models in the format of the library transformers: a folder, or a repository on the hub, with a config.json."""

from .load import load

__all__ = ["load"]
