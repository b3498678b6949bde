"""The vision towers of open_clip: features to which prompts or a head give classes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from onnxplain.contract import OnnxplainError, Preprocessing
from onnxplain.contract.digest import file_digest
from onnxplain.contract.errors import one_line
from onnxplain.contract.names import did_you_mean, nearest

from .checkpoints import OF_OPEN_CLIP, config_of, load_state, read_state, without_prefixes
from .hub import Report, Repository, fetch, is_repository
from .sources import Loaded, Request, TextEncoder, check_patches, same_random_numbers
from .weights import check_model

CROP_MODES = {"shortest": "center", "squash": "squash"}
"""open_clip's word for how a picture is resized to timm's; longest pads with black, but timm with the mean."""
CONFIG = "open_clip_config.json"
"""What a folder or repository of open_clip says of itself."""
TOKENIZER = (CONFIG, "tokenizer.json")
"""The files of a folder that has a tokenizer of transformers for open_clip."""


def load(name: str, request: Request) -> Loaded:
    """Build the vision tower of ``architecture`` or ``architecture/tag``, the tag one of its published weights."""
    library = _library()
    architecture, _, tag = name.partition("/")
    if architecture not in library.list_models():
        close = nearest(architecture, library.list_models())
        hint = did_you_mean(close) if close else "open_clip.list_models() lists those it has"
        raise OnnxplainError(f"open_clip has no model {architecture!r}; {hint}")
    if request.num_classes is not None:
        raise OnnxplainError(f"open_clip's {architecture} has no classes; give it a head with `head` or `prompts`")
    tags = library.list_pretrained_tags_by_model(architecture)
    if tag and tag.lower() not in [known.lower() for known in tags]:
        raise OnnxplainError(f"open_clip has no weights {tag!r} of {architecture}; it has {', '.join(tags) or 'none'}")
    downloads = request.checkpoint is None and not request.random_init
    if downloads and not tags:
        raise OnnxplainError(f"open_clip has no weights of {architecture}; give `checkpoint`")
    tag = tag or _first(library, architecture, tags)
    published: Mapping[str, Any] = library.get_pretrained_cfg(architecture, tag) or {}
    path = request.checkpoint
    if downloads:
        _require_activation(library, architecture, tag)
        path = _download(published, request.report)
    model = _create(library, architecture, (path or tag) if downloads else None, request)
    if path is not None and not downloads:
        _load(library, model, path, request.text)
    preprocessing = _preprocessing(library.get_model_preprocess_cfg(model), published, None if downloads else path)
    tower = model.visual
    tower.output_tokens = False  # which CoCa's would give as well
    check_patches(name, preprocessing.size, getattr(tower, "patch_size", (1, 1)))
    return Loaded(
        model=tower.eval(),
        classes=0,
        preprocessing=preprocessing,
        source="random"
        if request.random_init
        else f"open_clip {architecture}/{tag}"
        if request.checkpoint is None
        else request.checkpoint.name,
        sha256=None if path is None else file_digest(path),
        text=_text_encoder(library, architecture, model.eval(), path, request.report) if request.text else None,
    )


def _library() -> Any:
    try:
        import open_clip
    except ImportError as error:
        raise OnnxplainError(f"models of open_clip need {error.name}: pip install 'onnxplain[open_clip]'") from error
    return open_clip


def _fits(library: Any, architecture: str, tag: str) -> bool:
    """Whether weights were trained with the architecture's GELU; if not, open_clip loads them and only warns."""
    config, published = library.get_model_config(architecture), library.get_pretrained_cfg(architecture, tag)
    return bool(config.get("quick_gelu", False)) == bool(published.get("quick_gelu", False))


def _first(library: Any, architecture: str, tags: Sequence[str]) -> str:
    """The first of the weights that fit, else the first; empty if there are none."""
    return next((tag for tag in tags if _fits(library, architecture, tag)), next(iter(tags), ""))


def _require_activation(library: Any, architecture: str, tag: str) -> None:
    if not _fits(library, architecture, tag):
        other = architecture.removesuffix("-quickgelu")
        other = other if other != architecture else f"{architecture}-quickgelu"
        raise OnnxplainError(
            f"open_clip's weights {tag} were trained with another GELU than {architecture} has; the model they are of "
            f"is open_clip/{other}/{tag}"
        )


def _download(published: Mapping[str, Any], report: Report) -> Path | None:
    """The weights of a tag, None where they are not on the hub."""
    repository, _, name = published.get("hf_hub", "").rpartition("/")
    names = (str(Path(name).with_suffix(".safetensors")), name) if name else OF_OPEN_CLIP
    return Repository(repository, report).first(names) if repository else None


