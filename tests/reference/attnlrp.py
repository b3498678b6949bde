"""AttnLRP and CP-LRP by autograd: the eager model with changed backward passes and unchanged values.

Achtibat et al., "AttnLRP", ICML 2024; Ali et al., "XAI for Transformers", ICML 2022 (CP-LRP). While `Rules` is active,
every function keeps its value and hands back the gradient of a surrogate. What does not require gradients (weights,
class token, position embedding) is a constant; the model is copied with frozen parameters, so only what depends on the
pixels varies. A TorchFunctionMode, so that `*`, `@` and functions imported by name are covered.
"""

import copy
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .eager import target_logits

OF_ATTENTION = re.compile(r"(attn|attn_pool)\.(q|k|v|kv|qkv|proj)\.weight$|\.(in_proj|out_proj|attn_out_proj)\.weight$")
"""The weights of timm's linear layers that are projections of attention, by their names."""


class Gamma(NamedTuple):
    """The constants of convolutions, of linear layers, and of those that are projections of attention."""

    conv: float
    linear: float
    attention: float

    @classmethod
    def of(cls, gamma: "Gamma | float") -> "Gamma":
        return gamma if isinstance(gamma, Gamma) else cls(gamma, gamma, gamma)


ELEMENTWISE = ("gelu", "silu", "sigmoid", "tanh", "relu", "exp")


def straight(value: Tensor, surrogate: Tensor) -> Tensor:
    """The value of the one, the gradient of the other."""
    return value.detach() + (surrogate - surrogate.detach())


