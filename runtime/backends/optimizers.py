"""What onnxruntime need not try on our graphs when it opens them: it takes half the time of opening.

These optimizations never apply to an artifact, or export has done as much, or runs are not faster by them: after each
that applies, onnxruntime checks the whole graph again. It ignores names it does not know.
"""

UNUSED = [
    "AttentionFusion", "BiasDropoutFusion", "BiasGeluFusion", "BiasSkipLayerNormFusion", "BiasSoftmaxFusion",
    "ConstantSharing", "CommonSubexpressionElimination", "DoubleQDQPairsRemover", "EmbedLayerNormFusion",
    "EnsureUniqueDQForNodeUnit", "FastGeluFusion", "FuseFp16InitializerToFp32NodeTransformer",
    "GatherSliceToSplitFusion", "GatherToSliceFusion", "GeluFusionL1", "GeluFusionL2", "GemmActivationFusion",
    "GroupQueryAttentionFusion", "GroupQueryAttentionPreNormFusion", "LayerNormFusionL1", "LayerNormFusionL2",
    "Level2_RuleBasedTransformer", "MatMulActivationFusion", "MatMulAddFusion", "MatMulNBitsFusion", "NhwcTransformer",
    "QDQFinalCleanupTransformer", "QDQPropagationTransformer", "QDQS8ToU8Transformer", "QDQSelectorActionTransformer",
    "QuickGeluFusion", "ReshapeFusion", "SimplifiedLayerNormFusion", "SkipLayerNormFusion",
    "SliceConcatToSpaceToDepthFusion", "TransposeOptimizer", "TransposeOptimizer_CPUExecutionProvider",
    "WeightBiasQuantization", "WhereDummyDq",
]  # fmt: skip
