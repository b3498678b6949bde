"""One of timm's names for each thing its isotropic Vision Transformers do."""

FAMILIES: dict[str, dict[str, str]] = {
    "VisionTransformer": {
        "vit_base_patch16_clip_quickgelu_224": "a norm before the first block, quick GELU, no bias of patches",
        "vit_base_patch16_siglip_gap_224": "the mean of patches without a class token",
        "vit_giant_patch14_reg4_dinov2": "packed SwiGLU, LayerScale, registers",
        "aimv2_large_patch14_224": "RMSNorm, SwiGLU",
        "vit_base_patch16_xp_224": "attention and MLP in parallel, norms of queries and keys",
        "vit_small_patch16_18x2_224": "parallel branches",
        "vit_dlittle_patch16_reg1_gap_256": "differential attention, LayerScale, a register",
        "vit_small_r26_s32_224": "ResNet stem with group norm",
        "vit_small_resnet26d_224": "ResNet stem with batch norm and average pools",
        "vit_base_mci_224": "MobileCLIP stem",
        "vitamin_small_224": "MBConv stem",
    },
    "VisionTransformerDistilled": {"deit_tiny_distilled_patch16_224": "the mean of two heads"},
    "Eva": {
        "eva02_tiny_patch14_224": "rotary positions, SwiGLU, no bias of keys",
        "vit_small_patch16_dinov3": "rotary positions computed in the graph, registers",
        "vit_small_patch16_rope_mixed_ape_224": "learnt rotary frequencies",
        "vit_pe_core_tiny_patch16_384": "attention pool with a class token",
        "vit_base_patch16_sapiens2": "fewer heads of keys than of queries",
    },
    "Beit": {"beit_base_patch16_224": "a table of relative positions in each block"},
    "VisionTransformerRelPos": {
        "vit_relpos_small_patch16_224": "relative positions by an MLP in each block, a norm of the mean",
        "vit_relpos_base_patch16_cls_224": "the same with a class token",
        "vit_srelpos_small_patch16_224": "relative positions by one MLP for all blocks",
    },
    "NaFlexVit": {
        "naflexvit_base_patch16_siglip": "patches by a linear layer, attention pool",
        "naflexvit_base_patch16_parfac_gap": "factorised positions, the mean of patches",
    },
}
