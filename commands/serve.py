"""The command serve: explains over HTTP."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

from typer import Argument, Option

from onnxplain.commands import display
from onnxplain.commands.options import Quiet
from onnxplain.contract.errors import OnnxplainError

if TYPE_CHECKING:
    from onnxplain.serving.http.questions import Model


def serve(
    artifacts: Annotated[
        list[Path], Argument(metavar="ARTIFACT", help="Files that export wrote, one for each model, named as the file.")
    ],
    host: Annotated[
        str, Option(metavar="ADDRESS", help="Where to listen; 0.0.0.0 lets other machines ask.")
    ] = "127.0.0.1",
    port: Annotated[int, Option(metavar="N", min=0, max=65535, help="0 takes one that is free.")] = 8000,
    replicas: Annotated[
        int, Option(metavar="N", min=1, max=1000, help="Processes for each model; they share the cores.")
    ] = 1,
    max_body: Annotated[int, Option(metavar="BYTES", min=1, help="Of a request; beyond them 413.")] = 32 * 2**20,
    max_pixels: Annotated[int, Option(metavar="N", min=1, help="Of an image; beyond them 422.")] = 2**25,
    max_queue: Annotated[
        int, Option(metavar="N", min=1, help="Images that wait or are being explained, for each model; then 429.")
    ] = 64,
    max_runs: Annotated[
        int, Option(metavar="N", min=0, help="Runs of the model for a request by methods that need many; else 422.")
    ] = 1000,
    timeout: Annotated[
        float, Option(metavar="SECONDS", min=0.001, help="In which an answer has to be there; else 503.")
    ] = 60,
    quiet: Quiet = False,
) -> None:
    """Explain over HTTP, on Ray Serve: KServe's protocols V1 and V2, POST /explain, and a page for the browser.

    SIGTERM or Ctrl-C lets what is under way end, and refuses the rest with 503; a second Ctrl-C ends at once.
    """
    try:
        from onnxplain.serving.http.on_ray import on_ray
        from onnxplain.serving.http.server import answer_requests, listen, start_listening
    except ModuleNotFoundError as error:
        raise OnnxplainError(f"serve needs {error.name}: pip install 'onnxplain[ray]'") from None
    from onnxplain.serving.http.limits import Limits
    from onnxplain.serving.http.models import read_models
    from onnxplain.serving.http.service import Service

    limits = Limits(
        body=max_body,
        pixels=max_pixels,
        queue=max_queue,
        runs=max_runs,
        answer_seconds=timeout,
        stop_seconds=max(timeout, Limits.stop_seconds),
    )
    console = display.make_console(quiet)
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", level=logging.WARNING)
    with listen(host, port) as taken:
        with console.status(f"loading {', '.join(map(str, artifacts))}"):
            models = read_models(artifacts)
        with on_ray(models, replicas, limits) as explains:
            start_listening(taken)
            _tell(console, taken.getsockname(), models)
            if not answer_requests(Service(explains, limits), taken):
                raise OnnxplainError("stopped while requests were being answered")


def _tell(console: display.PlainConsole, address: tuple[object, ...], models: "Mapping[str, Model]") -> None:
    """Say where the service listens, what it explains with, and how to try it."""
    host, port = address[:2]
    origin = f"http://{f'[{host}]' if ':' in str(host) else host}:{port}"
    for model in models.values():
        metadata = model.metadata
        console.print(f"model {model.name}: {model.artifact}, {len(metadata.labels)} classes", soft_wrap=True)
    name = quote(next(iter(models)))
    which = f"?model={name}" if len(models) > 1 else ""
    console.print(f"listening on {origin}, where there is a page; try:", soft_wrap=True)
    console.print(f"  curl --data-binary @photo.jpg '{origin}/explain{which}'", soft_wrap=True)
    console.print(
        f"  curl --data-binary @photo.jpg -H 'Accept: image/png' -o map.png '{origin}/explain{which}'", soft_wrap=True
    )
