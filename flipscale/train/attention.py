"""Self-attention on torch's fused kernel, with the parameters of nn.MultiheadAttention and a shorter way to it.

nn.MultiheadAttention copies queries, keys and values into an order of its own, forward and backward, and so do blocks
of open_clip, which use it. Without the copies a step of ViT-w48d3-4 takes 7 to 11 % less time on a CPU.
"""

from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """Self-attention with the parameters of `attention`, under the same names, and its results up to rounding."""

    def __init__(self, attention: nn.MultiheadAttention):
        super().__init__()
        self.heads = attention.num_heads
        self.in_proj_weight = attention.in_proj_weight
        self.in_proj_bias = attention.in_proj_bias
        self.out_proj = attention.out_proj

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = False, attn_mask: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """query [B, L, W], which is key and value too; attn_mask [L, L] is added to the scores: [B, L, W] and None."""
        assert query is key, "a sequence attends to itself here"
        assert key is value, "a sequence attends to itself here"
        assert not need_weights, "the fused kernel has no weights to give"
        batch, length, width = query.shape
        packed = F.linear(query, self.in_proj_weight, self.in_proj_bias)
        heads = [part.view(batch, length, self.heads, -1).transpose(1, 2) for part in packed.chunk(3, dim=-1)]
        seen = F.scaled_dot_product_attention(heads[0], heads[1], heads[2], attn_mask)
        return self.out_proj(seen.transpose(1, 2).reshape(batch, length, width)), None

    def at(self, tokens: Tensor, position: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """The output [B, W] at one position of each sequence: tokens [B, L, W], position int64 [B]."""
        batch, length, width = tokens.shape
        picked = tokens[torch.arange(batch, device=tokens.device), position]
        # The first rows are those of the queries; those of keys and values follow.
        weight = self.in_proj_weight
        bias = self.in_proj_bias
        query = F.linear(picked, weight[:width], bias[:width]).view(batch, self.heads, 1, -1)
        others = F.linear(tokens, weight[width:], bias[width:]).view(batch, length, 2, self.heads, -1)
        key, value = others.permute(2, 0, 3, 1, 4).unbind()
        seen = None if attn_mask is None else attn_mask[position][:, None, None]
        out: Tensor = self.out_proj(F.scaled_dot_product_attention(query, key, value, seen).view(batch, width))
        return out


def last_block(block: nn.Module, tokens: Tensor, position: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """A block's output [B, W] at the position that is pooled, int64 [B], up to rounding: tokens [B, L, W].

    No other output of the last block is read, so all but its keys and values is computed for one token of each text.
    """
    if type(block) is not ResidualAttentionBlock or not isinstance(block.attn, SelfAttention):
        out: Tensor = block(tokens, attn_mask=attn_mask)
        return out[torch.arange(len(out), device=out.device), position]
    parts: Any = block  # open_clip has no types.
    x = tokens[torch.arange(len(tokens), device=tokens.device), position]
    x = x + parts.ls_1(parts.attn.at(parts.ln_1(tokens), position, attn_mask))
    pooled: Tensor = x + parts.ls_2(parts.mlp(parts.ln_2(x)))
    return pooled


def shorten(module: nn.Module) -> None:
    """Replace every self-attention in `module` by `SelfAttention`; its state dict stays as it is."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.MultiheadAttention and child.batch_first and child._qkv_same_embed_dim:
                setattr(parent, name, SelfAttention(child))
