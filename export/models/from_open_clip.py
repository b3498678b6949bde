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

from .checkpoints import OPEN_CLIP_WEIGHTS, config_of, load_state, read_state, without_prefixes
from .hub import Progress, Repository, fetch, is_repository
from .internals.of_open_clip import count_tokens, give_features_only, resize_positions
from .records import LoadedModel, Request, TextEncoder
from .seeding import seeded
from .sizes import check_patches
from .weights import check_model

CROP_MODES = {"shortest": "center", "squash": "squash"}
"""open_clip's word for how an image is resized to timm's. Not its "longest", which pads with black: timm pads with the
mean."""
CONFIG = "open_clip_config.json"
"""The file in a folder or repository of open_clip that describes its model."""
TOKENIZER = (CONFIG, "tokenizer.json")
"""The files of a folder that has a tokenizer of transformers for open_clip."""


def load(name: str, request: Request) -> LoadedModel:
    """Load the vision tower of ``architecture`` or ``architecture/tag``, the tag one of its published weights.

    Raises OnnxplainError as ``load_model`` does.
    """
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
    if request.wants_published and not tags:
        raise OnnxplainError(f"open_clip has no weights of {architecture}; give `checkpoint`")
    tag = tag or _default_tag(library, architecture, tags)
    published: Mapping[str, Any] = library.get_pretrained_cfg(architecture, tag) or {}
    path = request.checkpoint
    if request.wants_published:
        _require_activation(library, architecture, tag)
        path = _download(published, request.progress)
    model = _create(library, architecture, (path or tag) if request.wants_published else None, request)
    if request.checkpoint is not None:
        _load(library, model, request.checkpoint, request.needs_text)
    preprocessing = _preprocessing(library.get_model_preprocess_cfg(model), published, request.checkpoint)
    tower = model.visual
    give_features_only(tower)
    check_patches(name, preprocessing.size, getattr(tower, "patch_size", (1, 1)))
    encoder = _text_encoder(library, architecture, model.eval(), path, request.progress) if request.needs_text else None
    return LoadedModel(
        model=tower.eval(),
        classes=0,
        preprocessing=preprocessing,
        source=request.source(f"open_clip {architecture}/{tag}"),
        sha256=None if path is None else file_digest(path),
        text=encoder,
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


def _default_tag(library: Any, architecture: str, tags: Sequence[str]) -> str:
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


def _download(published: Mapping[str, Any], progress: Progress) -> Path | None:
    """The weights of a tag, None where they are not on the hub."""
    repository, _, name = published.get("hf_hub", "").rpartition("/")
    names = (str(Path(name).with_suffix(".safetensors")), name) if name else OPEN_CLIP_WEIGHTS
    return Repository(repository, progress).first(names) if repository else None


def _preprocessing(default: Mapping[str, Any], published: Mapping[str, Any], checkpoint: Path | None) -> Preprocessing:
    """As the checkpoint's folder says, else as the published weights were trained, else open_clip's default."""
    in_folder = {} if checkpoint is None else config_of(checkpoint.parent, CONFIG).get("preprocess_cfg", {})
    size = default["size"]
    where = f"the preprocess_cfg in {CONFIG if checkpoint is None else checkpoint.parent / CONFIG}"
    try:
        known = {**published, **in_folder}
        settings = {name: default[name] if known.get(name) is None else known[name] for name in default}
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
        with seeded(), _quiet():
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
    """No logging: open_clip logs the errors that it raises, and that weights it was told not to load are random."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def _load(library: Any, model: Any, path: Path, text: bool) -> None:
    """Load a checkpoint into both towers with ``text``, else into the vision tower alone."""
    state = without_prefixes(read_state(path), model)
    resize_positions(library, state, model)
    if text:
        load_state(model, state, path)
        return
    visual = {key.removeprefix("visual."): tensor for key, tensor in state.items() if key.startswith("visual.")}
    load_state(model.visual, visual or state, path)


def _text_encoder(library: Any, architecture: str, model: Any, path: Path | None, progress: Progress) -> TextEncoder:
    check_model(f"open_clip's {architecture}", model)
    tokenizer = _tokenizer(library, architecture, None if path is None else path.parent, progress)
    bias = getattr(model, "logit_bias", None)
    return TextEncoder(
        encode=lambda texts: model.encode_text(tokenizer(list(texts))),
        count_tokens=lambda text: count_tokens(tokenizer, text),
        limit=tokenizer.context_length,
        scale=model.logit_scale.exp().item(),
        bias=None if bias is None else bias.item(),
    )


def _tokenizer(library: Any, architecture: str, folder: Path | None, progress: Progress) -> Any:
    """open_clip's tokenizer, or for models that take one of transformers that in the folder, else the published one."""
    published = library.get_model_config(architecture)["text_cfg"].get("hf_tokenizer_name")
    if published is None:
        return library.get_tokenizer(architecture)
    if not _has_tokenizer(folder) and is_repository(published):
        folder = fetch(published, progress, weights=False, text=True)
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
