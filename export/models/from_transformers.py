"""Models in the format of the library transformers: a folder, or a repository on the hub, with a config.json."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

from torch import Tensor, float32, nn, no_grad, zeros

from onnxplain.contract import OnnxplainError
from onnxplain.contract.digest import file_digest
from onnxplain.contract.errors import one_line

from .checkpoints import check_keys, is_transformers, read_state, weights_in
from .hub import fetch, is_repository
from .pictures_of_transformers import read_preprocessing
from .sources import Loaded, Request, check_patches, same_random_numbers
from .text_of_transformers import ENCODERS, text_encoder
from .transformers_rules import check_config
from .weights import check_kinds

Read = Callable[[nn.Module, Any], Tensor]
"""(tower, its output) -> a tensor of it."""

TOWERS = {
    "vit": "ViTModel",
    "deit": "DeiTModel",
    "dinov2": "Dinov2Model",
    "dinov2_with_registers": "Dinov2WithRegistersModel",
    "dinov3_vit": "DINOv3ViTModel",
    "beit": "BeitModel",
    "vit_mae": "ViTMAEModel",
    "clip": "CLIPVisionModelWithProjection",
    "clip_vision_model": "CLIPVisionModelWithProjection",
    "siglip": "SiglipVisionModel",
    "siglip_vision_model": "SiglipVisionModel",
}
"""Model type to the class that gives features, for weights without a classifier."""

POST_NORM = "vision_model.post_layernorm"
TOKENS: dict[str, Read] = {
    "CLIPVisionModelWithProjection": lambda tower, out: tower.get_submodule(POST_NORM)(out.last_hidden_state),
}
"""Where the normalised tokens are not the last hidden state."""
OWN: dict[str, Read] = {
    "CLIPVisionModelWithProjection": lambda tower, out: out.image_embeds,
    "SiglipVisionModel": lambda tower, out: out.pooler_output,
    "BeitModel": lambda tower, out: out.pooler_output,
}
"""Where the features are not the class token, the first of these."""
WITHOUT_POOLER = ("ViTModel", "DeiTModel")
"""Towers whose pooler is of no use: weights of classifiers have none."""
PREFIX: dict[str, Callable[[Any], int]] = {
    "deit": lambda config: 2,
    "dinov2_with_registers": lambda config: 1 + config.num_register_tokens,
    "dinov3_vit": lambda config: 1 + config.num_register_tokens,
    "siglip_vision_model": lambda config: 0,
}
"""How many tokens stand before the patches, if not the class token alone."""

ATTENTION = "onnxplain_sdpa"
"""The name under which PyTorch's attention is known to transformers without the mask that it would build for it."""


class Classifier(nn.Module):
    """A classifier of transformers: [batch, 3, H, W] -> logits."""

    def __init__(self, model: nn.Module, options: dict[str, bool]) -> None:
        super().__init__()
        self.model, self.options = model, options

    def forward(self, pixels: Tensor) -> Tensor:
        """The logits."""
        logits: Tensor = self.model(pixel_values=pixels, **self.options).logits
        return logits


