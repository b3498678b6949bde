"""What `onnxplain serve` prints when it listens."""

import io
import shlex
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest

from onnxplain.commands import display
from onnxplain.commands.serve import _tell


def told(address, *names):
    """The addresses in the commands that are printed."""
    console = display.PlainConsole(file=io.StringIO())
    metadata = SimpleNamespace(labels=("a", "b"))
    models = {name: SimpleNamespace(name=name, artifact=f"{name}.onnx", metadata=metadata) for name in names}
    _tell(console, address, models)
    lines = console.file.getvalue().splitlines()
    return [shlex.split(line)[-1] for line in lines if line.startswith("  curl ")]


@pytest.mark.parametrize("name", ["vit", "my model", "vit+cls", "größe", "a&b=c"])
def test_the_commands_name_a_model_where_there_are_several(name):
    for address in told(("127.0.0.1", 80), name, "other"):
        parts = urlsplit(address)
        assert (parts.netloc, parts.path, parse_qs(parts.query)) == ("127.0.0.1:80", "/explain", {"model": [name]})


def test_the_commands_name_no_model_where_there_is_one():
    assert told(("::1", 8000, 0, 0), "my model") == ["http://[::1]:8000/explain"] * 2
