"""The command page: a static page that explains images in the browser, with the artifacts in it."""

import json
import shlex
import shutil
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

from typer import Argument, Option

from onnxplain.commands import display
from onnxplain.commands.new_folder import check_new_folder, new_folder
from onnxplain.commands.options import Force, Quiet
from onnxplain.contract.errors import OnnxplainError
from onnxplain.contract.formats import format_of
from onnxplain.web import page_files

if TYPE_CHECKING:
    from onnxplain.contract import Metadata

RUNTIME: dict[str, Any] = json.loads((files("onnxplain.web") / "onnxruntime-web.json").read_text(encoding="utf-8"))
PRIVACY = "Runs in your browser: images never leave this computer."
GENERATOR = {"generator": "onnxplain page"}
"""What page.json begins with, by which a folder is known as one that this command has written."""
SUFFIXES = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
"""Of images that every browser reads."""


def page(
    artifacts: Annotated[
        list[Path], Argument(metavar="ARTIFACT", help="Files that export --heatmaps wrote, one for each model.")
    ],
    output: Annotated[Path, Option(metavar="FOLDER", help="Where to write.")] = Path("site"),
    sample: Annotated[
        list[Path] | None,
        Option(
            metavar="IMAGE",
            help="An image to begin with. Can be repeated.",
            show_default="the demo's, of the demo model",
        ),
    ] = None,
    onnxruntime_web: Annotated[
        Path | None,
        Option(
            metavar="FOLDER",
            help="The npm package onnxruntime-web, which becomes a part of the page.",
            show_default=f"version {RUNTIME['version']} from cdn.jsdelivr.net",
        ),
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Write a static page on which people explain images in their browser, with these models.

    The folder can be served by any web server. Images stay with who chooses them: the model runs in the browser.
    """
    console = display.make_console(quiet)
    runtime = _find_runtime(onnxruntime_web) if onnxruntime_web else None
    check_new_folder(output, "--output", "a page", _is_page, force)
    models = [_model(path, artifacts) for path in artifacts]
    samples = _samples(sample, [metadata for _, metadata in models])
    document = {
        **GENERATOR,
        "models": [entry for entry, _ in models],
        "samples": [{"name": path.stem, "file": f"samples/{quote(path.name)}"} for path in samples],
        "runtime": _runtime_addresses(runtime),
    }
    with new_folder(output) as folder:
        for name, content in page_files(_policy(runtime), PRIVACY).items():
            (folder / name).write_bytes(content)
        (folder / "page.json").write_text(json.dumps(document, ensure_ascii=False, indent=1), encoding="utf-8")
        copied = {f"models/{path.name}": path for path in artifacts}
        copied |= {f"samples/{path.name}": path for path in samples}
        copied |= {f"onnxruntime-web/{path.name}": path for path in runtime or ()}
        for name, path in copied.items():
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(path, folder / name)
    console.print(f"wrote {output}", soft_wrap=True)
    serve = f"python -m http.server --directory {shlex.quote(str(output))}"
    console.print(f"try: {serve}, and open http://localhost:8000", soft_wrap=True)


def _model(path: Path, artifacts: Sequence[Path]) -> tuple[dict[str, Any], "Metadata"]:
    """The entry of page.json for an artifact, which is checked, and its metadata."""
    from onnxplain.runtime import Explainer, available_methods

    if [other.name for other in artifacts].count(path.name) > 1:
        raise OnnxplainError(f"two artifacts are called {path.name}, by which the page names them; rename one")
    if format_of(path) != "onnx":
        raise OnnxplainError(f"{path} cannot run in a browser; export it as a .onnx file")
    metadata = Explainer(path, "cpu").metadata
    if not metadata.heatmaps:
        raise OnnxplainError(
            f"{path} has no heatmaps in its graph, as a page needs; write it with: onnxplain export --heatmaps METHOD"
        )
    methods = [{"name": method.name, "summary": method.summary} for method in available_methods(metadata)]
    entry = {"name": path.stem, "file": f"models/{quote(path.name)}", "bytes": path.stat().st_size, "methods": methods}
    return entry, metadata


def _samples(given: Sequence[Path] | None, models: Sequence["Metadata"]) -> list[Path]:
    """The images to begin with: those given, else the demo's scenes if one of the models knows what is in them."""
    from onnxplain.demo.samples import samples
    from onnxplain.runtime import load_image

    if not given:
        return [item.path for item in samples()] if any(each.model == "demo" for each in models) else []
    for path in given:
        if path.suffix.lower() not in SUFFIXES:
            raise OnnxplainError(f"{path} is no image that browsers read; give one of {', '.join(SUFFIXES)}")
        if [other.name for other in given].count(path.name) > 1:
            raise OnnxplainError(f"two samples are called {path.name}; rename one")
        load_image(path)
    return list(given)


def _find_runtime(folder: Path) -> list[Path]:
    """The two files of onnxruntime-web that the page needs, of a folder that has them, or has them in dist."""
    names = [RUNTIME["script"], RUNTIME["wasm"]]
    for place in (folder / "dist", folder):
        found = [place / name for name in names]
        if all(path.is_file() for path in found):
            return found
    raise OnnxplainError(
        f"{folder} has no {' and '.join(names)}; give the folder node_modules/onnxruntime-web that "
        f"npm install onnxruntime-web@{RUNTIME['version']} makes"
    )


def _runtime_addresses(copied: Sequence[Path] | None) -> dict[str, Any]:
    """Where the page finds onnxruntime-web; the integrity says what another server may give."""
    if copied:
        return {name: f"onnxruntime-web/{RUNTIME[name]}" for name in ("script", "wasm")}
    addresses = {name: RUNTIME["address"] + RUNTIME[name] for name in ("script", "wasm")}
    return {**addresses, "integrity": RUNTIME["integrity"]}


def _policy(copied: Sequence[Path] | None) -> str:
    """The content security policy: nothing but the page's own files, and onnxruntime-web where it comes from elsewhere.

    That script is fetched, compared with its integrity and run from memory, hence blob: in place of the other server.
    """
    memory, other = ("", "") if copied else (" blob:", f" {RUNTIME['address']}")
    return (
        f"default-src 'none'; script-src 'self' 'wasm-unsafe-eval'{memory}; worker-src 'self'{memory}; "
        f"style-src 'self'; img-src 'self'; connect-src 'self'{other}; base-uri 'none'; form-action 'none'"
    )


def _is_page(folder: Path) -> bool:
    try:
        document = json.loads((folder / "page.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and document.items() >= GENERATOR.items()
