"""Independent eager PyTorch reference: attention, its gradient and Chefer's LRP relevance, from the formulas.

Tests and benchmarks compare the product with this package; it shares no code with the product and imports
nothing of it. Source of every rule: Chefer, Gur, Wolf, "Transformer Interpretability Beyond Attention
Visualization", CVPR 2021.

    variants   tiny random timm models, one per architectural feature
    eager      attention and its gradient by autograd, on the unmodified model
    chefer     relevance of every attention matrix, by walking the timm modules (blocks, propagation)
    rules      each relevance rule once more, element by element
    maps       token maps from the tensors, with full matrices in float64 NumPy
"""
