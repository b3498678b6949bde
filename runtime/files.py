"""Files that are read: regular ones only, as the others may have no end, or nobody who writes them."""

from pathlib import Path

from .errors import OnnxplainError


def check_file(path: Path, what: str, missing: str) -> None:
    """Raise OnnxplainError unless there is a regular file at `path`.

    `what` it is to be, such as "an image"; `missing` is what the error says if there is nothing.
    """
    try:
        if path.is_file():
            return
        is_folder, is_there = path.is_dir(), path.exists()
    except OSError as error:  # a name too long, a folder that may not be entered
        raise OnnxplainError(f"{path} cannot be read: {error.strerror or error}") from None
    if is_folder:
        raise OnnxplainError(f"{path} is a folder, not {what}; give a file")
    if is_there:
        raise OnnxplainError(f"{path} is not a regular file but a pipe, socket or device; give {what} as a file")
    raise OnnxplainError(missing)
