"""How a folder or repository of transformers is loaded."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

from torch import float32

from onnxplain.contract import OnnxplainError
from onnxplain.contract.digest import file_digest
from onnxplain.contract.errors import one_line

from ..checkpoints import check_keys, is_transformers, read_state, weights_in
from ..hub import fetch, is_repository
from ..internals.of_transformers import SDPA, build, freeze_position_biases, hide_no_patches, quiet, sdpa_without_mask
from ..records import LoadedModel, Request
from ..seeding import seeded
from ..sizes import check_patches, pair
from ..weights import check_kinds
from .checks import check_config
from .images import read_preprocessing
from .text import ENCODERS, text_encoder
from .towers import (
    PREFIX,
    TOWERS,
    TOWERS_WITHOUT_POOLER,
    WITHOUT_CLASS_TOKEN,
    Classifier,
    features_of,
    tokens_of,
)


def load(name: str, request: Request) -> LoadedModel:
    """Load the model in a folder or in a repository on the hub; raises OnnxplainError as ``load_model`` does."""
    library = _library()
    folder = _folder(name, request)
    config = _config(library, folder, name, request)
    model_class = _model_class(library, config, request)
    is_classifier = "ForImageClassification" in model_class.__name__
    vision = getattr(config, "vision_config", config)
    if is_classifier and request.num_classes is not None:
        config.num_labels = request.num_classes
    if hasattr(config, "projection_dim"):  # CLIP's, of both towers; the vision half may have another
        vision.projection_dim = config.projection_dim
    text = None
    if request.needs_text:  # with a copy, as the attention set in a configuration is that of all models made of it
        both = getattr(library, ENCODERS[config.model_type].model_class)
        text = text_encoder(library, folder, _with_weights(both, deepcopy(config), name, folder, request, SDPA))
    attention = sdpa_without_mask(library)
    model = _with_weights(model_class, config if is_classifier else vision, name, folder, request, attention)
    trained_size = getattr(vision, "image_size", None)
    trained_size = None if trained_size is None else pair(trained_size)
    preprocessing = read_preprocessing(library, folder, request.image_size, trained_size, request.preprocessing)
    check_patches(name, preprocessing.size, pair(getattr(vision, "patch_size", 1)))
    options = _options(vision, preprocessing.size)
    if vision.model_type == "vit_mae":
        hide_no_patches(model)
    freeze_position_biases(model, options, preprocessing.size)
    file = None if request.random_init else request.checkpoint or weights_in(folder)
    source = request.source(f"transformers {name}")
    digest = None if file is None else file_digest(file)
    if is_classifier:
        labels = _labels(config) if request.num_classes is None else None
        return LoadedModel(
            Classifier(model, options), config.num_labels, preprocessing, source, digest, labels, _activation(config)
        )
    return LoadedModel(
        model=features_of(model, options),
        classes=0,
        preprocessing=preprocessing,
        source=source,
        sha256=digest,
        tokens=tokens_of(model, options),
        prefix=PREFIX.get(vision.model_type, lambda config: 1)(vision),
        class_token=model_class.__name__ not in WITHOUT_CLASS_TOKEN,
        text=text,
    )


def _library() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise OnnxplainError(
            f"models of transformers need {error.name}: pip install 'onnxplain[transformers]'"
        ) from error
    return transformers


def _folder(name: str, request: Request) -> Path:
    """The folder of a model, downloaded if it is a repository's."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if not is_repository(name):
            raise OnnxplainError(
                f"hf/ needs a folder or a repository such as google/vit-base-patch16-224, got {name!r}"
            )
        folder = fetch(name, request.progress, request.wants_published, request.needs_text)
    if not is_transformers(folder):
        raise OnnxplainError(f"{folder} holds no config.json with a model_type, as transformers writes it")
    return folder