class Constant(nn.Module):
    """Stands for a module whose output depends on the image size only."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value)

    def forward(self, *_: Any, **__: Any) -> Any:
        """The output that it had."""
        return self.value


class Tower(nn.Module):
    """A vision model of transformers and what is read of its output."""

    def __init__(self, model: nn.Module, options: dict[str, bool], read: Read) -> None:
        super().__init__()
        self.model, self.options, self.read = model, options, read

    def forward(self, pixels: Tensor) -> Tensor:
        """Tokens or features."""
        return self.read(self.model, self.model(pixel_values=pixels, **self.options))


def load(name: str, request: Request, types: str | None = None) -> Loaded:
    """Build the model in a folder or repository. types: what its model type has to begin with, if not None."""
    library = _library()
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if not is_repository(name):
            raise OnnxplainError(
                f"hf/ needs a folder or a repository such as google/vit-base-patch16-224, got {name!r}"
            )
        folder = fetch(name, request.report, request.checkpoint is None and not request.random_init, request.text)
    if not is_transformers(folder):
        raise OnnxplainError(f"{folder} holds no config.json with a model_type, as transformers writes it")
    try:
        config = library.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # for a type that this version of transformers does not know, or a damaged file
        raise OnnxplainError(f"transformers cannot read {folder}/config.json: {one_line(error)}") from error
    check_config(folder / "config.json", config)
    if types is not None and not config.model_type.startswith(types):
        raise OnnxplainError(
            f"{name} holds a model of type {config.model_type}, not {types}; give `name={f'hf/{name}'!r}`"
        )
    if request.text and config.model_type not in ENCODERS:
        raise OnnxplainError(
            f"{name} holds a model of type {config.model_type}, without a text encoder for `prompts`; types with one "
            f"are {', '.join(ENCODERS)}"
        )
    made = _class(library, config, request)
    is_classifier = "ForImageClassification" in made.__name__
    vision = getattr(config, "vision_config", config)
    if is_classifier and request.num_classes is not None:
        config.num_labels = request.num_classes
    if hasattr(config, "projection_dim"):  # CLIP's, of both towers: what the vision half says of itself does not count
        vision.projection_dim = config.projection_dim
    text = None
    if request.text:  # of a copy, as the attention that is set in a configuration is that of all models made of it
        both = getattr(library, ENCODERS[config.model_type].model)
        text = text_encoder(library, folder, _with_weights(both, deepcopy(config), name, folder, request, "sdpa"))
    model = _with_weights(made, config if is_classifier else vision, name, folder, request, ATTENTION)
    own = getattr(vision, "image_size", None)
    own_size = None if own is None else _pair(own)
    preprocessing = read_preprocessing(library, folder, request.image_size, own_size, request.preprocessing)
    check_patches(name, preprocessing.size, _pair(getattr(vision, "patch_size", 1)))
    options = _options(vision, preprocessing.size)
    if vision.model_type == "vit_mae":  # it is trained with most patches hidden, and looks with none
        model.embeddings.random_masking = _hide_nothing
    _freeze_biases(model, options, preprocessing.size)
    file = None if request.random_init else request.checkpoint or weights_in(folder)
    source = "random" if file is None else f"transformers {name}" if request.checkpoint is None else file.name
    digest = None if file is None else file_digest(file)
    if is_classifier:
        labels = _labels(config) if request.num_classes is None else None
        return Loaded(
            Classifier(model, options), config.num_labels, preprocessing, source, digest, labels, _activation(config)
        )
    return Loaded(
        model=Tower(model, options, OWN.get(made.__name__, lambda tower, out: out.last_hidden_state[:, 0])),
        classes=0,
        preprocessing=preprocessing,
        source=source,
        sha256=digest,
        tokens=Tower(model, options, TOKENS.get(made.__name__, lambda tower, out: out.last_hidden_state)),
        prefix=PREFIX.get(vision.model_type, lambda config: 1)(vision),
        class_token=made.__name__ != "SiglipVisionModel",
        text=text,
    )


def _library() -> Any:
    try:
        import transformers
        from transformers.integrations.sdpa_attention import sdpa_attention_forward
    except ImportError as error:
        raise OnnxplainError(
            f"models of transformers need {error.name}: pip install 'onnxplain[transformers]'"
        ) from error
    transformers.AttentionInterface.register(ATTENTION, sdpa_attention_forward)
    return transformers


def _class(library: Any, config: Any, request: Request) -> Any:
    """The classifier that the weights are of, or where there is none or another is asked for, the tower."""
    written = (config.architectures or [""])[0]
    if not request.features:
        if "ForImageClassification" in written:
            if not hasattr(library, written):
                raise OnnxplainError(f"this version of transformers has no {written}, which config.json names")
            return getattr(library, written)
        if request.num_classes is not None and type(config) in library.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
            made = library.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING[type(config)]
            return made[0] if isinstance(made, tuple) else made
    if config.model_type not in TOWERS:
        raise OnnxplainError(
            f"{written or config.model_type} is no image classifier, nor of a type whose features are known: "
            f"{', '.join(TOWERS)}"
        )
    return getattr(library, TOWERS[config.model_type])


def _with_weights(made: Any, config: Any, name: str, folder: Path, request: Request, attention: str) -> Any:
    """The model of class ``made``, every parameter of it loaded, or none."""
    extra = {"add_pooling_layer": False} if made.__name__ in WITHOUT_POOLER else {}
    with same_random_numbers():
        if request.random_init:
            return _random(made, config, name, extra, attention)
        state = read_state(request.checkpoint or weights_in(folder))
        try:
            with _quiet():
                model, found = made.from_pretrained(
                    None, config=config, state_dict=state, attn_implementation=attention, dtype=float32,
                    output_loading_info=True, ignore_mismatched_sizes=True, **extra,
                )  # fmt: skip
        except Exception as error:  # a damaged file can raise anything
            raise OnnxplainError(
                f"transformers cannot load the weights of {name} ({type(error).__name__}: {one_line(error)})"
            ) from error
    wrong = {key: shapes for key, *shapes in found["mismatched_keys"]}
    unexpected = found["unexpected_keys"]
    if "ForImageClassification" not in made.__name__:  # of other parts, but a classifier would be missed
        unexpected = [key for key in unexpected if "classifier" in key and not request.features]
    check_keys(f"{request.checkpoint or name} does not fit {made.__name__}", found["missing_keys"], unexpected, wrong)
    loaded = {key: tensor for key, tensor in state.items() if key not in found["unexpected_keys"]}
    check_kinds(f"{request.checkpoint or name}", loaded, model)
    return model.eval()


def _random(made: Any, config: Any, name: str, extra: dict[str, bool], attention: str) -> Any:
    config._attn_implementation = attention
    try:
        return made(config, **extra).eval()
    except Exception as error:  # sizes that do not go together, an activation that there is not, …
        raise OnnxplainError(f"transformers cannot build {name}: {one_line(error)}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar and no table of keys, of which check_keys tells what matters."""
    from transformers.utils import logging as log

    verbosity, bar = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bar:
            log.enable_progress_bar()


