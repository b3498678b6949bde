"""Small models of transformers, saved as published ones are."""

import json

import transformers

from tests.helpers.real_image import randomise

SIZE = 42
SMALL = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "image_size": SIZE,
    "patch_size": 14,
}  # fmt: skip
NAMES = {0: "cat", 1: "dog", 2: "crane"}
TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 9}

# As the preprocessor_config.json says of google/vit-base-patch16-224 (squashed), facebook/deit-* (squashed, then
# cropped), facebook/dinov2-* and openai/clip-* (shorter edge, then cropped), facebook/vit-mae-base (an old file).
HEIGHT_WIDTH = {"height": SIZE, "width": SIZE}
TO_48 = {"do_center_crop": True, "resample": 3}
SQUASHED = {"image_processor_type": "ViTImageProcessor", "size": HEIGHT_WIDTH, "resample": 2}
CROPPED = {
    "image_processor_type": "BitImageProcessor",
    "size": {"shortest_edge": 48},
    "crop_size": HEIGHT_WIDTH,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    **TO_48,
}
DEIT = {"image_processor_type": "DeiTImageProcessor", "size": 48, "crop_size": SIZE, **TO_48}
CLIP = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 48, "crop_size": SIZE, **TO_48}
OLD = {"feature_extractor_type": "ViTFeatureExtractor", "size": SIZE, "resample": 2, "image_mean": [0.4, 0.5, 0.6]}
SIGLIP = {"image_processor_type": "SiglipImageProcessor", "size": HEIGHT_WIDTH, "resample": 3}
BEIT = {"feature_extractor_type": "BeitFeatureExtractor", "size": SIZE, "do_center_crop": False, "resample": 2}

DECODER = {
    "decoder_num_hidden_layers": 1,
    "decoder_hidden_size": 16,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 16,
}
TWO_TOWERS = {"vision_config": SMALL, "text_config": TEXT}
CONFIGS = {
    "vit": lambda: transformers.ViTConfig(**SMALL, encoder_stride=14),
    "deit": lambda: transformers.DeiTConfig(**SMALL),
    "deit-distilled": lambda: transformers.DeiTConfig(**SMALL),
    "dinov2": lambda: transformers.Dinov2Config(**SMALL),
    "dinov2-reg": lambda: transformers.Dinov2WithRegistersConfig(**SMALL),
    "dinov3": lambda: transformers.DINOv3ViTConfig(**SMALL, num_register_tokens=4),
    "beit": lambda: transformers.BeitConfig(**SMALL, use_relative_position_bias=True),
    "mae": lambda: transformers.ViTMAEConfig(**SMALL, **DECODER),
    "clip": lambda: transformers.CLIPConfig(**TWO_TOWERS, projection_dim=24),
    "siglip": lambda: transformers.SiglipConfig(**TWO_TOWERS),
}

# row of the table: class that is saved, its preprocessor_config.json
CLASSIFIERS = {
    "vit": ("ViTForImageClassification", SQUASHED),
    "deit": ("DeiTForImageClassification", DEIT),
    "deit-distilled": ("DeiTForImageClassificationWithTeacher", DEIT),
    "dinov2": ("Dinov2ForImageClassification", CROPPED),
    "dinov2-reg": ("Dinov2WithRegistersForImageClassification", CROPPED),
    "beit": ("BeitForImageClassification", BEIT),
    "clip": ("CLIPForImageClassification", CLIP),
    "siglip": ("SiglipForImageClassification", SIGLIP),
}
TOWERS = {
    "vit": ("ViTModel", SQUASHED),
    "dinov2": ("Dinov2Model", CROPPED),
    "dinov3": ("DINOv3ViTModel", SQUASHED),
    "clip": ("CLIPModel", CLIP),
    "siglip": ("SiglipModel", SIGLIP),
    "mae": ("ViTMAEForPreTraining", OLD),
}


def save(folder, name, kind, preprocessor, names=NAMES):
    """A model with random weights, saved by its own library."""
    config = CONFIGS[name]()
    if "ForImageClassification" in kind:
        config.id2label, config.label2id = names, {label: index for index, label in names.items()}
    model = randomise(getattr(transformers, kind)(config))
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return model