def _config(library: Any, folder: Path, name: str, request: Request) -> Any:
    """The configuration of a model, of a type that the request allows."""
    try:
        config = library.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # for a type that this version of transformers does not know, or a damaged file
        raise OnnxplainError(f"transformers cannot read {folder}/config.json: {one_line(error)}") from error
    check_config(folder / "config.json", config)
    if not config.model_type.startswith(request.row.hf_type):
        raise OnnxplainError(
            f"{name} holds a model of type {config.model_type}, not {request.row.hf_type}; give `name={f'hf/{name}'!r}`"
        )
    if request.needs_text and config.model_type not in ENCODERS:
        raise OnnxplainError(
            f"{name} holds a model of type {config.model_type}, without a text encoder for `prompts`; types with one "
            f"are {', '.join(ENCODERS)}"
        )
    return config


def _model_class(library: Any, config: Any, request: Request) -> Any:
    """The class of the classifier that the weights are of; of its tower where features are needed, or there is none."""
    written = (config.architectures or [""])[0]
    if not request.needs_features:
        if "ForImageClassification" in written:
            if not hasattr(library, written):
                raise OnnxplainError(f"this version of transformers has no {written}, which config.json names")
            return getattr(library, written)
        if request.num_classes is not None and type(config) in library.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
            classes = library.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING[type(config)]
            return classes[0] if isinstance(classes, tuple) else classes
    if config.model_type not in TOWERS:
        raise OnnxplainError(
            f"{written or config.model_type} is no image classifier, nor of a type whose features are known: "
            f"{', '.join(TOWERS)}"
        )
    return getattr(library, TOWERS[config.model_type])


def _with_weights(model_class: Any, config: Any, name: str, folder: Path, request: Request, attention: str) -> Any:
    """A model of this class, every parameter of it loaded, or none if they are to be random."""
    options = {"add_pooling_layer": False} if model_class.__name__ in TOWERS_WITHOUT_POOLER else {}
    with seeded():
        if request.random_init:
            return _random(model_class, config, name, options, attention)
        state = read_state(request.checkpoint or weights_in(folder))
        try:
            with quiet():
                model, found = model_class.from_pretrained(
                    None, config=config, state_dict=state, attn_implementation=attention, dtype=float32,
                    output_loading_info=True, ignore_mismatched_sizes=True, **options,
                )  # fmt: skip
        except Exception as error:  # a damaged file can raise anything
            raise OnnxplainError(
                f"transformers cannot load the weights of {name} ({type(error).__name__}: {one_line(error)})"
            ) from error
    wrong = {key: shapes for key, *shapes in found["mismatched_keys"]}
    unexpected = found["unexpected_keys"]
    if "ForImageClassification" not in model_class.__name__:  # other parts may be left over, but no classifier
        unexpected = [key for key in unexpected if "classifier" in key and not request.needs_features]
    check_keys(
        f"{request.checkpoint or name} does not fit {model_class.__name__}", found["missing_keys"], unexpected, wrong
    )
    loaded = {key: tensor for key, tensor in state.items() if key not in found["unexpected_keys"]}
    check_kinds(f"{request.checkpoint or name}", loaded, model)
    return model.eval()


def _random(model_class: Any, config: Any, name: str, options: dict[str, bool], attention: str) -> Any:
    try:
        return build(model_class, config, attention, options).eval()
    except Exception as error:  # sizes that do not go together, an activation that there is not, …
        raise OnnxplainError(f"transformers cannot build {name}: {one_line(error)}") from error


def _options(vision: Any, size: tuple[int, int]) -> dict[str, bool]:
    """The arguments that a model is called with for another image size than that of training; DINO's need none."""
    trained_size = pair(getattr(vision, "image_size", size))
    needed = size != trained_size and not vision.model_type.startswith("dinov")
    return {"interpolate_pos_encoding": True} if needed else {}


def _activation(config: Any) -> str:
    """As in the library's own pipeline; raises OnnxplainError if the outputs are no classes."""
    if config.problem_type == "regression":
        raise OnnxplainError("config.json has problem_type 'regression': the outputs are no classes to explain")
    return "sigmoid" if config.problem_type == "multi_label_classification" else "softmax"


def _labels(config: Any) -> tuple[str, ...] | None:
    """The names of the classes, unless they are those that transformers makes up."""
    labels = tuple(str(config.id2label[index]) for index in range(config.num_labels))
    return None if all(label == f"LABEL_{index}" for index, label in enumerate(labels)) else labels