def elementwise(function: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """The slope f(x) / x, and f'(0) at 0."""
    with torch.enable_grad():
        place = x.detach().requires_grad_()
        (derivative,) = torch.autograd.grad(function(place, *args, **kwargs).sum(), place)
    y = function(x.detach().clone(), *args, **kwargs)
    slope = torch.where(x == 0, derivative, y / torch.where(x == 0, 1, x)).detach()
    return straight(y, x * slope)


def product(function: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> Tensor:
    """Of two factors that vary, each gets half of the gradient."""
    if not (_varies(a) and _varies(b)):
        return function(a, b)
    return straight(function(a, b), (function(a, b.detach()) + function(a.detach(), b)) / 2)


def layer_norm(
    x: Tensor, shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """(x - mean x) / sigma w + b with a constant sigma."""
    dims = tuple(range(-len(shape), 0))
    sigma = (x.var(dims, unbiased=False, keepdim=True) + eps).sqrt().detach()
    surrogate = (x - x.mean(dims, keepdim=True)) / sigma
    surrogate = surrogate if weight is None else surrogate * weight
    return straight(F.layer_norm(x, shape, weight, bias, eps), surrogate)


def rms_norm(x: Tensor, shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """x / rms w with a constant rms."""
    y = F.rms_norm(x, shape, weight, eps)
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    rms = (x.square().mean(tuple(range(-len(shape), 0)), keepdim=True) + eps).sqrt().detach()
    return straight(y, x / rms if weight is None else x / rms * weight)


def gamma_linear(x: Tensor, weight: Tensor, bias: Tensor | None, gamma: float) -> Tensor:
    """y_j hands x_i the share (f_ij + gamma f_ij+) / (y_j + gamma (sum_i f_ij+ + b_j+)), f_ij = x_i w_ij.

    Where y_j < 0 with f- and b-. The surrogate is z y / z with z_j = y_j + gamma (sum_i f_ij + b_j), of these summands
    those of y_j's sign, and a constant y / z.
    """
    contributions = x[..., None, :] * weight  # [..., out, in]
    y = F.linear(x, weight, bias)
    if bias is not None:
        contributions = torch.cat([contributions, bias[:, None].expand(*y.shape, 1)], dim=-1)
    favoured = (contributions * y[..., None] > 0).detach()
    z = y + gamma * (contributions * favoured).sum(dim=-1)
    return straight(y, z * torch.where(z == 0, 0, y / torch.where(z == 0, 1, z)).detach())


def gamma_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    gamma: float,
) -> Tensor:
    """The rule of `gamma_linear` on every window."""
    if groups != 1 or isinstance(padding, str):
        raise NotImplementedError("grouped convolutions and named paddings")
    windows = F.unfold(x, weight.shape[2:], dilation=dilation, padding=padding, stride=stride).mT
    y = F.conv2d(x, weight, bias, stride, padding, dilation)
    return gamma_linear(windows, weight.flatten(1), bias, gamma).mT.reshape(y.shape)


def _varies(x: Any) -> bool:
    return isinstance(x, Tensor) and x.requires_grad


class Rules(TorchFunctionMode):
    """AttnLRP's backward passes; `softmaxes` records (scores, attention matrix) of every softmax.

    projections: the identities of the weights of attention's projections.
    """

    def __init__(
        self, gamma: Gamma | float = 0.0, hold_attention: bool = False, projections: Collection[int] = ()
    ) -> None:
        super().__init__()
        self.gamma, self.hold_attention, self.projections = Gamma.of(gamma), hold_attention, projections
        self.softmaxes: list[tuple[Tensor, Tensor]] = []

    def softmax(self, scores: Tensor, dim: int = -1) -> Tensor:
        """Differentiated as usual, or a constant (CP-LRP)."""
        matrix = scores.softmax(dim)
        if self.hold_attention:
            return matrix.detach()
        self.softmaxes.append((scores, matrix))
        return matrix

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
    ) -> Tensor:
        if dropout_p or is_causal or (attn_mask is not None and attn_mask.dtype == torch.bool):
            raise NotImplementedError("attention with dropout, or with a mask that is not added")
        scores = product(torch.matmul, query, key.mT) * (query.shape[-1] ** -0.5 if scale is None else scale)
        return product(torch.matmul, self.softmax(scores if attn_mask is None else scores + attn_mask), value)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        gamma = self.gamma.attention if id(weight) in self.projections else self.gamma.linear
        return gamma_linear(x, weight, bias, gamma) if gamma else F.linear(x, weight, bias)

    def self_attention(self, x: Tensor, key: Tensor, value: Tensor, width: int, heads: int, *rest: Any) -> Tensor:
        """What nn.MultiheadAttention computes of x [N, B, D], as the mode does not see into it."""
        weight, bias, bias_k, bias_v, add_zero_attn, _, out_weight, out_bias = rest
        if not (x is key is value) or bias_k is not None or bias_v is not None or add_zero_attn:
            raise NotImplementedError("cross attention, or extra keys and values")
        packed = self.linear(x, weight, bias).unflatten(-1, (3, heads, width // heads))
        mixed = self.attend(*packed.permute(2, 1, 3, 0, 4))  # [N, B, 3, H, d] -> three [B, H, N, d]
        return self.linear(mixed.permute(2, 0, 1, 3).flatten(2), out_weight, out_bias)

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if not any(_varies(x) for x in (*args, *kwargs.values())):
            return func(*args, **kwargs)
        if name.endswith("_") and not name.endswith("__"):
            raise NotImplementedError(f"{name} works in place")
        name = name.strip("_")
        if name in ELEMENTWISE:
            return elementwise(func, *args, **kwargs)
        if name in ("mul", "rmul", "multiply", "matmul", "bmm"):
            return product(func, *args)
        if name in ("div", "truediv"):
            return args[0] / (args[1].detach() if isinstance(args[1], Tensor) else args[1])
        if name == "layer_norm":
            return layer_norm(*args, **kwargs)
        if name == "rms_norm":
            return rms_norm(*args, **kwargs)
        if name == "softmax":
            return self.softmax(args[0], kwargs.get("dim", args[1] if len(args) > 1 else -1))
        if name == "scaled_dot_product_attention":
            return self.attend(*args, **kwargs)
        if name == "linear":
            return self.linear(*args, **kwargs)
        if name == "multi_head_attention_forward":
            return self.self_attention(*args), None
        if self.gamma.conv and name == "conv2d":
            return gamma_conv(*args, **kwargs, gamma=self.gamma.conv)
        return func(*args, **kwargs)


def _run(model: nn.Module, pixels: Tensor, target: Tensor, rules: Rules) -> tuple[Tensor, Tensor]:
    """(pixels that require gradients, the sum of the target logits)."""
    if model.training:
        raise ValueError("call model.eval() first")
    frozen = copy.deepcopy(model).requires_grad_(False)
    rules.projections = {id(weight) for name, weight in frozen.named_parameters() if OF_ATTENTION.search(name)}
    with torch.enable_grad():
        leaf = pixels.detach().clone().requires_grad_()
        with rules:
            logits = frozen(leaf)
        return leaf, target_logits(logits, target).sum()


def relevance(
    model: nn.Module, pixels: Tensor, target: Tensor, *, gamma: Gamma | float = 0.0, hold_attention: bool = False
) -> Tensor:
    """pixels * modified gradient, [B, 3, H, W], for one class (int64 [B]) per image."""
    leaf, total = _run(model, pixels, target, Rules(gamma, hold_attention))
    (gradient,) = torch.autograd.grad(total, leaf)
    return pixels * gradient


def attnlrp(model: nn.Module, pixels: Tensor, target: Tensor, gamma: Gamma | float = 0.0) -> Tensor:
    """[B, H, W]: relevance summed over channels."""
    return relevance(model, pixels, target, gamma=gamma).sum(dim=1)


def cp_lrp(model: nn.Module, pixels: Tensor, target: Tensor, gamma: Gamma | float = 0.0) -> Tensor:
    """[B, H, W]: the same with attention matrices held constant."""
    return relevance(model, pixels, target, gamma=gamma, hold_attention=True).sum(dim=1)


def softmax_loss(model: nn.Module, pixels: Tensor, target: Tensor, gamma: Gamma | float = 0.0) -> Tensor:
    """[B]: sum over layers of the relevance of the attention matrix minus that of its scores."""
    rules = Rules(gamma)
    _, total = _run(model, pixels, target, rules)
    tensors = [x for pair in rules.softmaxes for x in pair]
    shares = [x * g for x, g in zip(tensors, torch.autograd.grad(total, tensors), strict=True)]
    sums = [share.detach().flatten(1).sum(dim=1) for share in shares]
    return torch.stack(sums[1::2]).sum(dim=0) - torch.stack(sums[::2]).sum(dim=0)
