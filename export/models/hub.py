"""Files of the hub: what is asked of it, and what it says when it has none, in one line."""

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

Report = Callable[[str], None]
"""Told in words what is being downloaded, and how much of it is here."""

DESCRIPTIONS = ("config.json", "preprocessor_config.json", "processor_config.json")
"""The files that say what model it is and what pictures it takes."""
TEXTS = ("open_clip_config.json", "tokenizer_config.json", "merges.txt", "special_tokens_map.json", *TOKENIZERS)
"""The files of a tokenizer."""
OVERLOADED = (408, 429)
"""Statuses that say nothing about the repository, beside those from 500."""
INSTEAD = "; give `checkpoint` with a file or folder you have, or `random_init=True` to go without"
LOG_IN = "log in with hf auth login"


class Repository:
    """A repository on the hub; where the hub does not answer, what the cache has of it."""

    def __init__(self, name: str, report: Report) -> None:
        self.name, self.report = name, report
        self.silence = _silence(name)

    def first(self, names: Sequence[str], what: str = "weights") -> Path:
        """The first of these files that it has, downloaded unless it is here. Raises OnnxplainError if it has none."""
        found = next((path for name in names if (path := self.file(name)) is not None), None)
        if found is not None:
            return found
        if self.silence is not None:
            raise self._trouble(f"the {what}", self.silence)
        raise OnnxplainError(f"{self.name} holds no {what}, which would be named {' or '.join(names[:2])}")

    def file(self, name: str) -> Path | None:
        """A file of it, None if there is none of that name. Raises OnnxplainError if it cannot be had."""
        here_only = self.silence is not None
        try:
            bar = _bar(self.report, f"downloading {name} of {self.name}")
            path = Path(hf_hub_download(self.name, name, local_files_only=here_only, tqdm_class=bar))
        except EntryNotFoundError as error:
            if isinstance(error, LocalEntryNotFoundError) and not here_only:  # the hub has stopped answering
                raise self._trouble(name, _reason(error.__cause__ or error, self.name)) from error
            return None
        except Exception as error:  # the client's own, and those of the library that sends its requests
            raise self._trouble(name, _reason(error, self.name)) from error
        return self._whole(path)

    def _whole(self, path: Path) -> Path:
        """The file; of a large one it is made sure that its content has the checksum that is its name in the cache."""
        content = path.resolve()
        if re.fullmatch("[0-9a-f]{64}", content.name) and file_digest(content) != content.name:
            for damaged in (path, content):
                damaged.unlink(missing_ok=True)
            raise OnnxplainError(
                f"{path.name} of {self.name} is damaged, as its checksum is not the one that the hub gives; it was "
                "deleted from the cache, try again"
            )
        return path

    def _trouble(self, what: str, reason: str) -> OnnxplainError:
        instead = INSTEAD if what in ("the weights", *WEIGHTS) else ""
        return OnnxplainError(f"cannot download {what} of {self.name}: {reason}{instead}")


def fetch(repository: str, report: Report, weights: bool = True, text: bool = False) -> Path:
    """The folder of a hub's repository with its configuration and weights, downloaded unless they are here already.

    text: with its tokenizer. Raises OnnxplainError if they cannot be had.
    """
    source = Repository(repository, report)
    names = (*DESCRIPTIONS, *(TEXTS if text else ()))
    paths = [path for name in names if (path := source.file(name)) is not None]
    if weights and (paths or source.silence is not None):
        source.first(WEIGHTS)
    return (paths or [source.first(DESCRIPTIONS[:1], "configuration")])[0].parent


def is_repository(name: str) -> bool:
    """Whether a name that is no path here can be that of a repository on the hub, such as owner/model."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+(?<!\.pth)(?<!\.pt)(?<!\.bin)(?<!\.safetensors)(?<!\.npz)", name) is not None


def _silence(repository: str) -> str | None:
    """Why the hub does not answer, None if it does, whatever it says of the repository.

    It is asked once: hf_hub_download would try again for half a minute for each file that is not here.
    """
    try:
        get_hf_file_metadata(hf_hub_url(repository, DESCRIPTIONS[0]), timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except HfHubHTTPError as error:
        return _reason(error, repository) if _is_overloaded(error.response.status_code) else None
    except HFValidationError:  # of which hf_hub_download will tell
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


def _bar(report: Report, what: str) -> type[tqdm]:
    """A progress bar for hf_hub_download that reports, and does not draw into a terminal's status line."""

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            report(f"{what}, {self.n / 1e6:.0f} of {(self.total or 0) / 1e6:.0f} MB")

    return Bar
