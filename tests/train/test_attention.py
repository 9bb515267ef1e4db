"""The short way through self-attention computes what torch's own module does."""

import pytest
import torch
from torch import nn

from flipscale.train.attention import SelfAttention, shorten


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
