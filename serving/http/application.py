"""The application: routes, what becomes of errors, and what is counted. It knows nothing of Ray."""

import asyncio
import logging
import time
import uuid
from contextlib import suppress

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import kserve_v1, open_inference, page, plain
from .errors import HttpError, error_response
from .service import Service

LOG = logging.getLogger("onnxplain.serve")


def build_application(service: Service) -> Starlette:
    """The application over a service."""
    parts = (kserve_v1, open_inference, plain, page)
    application = Starlette(
        routes=[route for part in parts for route in part.routes(service)],
        middleware=[
            Middleware(_Counted, service=service),
            Middleware(_Drained, seconds=service.limits.receive_seconds),
        ],
        exception_handlers={HttpError: _refuse, HTTPException: _refuse_route},
    )
    application.router.redirect_slashes = False
    return application


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HttpError)
    return error_response(error)


async def _refuse_route(request: Request, error: Exception) -> Response:
    """What Starlette itself refuses: paths and verbs that there are not."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        message = f"{request.method[:20]} is not possible here; possible is {headers.get('Allow')}"
    elif error.status_code == 404:
        message = "there is nothing at this address"
    else:
        message = str(error.detail)
    return error_response(HttpError(error.status_code, message, headers))


class _Counted:
    """Counts requests, and answers an unexpected error with a number that the log has too."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0

        async def send_counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message.setdefault("headers", []).append((b"x-content-type-options", b"nosniff"))
            await send(message)

        self._service.under_way += 1
        try:
            await self._app(scope, receive, send_counted)
        except ClientDisconnect:
            status = status or 499  # as nginx counts clients that left
        except Exception:
            number = uuid.uuid4().hex[:12]
            LOG.exception("unexpected error %s", number)
            if status:
                raise
            message = f"unexpected error {number}; the log of the service has it under this number"
            await error_response(HttpError(500, message))(scope, receive, send_counted)
        finally:
            self._service.under_way -= 1
            route, model = getattr(scope.get("endpoint"), "__name__", ""), scope.get("onnxplain.model", "")
            self._service.metrics.answered(route, model, status, time.perf_counter() - start)


class _Drained:
    """Throws away what still comes of the body of a request that has been refused, before the connection may close.

    A client that sends all before it reads would lose the answer if the connection closed earlier (RFC 9112, 9.6). What
    has not come in `seconds` after the headers is not waited for.
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app, self._seconds = app, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        deadline = asyncio.get_running_loop().time() + self._seconds
        # a client that asks whether it may send does not, once it is refused
        is_whole = any(name == b"expect" for name, _ in scope["headers"])

        async def receive_noted() -> Message:
            nonlocal is_whole
            message = await receive()
            is_whole = message["type"] == "http.disconnect" or not message.get("more_body", False)
            return message

        async def send_drained(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                await send({**message, "more_body": True})
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(deadline):
                        while not is_whole:
                            await receive_noted()
                message = {"type": "http.response.body"}
            await send(message)

        await self._app(scope, receive_noted, send_drained)
