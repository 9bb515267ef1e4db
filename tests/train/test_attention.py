"""The short way through self-attention computes what torch's own module does."""

import pytest
import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import nn

from flipscale.train.attention import SelfAttention, last_block, shorten


@pytest.mark.parametrize("causal", [False, True])
def test_it_gives_what_torch_gives_forward_and_backward(causal: bool) -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(32, 4, batch_first=True)
    mask = torch.full((7, 7), float("-inf")).triu(1) if causal else None
    x = torch.randn(3, 7, 32)
    found = []
    for module in (attention, SelfAttention(attention)):
        own = x.clone().requires_grad_()
        out, weights = module(own, own, own, need_weights=False, attn_mask=mask)
        assert weights is None
        module.zero_grad()
        out.square().sum().backward()
        found.append([out, own.grad, *(parameter.grad.clone() for parameter in attention.parameters())])
    assert len(found[0]) == 6
    for theirs, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_state_dict_stays_torchs() -> None:
    block = nn.ModuleDict({"attn": nn.MultiheadAttention(32, 4, batch_first=True), "other": nn.Linear(2, 2)})
    before = {name: value.clone() for name, value in block.state_dict().items()}
    shorten(block)
    assert isinstance(block["attn"], SelfAttention)
    assert list(before) == list(block.state_dict())
    assert all(torch.equal(before[name], value) for name, value in block.state_dict().items())


@pytest.mark.parametrize("layer_scale", [None, 0.1])
@pytest.mark.parametrize("causal", [False, True])
def test_the_last_block_at_one_position_is_open_clips_block_there(causal: bool, layer_scale: float | None) -> None:
    torch.manual_seed(0)
    stack = nn.ModuleList([ResidualAttentionBlock(32, 4, ls_init_value=layer_scale)])
    mask = torch.full((7, 7), float("-inf")).triu(1) if causal else None
    x, position = torch.randn(3, 7, 32), torch.tensor([6, 0, 3])
    found = []
    for shortened in (False, True):
        if shortened:
            shorten(stack)
        own = x.clone().requires_grad_()
        out = last_block(stack[0], own, position, mask)
        stack.zero_grad()
        out.square().sum().backward()
        found.append([out, own.grad, *(parameter.grad.clone() for parameter in stack.parameters())])
    torch.testing.assert_close(found[0][0], stack[0](x, attn_mask=mask)[torch.arange(3), position])
    for theirs, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)