def _hide_nothing(sequence: Tensor, noise: Tensor | None = None) -> tuple[Tensor, None, None]:
    return sequence, None, None


def _options(vision: Any, size: tuple[int, int]) -> dict[str, bool]:
    """For another image size than that of training; the DINO family needs none."""
    own = _pair(getattr(vision, "image_size", size))
    return {"interpolate_pos_encoding": True} if size != own and not vision.model_type.startswith("dinov") else {}


def _freeze_biases(model: nn.Module, options: dict[str, bool], size: tuple[int, int]) -> None:
    """BEiT computes its relative position biases anew each time, with assignments in place that cannot be traced."""
    places = [name for name, module in model.named_modules() if type(module).__name__ == "BeitRelativePositionBias"]
    for place in places:
        module = model.get_submodule(place)
        module.register_forward_hook(lambda module, given, result, place=place: biases.update({place: result}))
    biases: dict[str, Tensor] = {}
    if places:
        with no_grad():
            model(pixel_values=zeros(1, 3, *size), **options)
    for place, bias in biases.items():
        model.set_submodule(place, Constant(bias))


def _pair(length: Any) -> tuple[int, int]:
    return (length, length) if isinstance(length, int) else (length[0], length[1])


def _activation(config: Any) -> str:
    """As in the library's own pipeline; raises OnnxplainError if the outputs are numbers and not classes."""
    if config.problem_type == "regression":
        raise OnnxplainError("config.json has problem_type 'regression': the outputs are no classes to explain")
    return "sigmoid" if config.problem_type == "multi_label_classification" else "softmax"


def _labels(config: Any) -> tuple[str, ...] | None:
    """The names of the classes, unless they are those that transformers makes up."""
    labels = tuple(str(config.id2label[index]) for index in range(config.num_labels))
    return None if all(label == f"LABEL_{index}" for index, label in enumerate(labels)) else labels