def _preprocessing(default: Mapping[str, Any], published: Mapping[str, Any], path: Path | None) -> Preprocessing:
    """open_clip's default, under what its weights were trained with, under what a checkpoint's folder says."""
    own = {} if path is None else config_of(path.parent, CONFIG).get("preprocess_cfg", {})
    size = default["size"]
    where = f"the preprocess_cfg in {CONFIG if path is None else path.parent / CONFIG}"
    try:
        given = {**published, **own}
        settings = {name: default[name] if given.get(name) is None else given[name] for name in default}
        if settings["resize_mode"] not in CROP_MODES:
            raise OnnxplainError(
                f"{where} must have a resize_mode of {', '.join(CROP_MODES)}, got {settings['resize_mode']!r}"
            )
        return Preprocessing(
            size=(size, size) if isinstance(size, int) else tuple(size),
            mean=tuple(settings["mean"]),
            std=tuple(settings["std"]),
            crop_pct=1.0,
            crop_mode=CROP_MODES[settings["resize_mode"]],
            interpolation=settings["interpolation"],
        )
    except OnnxplainError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise OnnxplainError(f"{where} cannot be read: {one_line(error)}") from error


def _create(library: Any, architecture: str, weights: Path | str | None, request: Request) -> Any:
    """The model with the weights in a file or of a tag, or with none."""
    try:
        with same_random_numbers(), _quiet():
            return library.create_model(
                architecture, pretrained=None if weights is None else str(weights), load_weights=weights is not None,
                pretrained_text=False, force_image_size=request.image_size,
            )  # fmt: skip
    except Exception as error:
        if isinstance(error, OSError) or "download" in str(error):  # it turns what went wrong into a RuntimeError
            raise OnnxplainError(
                f"cannot download the weights of open_clip's {architecture} {weights} ({type(error).__name__}); "
                "give `checkpoint` with weights you have, or `random_init=True` to go without"
            ) from error
        raise OnnxplainError(f"open_clip cannot build {architecture}: {one_line(error)}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """It logs errors that it raises as well, and that weights it was told not to load are random."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def _load(library: Any, model: Any, path: Path, text: bool) -> None:
    """A checkpoint of both towers, or the vision tower's share of it."""
    state = without_prefixes(read_state(path), model)
    library.model.resize_pos_embed(state, model)
    if text:
        load_state(model, state, path)
        return
    visual = {key.removeprefix("visual."): tensor for key, tensor in state.items() if key.startswith("visual.")}
    load_state(model.visual, visual or state, path)


def _text_encoder(library: Any, architecture: str, model: Any, path: Path | None, report: Report) -> TextEncoder:
    check_model(f"open_clip's {architecture}", model)
    tokenizer = _tokenizer(library, architecture, None if path is None else path.parent, report)
    inner = getattr(tokenizer, "tokenizer", None)

    def tokens(text: str) -> int:
        if inner is not None:
            return len(inner(tokenizer.clean_fn(text)).input_ids)
        return len(tokenizer.encode(text)) + 2  # one before and one after

    bias = getattr(model, "logit_bias", None)
    return TextEncoder(
        encode=lambda texts: model.encode_text(tokenizer(list(texts))),
        tokens=tokens,
        limit=tokenizer.context_length,
        scale=model.logit_scale.exp().item(),
        bias=None if bias is None else bias.item(),
    )


def _tokenizer(library: Any, architecture: str, folder: Path | None, report: Report) -> Any:
    """open_clip's own, or where it takes one of transformers, that in the checkpoint's folder or the published one."""
    published = library.get_model_config(architecture)["text_cfg"].get("hf_tokenizer_name")
    if published is None:
        return library.get_tokenizer(architecture)
    if not _has_tokenizer(folder) and is_repository(published):
        folder = fetch(published, report, weights=False, text=True)
    here = _has_tokenizer(folder)
    try:
        return library.get_tokenizer(f"local-dir:{folder}" if here else architecture, trust_remote_code=False)
    except ImportError as error:
        raise OnnxplainError(
            f"the tokenizer of open_clip's {architecture} needs {error.name}: pip install 'onnxplain[transformers]'"
        ) from error
    except Exception as error:  # without network, or from a damaged file
        raise OnnxplainError(
            f"open_clip cannot load the tokenizer of {architecture} ({type(error).__name__}: {one_line(error)}); it is "
            f"looked for beside the checkpoint, if {' and '.join(TOKENIZER)} are there, else downloaded"
        ) from error


def _has_tokenizer(folder: Path | None) -> bool:
    return folder is not None and all((folder / file).is_file() for file in TOKENIZER)
