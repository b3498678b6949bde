"""The blocks of code in a document, and how its commands are run: as they stand, in this process where that can be."""

import re
import shlex
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.helpers.command_line import run

ROOT = Path(__file__).parents[2]
MAKE = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """(language, code) of each block, in order; blocks without a language hold commands."""
    return iter(re.findall(r"^```([\w{}-]*)[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


def run_blocks(text: str, scope: dict[str, Any], stand_ins: Mapping[str, str]) -> int:
    """Run all commands and Python of a document in the current folder.

    Args:
        text: The document.
        scope: What its Python finds; what it makes is added.
        stand_ins: Words of commands, and what stands in their place here, such as a small model.

    Returns:
        How many commands and blocks of Python were run.
    """
    count = 0
    for language, code in blocks(text):
        if language == "python":
            exec(code, scope)
            count += 1
        elif language in ("", "sh"):
            for line in filter(None, map(str.strip, code.splitlines())):
                run_command([stand_ins.get(word, word) for word in shlex.split(line, comments=True)])
                count += 1
        else:
            assert language in ("js", "csharp") or language.startswith("{"), f"who runs blocks of {language}?"
    return count


def run_command(words: list[str]) -> None:
    """Run a command, or see that what it names exists; fails if it fails, or if nothing is known of it."""
    match words:
        case []:
            pass
        case ["onnxplain", *arguments]:
            done = run(*arguments)
            assert done.exit_code == 0, f"{shlex.join(words)}\n{done.output}\n{done.exception!r}"
        case ["make", *targets]:
            assert set(targets) <= set(MAKE), words
        case ["pip", "install", what]:
            assert (found := re.fullmatch(r"onnxplain\[([a-z_,]+)\]", what)) and set(found[1].split(",")) <= set(EXTRAS)
        case ["python", "-m", "http.server", "--directory", folder, "8000"]:
            serve_once(folder)
        case _:
            raise AssertionError(f"how is this command run? {shlex.join(words)}")


def serve_once(folder: str) -> None:
    """Python's web server, on a port that is free, and one page of it."""
    command = [sys.executable, "-u", "-m", "http.server", "--directory", folder, "--bind", "127.0.0.1", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            address = re.search(r"\((http://[^)]+)\)", server.stdout.readline())[1]
            with urllib.request.urlopen(address) as answer:
                assert b"<html" in answer.read()
        finally:
            server.kill()
