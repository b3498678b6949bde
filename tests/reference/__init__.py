"""Independent eager PyTorch reference of every method, from the formulas.

Tests and benchmarks compare the product with this package; it shares no code with the product and imports
nothing of it. Sources stand with the methods.

    variants   tiny random timm models, one per architectural feature
    eager      attention and its gradient by autograd, on the unmodified model
    chefer     relevance of every attention matrix and of the pixels, by walking the timm modules (blocks, propagation)
    published  the same maps as chefer and eager, at the cost of the published programs, for benchmarks
    rules      each relevance rule once more, element by element
    parts      models cut between their blocks
    attnlrp    AttnLRP and CP-LRP by autograd on the eager model, with changed backward passes
    legrad     LeGrad's layer-wise gradients by autograd, block by block
    pixels     gradients, their means over paths and noise, RISE, ViT-ReciproCAM: slow loops
    reductions what the maps need of the tensors, reduced over heads
    maps       token maps from the tensors, with full matrices in float64 NumPy
"""
