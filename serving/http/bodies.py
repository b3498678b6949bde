"""The body of a request: read within limits, and taken apart."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from onnxplain.contract.errors import one_line

from .errors import HttpError, refused
from .limits import Limits

FIELD = "image"
VALUES = 10**5
"""Of a JSON document."""


async def read_body(request: Request, limits: Limits) -> bytes:
    """The whole body, which is counted while it comes, whatever its length is said to be.

    Raises:
        HttpError: 413 if it is too long, 408 if it takes too long.
        ClientDisconnect: If the client leaves.
    """
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > limits.body:
        raise _too_long(limits)
    body = bytearray()
    try:
        async with asyncio.timeout(limits.receive_seconds):
            async for part in request.stream():
                body += part
                if len(body) > limits.body:
                    raise _too_long(limits)
    except TimeoutError:
        raise HttpError(
            408, f"the body did not come within {limits.receive_seconds:g} seconds", {"Connection": "close"}
        ) from None
    return bytes(body)


def _too_long(limits: Limits) -> HttpError:
    return HttpError(413, f"the body is longer than the limit of {limits.body} bytes")


def parse_json(body: bytes) -> dict[str, Any]:
    """The object that a body is.

    Raises:
        HttpError: 422, if it is none, or has more values than any request needs, which would take seconds to read.
    """
    if body.count(b",") > VALUES:
        raise refused(f"the body has more than {VALUES} values")
    try:
        document = json.loads(body, parse_constant=_not_a_number)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise refused(f"the body is not JSON: {one_line(error)}") from None
    if not isinstance(document, dict):
        raise refused(f"the body must be a JSON object, got {kind(document)}")
    return document


def _not_a_number(text: str) -> None:
    raise ValueError(f"{text} is no number in JSON")


def kind(value: object) -> str:
    """What JSON calls a value."""
    names: dict[type, str] = {dict: "an object", list: "a list", str: "a string", bool: "a truth value"}
    return names.get(type(value), "null" if value is None else "a number")


async def image_of(request: Request, body: bytes) -> tuple[bytes, str]:
    """The image that a body is, or that a form has as its field `image`, and its name.

    Raises:
        HttpError: 422, if the form is another.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        if not body:
            raise refused(f"the body is empty; send an image, as it is or in a form's field {FIELD}")
        return body, FIELD

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    wanted = f"a form must have one field, {FIELD}, with one file; all else stands in the query"
    try:
        form = await MultiPartParser(request.headers, stream(), max_files=1, max_fields=0).parse()
    except MultiPartException as error:
        raise refused(f"the form cannot be read: {one_line(error.message)}; {wanted}") from None
    except (ValueError, LookupError) as error:  # of headers within the form
        raise refused(f"the form cannot be read: {one_line(error)}; {wanted}") from None
    try:
        [(name, file)] = form.multi_items() or [("", "")]
        if name != FIELD or not isinstance(file, UploadFile):
            raise refused(wanted)
        return await file.read(), file.filename or FIELD
    finally:
        await form.close()
