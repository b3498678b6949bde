"""Downloads from the hub of Hugging Face, and errors in one line that say what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import tqdm

from onnxplain.contract import OnnxplainError
from onnxplain.contract.digest import file_digest
from onnxplain.contract.errors import one_line

from .checkpoints import TOKENIZERS, WEIGHTS

Progress = Callable[[str], None]
"""Called with what is being downloaded, and how much of it is here, in words."""

DESCRIPTIONS = ("config.json", "preprocessor_config.json", "processor_config.json")
"""The files that say what model it is and what images it takes."""
TEXTS = ("open_clip_config.json", "tokenizer_config.json", "merges.txt", "special_tokens_map.json", *TOKENIZERS)
"""The files of a tokenizer, as far as a repository has them."""
OVERLOADED = (408, 429)
"""HTTP statuses that say nothing about the repository, beside those from 500 on."""
INSTEAD = "; give `checkpoint` with a file or folder you have, or `random_init=True` to go without"
LOG_IN = "log in with hf auth login"


class Repository:
    """A repository on the hub, or where the hub does not answer, its files in the cache.

    Args:
        name: <owner>/<name>.
        progress: Called with how far downloads are.

    Attributes:
        unreachable: Why the hub does not answer, None if it does.
    """

    def __init__(self, name: str, progress: Progress) -> None:
        self.name, self.progress = name, progress
        self.unreachable = _why_unreachable(name)

    def first(self, names: Sequence[str], what: str = "weights") -> Path:
        """The first of these files that there is, downloaded unless it is in the cache.

        Args:
            names: Of the files.
            what: What they are, for the error.

        Raises:
            OnnxplainError: If there is none, or it cannot be downloaded.
        """
        found = next((path for name in names if (path := self.file(name)) is not None), None)
        if found is not None:
            return found
        if self.unreachable is not None:
            raise self._error(f"the {what}", self.unreachable)
        raise OnnxplainError(f"{self.name} holds no {what}, which would be named {' or '.join(names[:2])}")

    def file(self, name: str) -> Path | None:
        """A file, None if there is none of that name; raises OnnxplainError if it cannot be downloaded."""
        cache_only = self.unreachable is not None
        try:
            bar = _bar(self.progress, f"downloading {name} of {self.name}")
            path = Path(hf_hub_download(self.name, name, local_files_only=cache_only, tqdm_class=bar))
        except EntryNotFoundError as error:
            if isinstance(error, LocalEntryNotFoundError) and not cache_only:  # the hub has stopped answering
                raise self._error(name, _reason(error.__cause__ or error, self.name)) from error
            return None
        except Exception as error:  # the client's own, and those of the library that sends its requests
            raise self._error(name, _reason(error, self.name)) from error
        return self._verified(path)

    def _verified(self, path: Path) -> Path:
        """The file; raises OnnxplainError if a large one, which the cache names by its SHA-256, is damaged."""
        content = path.resolve()
        if re.fullmatch("[0-9a-f]{64}", content.name) and file_digest(content) != content.name:
            for damaged in (path, content):
                damaged.unlink(missing_ok=True)
            raise OnnxplainError(
                f"{path.name} of {self.name} is damaged, as its checksum is not the one that the hub gives; it was "
                "deleted from the cache, try again"
            )
        return path

    def _error(self, what: str, reason: str) -> OnnxplainError:
        instead = INSTEAD if what in ("the weights", *WEIGHTS) else ""
        return OnnxplainError(f"cannot download {what} of {self.name}: {reason}{instead}")


def fetch(repository: str, progress: Progress, weights: bool = True, text: bool = False) -> Path:
    """The folder in the cache with the files of a repository, downloaded unless they are there.

    Args:
        repository: <owner>/<name>.
        progress: Called with how far downloads are.
        weights: Whether weights are needed beside the configuration.
        text: Whether the tokenizer is needed.

    Raises:
        OnnxplainError: If they cannot be downloaded.
    """
    source = Repository(repository, progress)
    names = (*DESCRIPTIONS, *(TEXTS if text else ()))
    paths = [path for name in names if (path := source.file(name)) is not None]
    if weights and (paths or source.unreachable is not None):
        source.first(WEIGHTS)
    return (paths or [source.first(DESCRIPTIONS[:1], "configuration")])[0].parent


def is_repository(name: str) -> bool:
    """Whether a name that is no path can be that of a repository on the hub, <owner>/<name>."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+(?<!\.pth)(?<!\.pt)(?<!\.bin)(?<!\.safetensors)(?<!\.npz)", name) is not None


def _why_unreachable(repository: str) -> str | None:
    """Why the hub does not answer, None if it does, whatever it answers.

    It is asked once, because hf_hub_download tries for half a minute for each file that is not in the cache.
    """
    try:
        get_hf_file_metadata(hf_hub_url(repository, DESCRIPTIONS[0]), timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except HfHubHTTPError as error:
        return _reason(error, repository) if _is_overloaded(error.response.status_code) else None
    except HFValidationError:  # hf_hub_download reports it
        return None
    except OfflineModeIsEnabled:
        return "HF_HUB_OFFLINE is set, and the cache does not have them"
    except Exception as error:  # of the library that sends the requests, which is another in each version
        return f"{constants.ENDPOINT} cannot be reached ({type(error).__name__}: {one_line(error)})"
    return None


def _is_overloaded(status: int) -> bool:
    return status >= 500 or status in OVERLOADED


def _reason(error: BaseException, repository: str) -> str:
    """What an error of the hub's client means, and what to do."""
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if isinstance(error, GatedRepoError) or status == 403:
        return f"access must be granted: ask for it at {constants.ENDPOINT}/{repository}, then {LOG_IN}"
    if isinstance(error, RepositoryNotFoundError):
        return f"the hub has no such repository, or it is private: check the name, or {LOG_IN}"
    if status == 401:
        return f"the hub does not accept the token it was given: {LOG_IN} again"
    if _is_overloaded(status):
        return f"the hub answers with status {status}, try again later"
    text = f"{type(error).__name__}: {one_line(error).partition('. ')[0]}"  # what follows is for programmers
    if isinstance(error, ValueError | FileMetadataError) or getattr(error, "errno", None) is not None:
        return text  # of the name, of what answers in place of the hub, of this machine's disk
    return f"it broke off, try again ({text})"


def _bar(progress: Progress, what: str) -> type[tqdm]:
    """A progress bar for hf_hub_download that calls ``progress`` and draws nothing."""

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            progress(f"{what}, {self.n / 1e6:.0f} of {(self.total or 0) / 1e6:.0f} MB")

    return Bar
