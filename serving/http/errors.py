"""Errors as HTTP tells them: a status, and one line."""

from collections.abc import Mapping

from starlette.responses import Response

from onnxplain.contract.errors import OnnxplainError, RunError

from .responses import json_response

LONGEST_MESSAGE = 1000
"""Characters of a message."""
RETRY_SECONDS = 1
"""When to ask again, of a service that is busy."""


class HttpError(Exception):
    """What a request is refused with.

    Attributes:
        status: Of the answer.
        message: One line.
        headers: Beside those of every answer.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})


def refused(message: str) -> HttpError:
    """Of what the request says: 422."""
    return HttpError(422, message)


def busy(status: int, message: str) -> HttpError:
    """Of a service that may answer later: 429 or 503."""
    return HttpError(status, message, {"Retry-After": str(RETRY_SECONDS)})


def from_error(error: OnnxplainError) -> HttpError:
    """What the runtime refuses is the request's fault, but for runs that fail, as when memory runs out."""
    return busy(503, str(error)) if isinstance(error, RunError) else refused(str(error))


def error_response(error: HttpError) -> Response:
    """In the form that both protocols of KServe have."""
    return json_response({"error": " ".join(error.message.split())[:LONGEST_MESSAGE]}, error.status, error.headers)
