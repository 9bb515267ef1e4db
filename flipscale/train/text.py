"""The text tower at any length, with text masking, and with a vocabulary of the words that occur.

open_clip's own `encode_text` takes texts of the full context. Here the first T positions are used, as FLIP does with
T = 32 (arXiv 2212.00794, section 4), and training may drop some of the T tokens (FLIP, Table 1c).
"""

from typing import Any

import torch
import torch.nn.functional as F
from open_clip import CLIP
from open_clip.transformer import text_global_pool
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flipscale.settings.architecture import patches_kept
from flipscale.train.attention import last_block
from flipscale.train.mask import uniform

_TEXT_STREAM = 0x74657874
"""Keeps the random numbers of text masks apart from others that come from the same seed."""


def text_tower(model: CLIP) -> Any:
    """The module that holds the text tower: CLIP keeps it in itself, CustomTextCLIP in `text`."""
    return getattr(model, "text", model)


def encode_text(model: CLIP, tokens: Tensor, normalize: bool = False, kept: Tensor | None = None) -> Tensor:
    """Text features [B, E] of tokens [B, T], for any T up to the model's context length.

    kept: positions to compute, int64 [B, K], ascending, the pooled one among them, as `TextMask` draws them; None: all.
    Tokens get their own position before the others are dropped and stay in order, so a causal mask hides exactly the
    tokens that come later in the text. Only K tokens are computed.

    Without `kept` this is open_clip's `encode_text` at any length, up to rounding. The last block and the LayerNorm
    after it are computed for the token that is pooled alone: no other output of them is read.
    """
    tower = text_tower(model)
    if kept is None:
        x = tower.token_embedding(tokens) + tower.positional_embedding[: tokens.shape[1]]
    else:
        tokens = tokens.gather(1, kept)
        x = tower.token_embedding(tokens) + F.embedding(kept, tower.positional_embedding)
    length = tokens.shape[1]
    causal = None if tower.attn_mask is None else tower.attn_mask[:length, :length]
    *blocks, last = tower.transformer.resblocks
    for block in blocks:
        if tower.transformer.grad_checkpointing:
            x = checkpoint(block, x, None, None, causal, use_reentrant=False)
        else:
            x = block(x, attn_mask=causal)
    x = tower.ln_final(last_block(last, x, _pooled_position(tower, tokens), causal))
    if isinstance(tower.text_projection, nn.Linear):
        x = tower.text_projection(x)
    elif tower.text_projection is not None:
        x = x @ tower.text_projection
    return F.normalize(x, dim=-1) if normalize else x


class TextMask:
    """Draws the tokens of each text that training keeps, as many as `patches_kept` of the text's length.

    random: any, padding among them. prioritised: padding is dropped first, then words at random. block: those that
    follow one another in the caption, from a place that is as likely as any other; padding only of a caption that is
    shorter (CLIPA's block, arXiv 2305.07017, which is open_clip's `reduction_mask: simple`). In each the token that
    the text's feature is pooled from is kept: it is to the text what the class token is to the image. All other tokens
    are alike, the start of the text among them, which CLIPA and open_clip always keep.
    """

    def __init__(self, mask_ratio: float, kind: str, seed: int):
        assert kind in ("random", "prioritised", "block")
        self.mask_ratio = mask_ratio
        self.kind = kind
        self.seed = seed

    def draw(self, model: CLIP, tokens: Tensor, step: int, first: int) -> Tensor | None:
        """The positions kept of tokens [b, T], rows `first` on of the batch of `step`: int64 [b, K]; None for all."""
        if not self.mask_ratio:
            return None
        rows, length = tokens.shape
        count = patches_kept(length, self.mask_ratio)
        pooled = _pooled_position(text_tower(model), tokens)[:, None]
        columns = 1 if self.kind == "block" else length
        chance = uniform(_TEXT_STREAM, self.seed, step, first, rows, columns).to(tokens.device, non_blocking=True)
        if self.kind == "block":
            return _with_block(chance, pooled, tokens.argmax(dim=1, keepdim=True), length, count)
        if self.kind == "prioritised":
            # The end of the text has the largest id of the tokenizer. Token 0 does not mark padding: it is also "!".
            end = tokens.argmax(dim=1, keepdim=True)
            chance -= (torch.arange(length, device=tokens.device) > end).float()
        chance.scatter_(1, pooled, 2.0)
        return chance.topk(count).indices.sort(dim=1).values


def _with_block(chance: Tensor, pooled: Tensor, end: Tensor, length: int, count: int) -> Tensor:
    """The pooled position and a block of count - 1 others of `length`, ascending: int64 [b, count].

    chance: [b, 1], where the block begins, among its possible places in the caption. pooled, end: int64 [b, 1], the
    pooled position, and the last of the caption. The pooled one is skipped, not counted: it is the first, the end
    or the last of all, so the block stays in one piece.
    """
    others = end + (pooled > end)  # Tokens of the caption that are not pooled.
    start = (chance * (others - count + 2).clamp(min=1)).long()
    block = start + torch.arange(count - 1, device=chance.device)
    block += block >= pooled
    return torch.cat([block, pooled], dim=1).sort(dim=1).values


def _pooled_position(tower: Any, tokens: Tensor) -> Tensor:
    """The position of each text's feature, int64 [b]: the one that `text_global_pool` picks out of its own."""
    positions = torch.arange(tokens.shape[1], device=tokens.device)[:, None].expand(len(tokens), -1, 1)
    # CLIP and CustomTextCLIP name them differently.
    names = ("text_pool_type", "text_eos_id") if hasattr(tower, "text_pool_type") else ("pool_type", "eos_id")
    pool_type, eos = (getattr(tower, name) for name in names)
    position: Tensor = text_global_pool(positions, tokens, pool_type, eos_token_id=eos)
    return position[:, 0]


class CompactEmbedding(nn.Module):
    """A token embedding with rows only for the tokens that occur; it trains as the full one would.

    An optimizer walks all rows of a table: 49,408, of which a small data set uses a few hundred. The rows that are left
    out would get no gradient and only decay, all by the same factor. A last row that no token looks up decays with the
    rest, so the table itself says how far, whatever the optimizer, its schedule and its skipped steps were: the state
    dict is all that a checkpoint needs. `full` is the table as it would have become.
    """

    row: Tensor

    def __init__(self, full: Tensor, ids: Tensor):
        """full: [vocabulary, width], the initial table. ids: int64, ascending, the tokens that occur."""
        super().__init__()
        self.initial = full.detach()
        self.ids = ids
        self.weight = nn.Parameter(torch.cat([self.initial[ids], _unused(full)[None]]))
        # A token that is not there gets a row beyond the end, so that looking it up is an error on every device.
        row = torch.full((len(full),), len(ids) + 1)
        row[ids] = torch.arange(len(ids))
        self.register_buffer("row", row, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [B, T], ids of the full vocabulary, to [B, T, width]. Raises IndexError for one not among `ids`."""
        return F.embedding(self.row[tokens], self.weight)

    def full(self) -> Tensor:
        """The full table as training it would have left it: [vocabulary, width], on the CPU."""
        weight = self.weight.detach().cpu()
        decay = float((weight[-1].double() / _unused(weight).double()).mean())
        table = self.initial * decay
        table[self.ids] = weight[:-1]
        return table


def _unused(table: Tensor) -> Tensor:
    """The initial row that no token looks up: values from 1 to 2, whose rounding errors cancel in their mean."""
    return torch.linspace(1, 2, table.shape[1])
