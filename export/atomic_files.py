"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from safetensors import SafetensorError

from onnxplain.contract import OnnxplainError
from onnxplain.runtime.files import unfinished

CANNOT_GROW = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""What the system says of a file that can be written no further."""


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a path in another folder that becomes ``path`` if the block ends well, and vanishes if it does not.

    Folders on the way are made, and removed again if the block does not end well.

    Raises:
        OnnxplainError: The folder or the file cannot be written.
    """
    if path.is_dir():
        raise OnnxplainError(f"cannot write {path}: it is a folder; give the name of a file")
    with ExitStack() as stack:
        try:
            temporary = stack.enter_context(unfinished(path.parent)) / path.name
            temporary.touch()
            mode = temporary.stat().st_mode  # what is usual here; safetensors gives files to their owner alone
        except OSError as error:
            raise OnnxplainError(f"cannot write {path}: {error.filename}: {error.strerror}") from error
        try:
            yield temporary
            temporary.chmod(mode)
            temporary.replace(path)
        except (OSError, SafetensorError) as error:
            of_writing = isinstance(error, SafetensorError) or error.errno in CANNOT_GROW
            if not of_writing:
                raise
            raise OnnxplainError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error
