"""timm's attention, MLP and block modules: an explicit forward pass and, beside it, its relevance pass.

Every function returns the module's output and `back`, which takes the relevance of that output to the relevance of
the input. Normalisations, activations, softmax, LayerScale, dropout and multiplication by a constant pass relevance
on, so they appear in the forward code only.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from timm.layers import Attention, GluMlp, Mlp, SwiGLU
from timm.models.vision_transformer import Block, ParallelScalingBlock, ParallelThingsBlock, ResPostBlock
from torch import Tensor, nn

from . import propagation

Back = Callable[[Tensor], Tensor]
Step = tuple[Tensor, Back]


@dataclass
class Tape:
    """The attention matrices in order of execution and, once relevance has come back, theirs."""

    alpha: float = 1.0
    beta: float = 0.0
    attention: list[Tensor] = field(default_factory=list)
    relevance: dict[int, Tensor] = field(default_factory=dict)


def linear(tape: Tape, layer: nn.Linear, x: Tensor) -> Step:
    """y = x W' + b."""
    return layer(x), lambda r: propagation.linear(x, layer.weight, r, tape.alpha, tape.beta)


def dot_product(
    tape: Tape, q: Tensor, k: Tensor, v: Tensor, scale: float
) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]]:
    """softmax(q k' scale) v, all [B, H, N, D]. The tape receives the relevance of the softmax output."""
    attention = (q @ k.transpose(-2, -1) * scale).softmax(dim=-1)
    if torch.is_grad_enabled() and not attention.requires_grad:
        attention.requires_grad_()
    layer = len(tape.attention)
    tape.attention.append(attention)

    def back(r: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        r_attention, r_v = propagation.matmul(attention, v, r)
        tape.relevance[layer] = r_attention
        r_q, r_k_transposed = propagation.matmul(q, k.transpose(-2, -1), r_attention)
        return r_q, r_k_transposed.transpose(-2, -1), r_v

    return attention @ v, back


def attention(tape: Tape, module: nn.Module, x: Tensor) -> Step:
    """proj(norm(softmax(q k' scale) v)) with q, k, v from one projection, q and k normalised."""
    if type(module) is not Attention or module.gate is not None:
        raise NotImplementedError(f"no relevance walk for this attention: {module}")
    images, tokens, _ = x.shape
    heads, width = module.num_heads, module.head_dim
    qkv, back_qkv = linear(tape, module.qkv, x)
    q, k, v = qkv.reshape(images, tokens, 3, heads, width).permute(2, 0, 3, 1, 4).unbind(0)
    mixed, back_heads = dot_product(tape, module.q_norm(q), module.k_norm(k), v, module.scale)
    joined = mixed.transpose(1, 2).reshape(images, tokens, heads * width)
    y, back_proj = linear(tape, module.proj, module.norm(joined))

    def back(r: Tensor) -> Tensor:
        r = back_proj(r).reshape(images, tokens, heads, width).transpose(1, 2)
        stacked = torch.stack(back_heads(r))  # [3, B, H, N, D]
        return back_qkv(stacked.permute(1, 3, 0, 2, 4).reshape(images, tokens, 3 * heads * width))

    return y, back


def mlp(tape: Tape, module: nn.Module, x: Tensor) -> Step:
    """fc2(norm(act(fc1 x))), or with a gate: fc2(norm(act(g) * u)), half of the relevance to g, half to u."""
    if isinstance(module, Mlp):
        hidden, back_hidden = linear(tape, module.fc1, x)
        hidden = module.act(hidden)
    elif isinstance(module, SwiGLU):
        gate, back_gate = linear(tape, module.fc1_g, x)
        value, back_value = linear(tape, module.fc1_x, x)
        hidden = module.act(gate) * value

        def back_hidden(r: Tensor) -> Tensor:
            r_gate, r_value = propagation.product(r)
            return back_gate(r_gate) + back_value(r_value)

    elif isinstance(module, GluMlp):
        packed, back_packed = linear(tape, module.fc1, x)
        first, second = packed.chunk(2, dim=-1)
        hidden = first * module.act(second) if module.gate_last else module.act(first) * second

        def back_hidden(r: Tensor) -> Tensor:
            return back_packed(torch.cat(propagation.product(r), dim=-1))

    else:
        raise NotImplementedError(f"no relevance walk for this MLP: {module}")
    y, back_fc2 = linear(tape, module.fc2, module.norm(hidden))
    return y, lambda r: back_hidden(back_fc2(r))


def residual(x: Tensor, branch: Tensor, back_branch: Back) -> Step:
    """x + branch(x): the addition rule, then the sum of what both consumers of x hand back."""

    def back(r: Tensor) -> Tensor:
        r_x, r_branch = propagation.add(x, branch, r)
        return r_x + back_branch(r_branch)

    return x + branch, back


def block(tape: Tape, module: Block, x: Tensor) -> Step:
    """x + ls1(attn(norm1 x)), then x + ls2(mlp(norm2 x))."""
    y, back_attention = attention(tape, module.attn, module.norm1(x))
    x, back_first = residual(x, module.ls1(y), back_attention)
    y, back_mlp = mlp(tape, module.mlp, module.norm2(x))
    x, back_second = residual(x, module.ls2(y), back_mlp)
    return x, lambda r: back_first(back_second(r))


def res_post_block(tape: Tape, module: ResPostBlock, x: Tensor) -> Step:
    """x + norm1(attn x), then x + norm2(mlp x)."""
    y, back_attention = attention(tape, module.attn, x)
    x, back_first = residual(x, module.norm1(y), back_attention)
    y, back_mlp = mlp(tape, module.mlp, x)
    x, back_second = residual(x, module.norm2(y), back_mlp)
    return x, lambda r: back_first(back_second(r))


def parallel_things_block(tape: Tape, module: ParallelThingsBlock, x: Tensor) -> Step:
    """x + sum_i attn_i(x), then x + sum_i ffn_i(x); the sums are reductions over a stacked axis."""

    def branches(x: Tensor, steps: list[Step], scales: list[nn.Module]) -> Step:
        parts = [scale(y) for (y, _), scale in zip(steps, scales, strict=True)]

        def back(r: Tensor) -> Tensor:
            shares = propagation.add_many(parts, r)
            return torch.stack([step[1](share) for step, share in zip(steps, shares, strict=True)]).sum(dim=0)

        return residual(x, torch.stack(parts).sum(dim=0), back)

    steps = [attention(tape, branch.attn, branch.norm(x)) for branch in module.attns]
    x, back_first = branches(x, steps, [branch.ls for branch in module.attns])
    steps = [mlp(tape, branch.mlp, branch.norm(x)) for branch in module.ffns]
    x, back_second = branches(x, steps, [branch.ls for branch in module.ffns])
    return x, lambda r: back_first(back_second(r))


def parallel_scaling_block(tape: Tape, module: ParallelScalingBlock, x: Tensor) -> Step:
    """x + ls(attn_out(attention) + mlp_out(act(hidden))), all inputs from one projection of in_norm(x).

    The two branches' addition follows the residual rule; with a fused output projection they are concatenated.
    """
    images, tokens, _ = x.shape
    heads, width = module.num_heads, module.head_dim
    projected, back_in = linear(tape, module.in_proj, module.in_norm(x))
    hidden, *qkv = projected.split(module.in_split, dim=-1)
    if module.mlp_bias is not None:
        hidden = hidden + module.mlp_bias
    hidden = module.mlp_act(hidden)
    q, k, v = (part.reshape(images, tokens, heads, width) for part in qkv)
    q, k, v = (part.transpose(1, 2) for part in (module.q_norm(q), module.k_norm(k), v))
    mixed, back_heads = dot_product(tape, q, k, v, module.scale)
    mixed = mixed.transpose(1, 2).reshape(images, tokens, heads * width)

    if module.out_proj is not None:
        y, back_out = linear(tape, module.out_proj, torch.cat((mixed, hidden), dim=-1))

        def back_outputs(r: Tensor) -> tuple[Tensor, Tensor]:
            r_mixed, r_hidden = back_out(r).split((mixed.shape[-1], hidden.shape[-1]), dim=-1)
            return r_mixed, r_hidden
    else:
        from_attention, back_attention = linear(tape, module.attn_out_proj, mixed)
        from_mlp, back_mlp = linear(tape, module.mlp_out_proj, hidden)
        y = from_attention + from_mlp

        def back_outputs(r: Tensor) -> tuple[Tensor, Tensor]:
            r_attention, r_mlp = propagation.add(from_attention, from_mlp, r)
            return back_attention(r_attention), back_mlp(r_mlp)

    def back(r: Tensor) -> Tensor:
        r_mixed, r_hidden = back_outputs(r)
        r_qkv = back_heads(r_mixed.reshape(images, tokens, heads, width).transpose(1, 2))
        flat = [part.transpose(1, 2).reshape(images, tokens, heads * width) for part in r_qkv]
        return back_in(torch.cat((r_hidden, *flat), dim=-1))

    return residual(x, module.ls(y), back)


WALKS: dict[type[nn.Module], Callable[..., Step]] = {
    Block: block,
    ResPostBlock: res_post_block,
    ParallelThingsBlock: parallel_things_block,
    ParallelScalingBlock: parallel_scaling_block,
}
