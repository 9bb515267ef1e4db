import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F

from flipscale.train.model import build, tokenize
from flipscale.train.text import CompactEmbedding, TextMask, encode_text, text_tower

TEXTS = ["a big red star", "a small blue ring left of a big red star", "!", "a small ring"]
VISION = {"image_size": 28, "layers": 1, "width": 16, "head_width": 16, "patch_size": 4}
KINDS = [open_clip.CLIP, open_clip.CustomTextCLIP]
TOWERS = [
    {},
    {"no_causal_mask": True},
    {"pool_type": "last", "proj_bias": True},
    {"pool_type": "first", "no_causal_mask": True},
    {"pool_type": "eos", "eos_id": 49407},
]


def model_of(kind, text, context_length=20):
    torch.manual_seed(0)
    model = kind(32, VISION, {"context_length": context_length, "width": 32, "heads": 2, "layers": 2, **text}).eval()
    # Words differ more than at the start of a training, so that a token too many or too few shows.
    text_tower(model).token_embedding.weight.data.mul_(20)
    return model


def tokens_of(length=20):
    return torch.from_numpy(tokenize(TEXTS, length))


def kept_by(kind, mask_ratio=0.5, model=None, tokens=None, seed=0, step=0, first=0):
    tokens = tokens_of() if tokens is None else tokens
    return TextMask(mask_ratio, kind, seed).draw(model or model_of(open_clip.CLIP, {}), tokens, step, first)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", TOWERS)
def test_text_of_the_full_length_is_encoded_as_open_clip_does(kind, text):
    model = model_of(kind, text)
    with torch.no_grad():
        for normalize in (False, True):
            ours, theirs = encode_text(model, tokens_of(), normalize), model.encode_text(tokens_of(), normalize)
            assert torch.allclose(ours, theirs, atol=1e-6)


def test_causal_text_gives_the_same_feature_at_any_length_that_holds_it():
    model = model_of(open_clip.CLIP, {}, context_length=77)
    with torch.no_grad():
        short, full = (encode_text(model, tokens_of(length)) for length in (12, 77))
    assert torch.allclose(short, full, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", TOWERS)
def test_keeping_every_token_changes_nothing(kind, text):
    model = model_of(kind, text)
    with torch.no_grad():
        all_kept = encode_text(model, tokens_of(), kept=torch.arange(20).expand(4, -1))
        assert torch.allclose(all_kept, encode_text(model, tokens_of()), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", TOWERS)
@pytest.mark.parametrize("mask", ["random", "prioritised", "block"])
def test_a_masked_text_is_the_text_with_attention_to_the_kept_tokens_only(kind, text, mask):
    """The same feature comes of computing all tokens and forbidding attention to those dropped."""
    model = model_of(kind, text)
    tower, tokens = text_tower(model), tokens_of()
    kept = kept_by(mask, model=model)
    hidden = torch.full((4, 20), -torch.inf).scatter(1, kept, 0.0)
    allowed = hidden[:, None, :] + (0 if tower.attn_mask is None else tower.attn_mask)
    # A dropped token whose every view is forbidden would give no number; it may see itself, as nobody sees it.
    allowed = torch.where(torch.eye(20, dtype=torch.bool), 0.0, allowed)
    with torch.no_grad():
        x = tower.token_embedding(tokens) + tower.positional_embedding
        x = tower.transformer(x, attn_mask=allowed.repeat_interleave(2, 0))
        pool_type, eos = text.get("pool_type", "argmax"), text.get("eos_id")
        x = open_clip.transformer.text_global_pool(tower.ln_final(x), tokens, pool_type, eos)
        x = tower.text_projection(x) if text.get("proj_bias") else x @ tower.text_projection
        assert torch.allclose(encode_text(model, tokens, kept=kept), x, atol=1e-5)
        assert not torch.allclose(encode_text(model, tokens), x, atol=1e-2)


@pytest.mark.parametrize("mask", ["random", "prioritised", "block"])
@pytest.mark.parametrize(("mask_ratio", "kept"), [(0.5, 10), (0.75, 5), (0.99, 1), (0.3, 14)])
def test_the_tower_computes_the_kept_tokens_only(mask, mask_ratio, kept):
    model, seen = model_of(open_clip.CLIP, {}), []
    first = model.transformer.resblocks[0]
    first.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape)))
    encode_text(model, tokens_of(), kept=kept_by(mask, mask_ratio, model))
    assert seen == [(4, kept, 32)]


def test_without_a_ratio_all_tokens_are_kept():
    assert kept_by("random", 0.0) is None


@pytest.mark.parametrize("mask", ["random", "prioritised", "block"])
def test_kept_tokens_are_in_order_and_different(mask):
    for step in range(20):
        kept = kept_by(mask, step=step)
        assert (kept.diff(dim=1) > 0).all()


@pytest.mark.parametrize("mask", ["random", "prioritised", "block"])
@pytest.mark.parametrize(
    ("text", "pooled"),
    [
        ({}, [5, 11, 2, 4]),
        ({"pool_type": "eos", "eos_id": 49407}, [5, 11, 2, 4]),
        ({"pool_type": "first"}, [0, 0, 0, 0]),
        ({"pool_type": "last"}, [19, 19, 19, 19]),
    ],
)
def test_the_token_that_is_pooled_is_always_kept(mask, text, pooled):
    model = model_of(open_clip.CLIP, text)
    for step in range(20):
        kept = kept_by(mask, 0.85, model, step=step)
        assert kept.shape == (4, 3)
        assert all(position in row for position, row in zip(pooled, kept.tolist(), strict=True))


def test_prioritised_drops_words_only_when_no_padding_is_left():
    # Four texts of 6, 12, 3 and 5 tokens with their ends, cut to 6 of 20.
    kept = [set(row) for row in kept_by("prioritised", 0.7).tolist()]
    assert kept[0] == {0, 1, 2, 3, 4, 5}
    assert kept[1] < set(range(12))
    assert kept[2] > {0, 1, 2}
    assert kept[3] > {0, 1, 2, 3, 4}


LONG = "a big red star above a small blue ring beside a tiny green heart on grey"
"""16 words: with its start and its end 18 tokens."""


@pytest.mark.parametrize(("text", "pooled"), [({}, 17), ({"pool_type": "first"}, 0), ({"pool_type": "last"}, 29)])
@pytest.mark.parametrize(("mask_ratio", "count"), [(0.5, 15), (0.75, 7), (0.9, 2), (0.95, 1)])
def test_a_block_is_of_tokens_that_follow_one_another_from_any_place_as_often(text, pooled, mask_ratio, count):
    """The caption has 18 of 30 positions. The pooled one is kept; the others begin at every place that holds them."""
    model = model_of(open_clip.CLIP, text, context_length=30)
    tokens = torch.from_numpy(tokenize([LONG] * 4000, 30))
    assert int(tokens[0].argmax()) == 17
    kept = kept_by("block", mask_ratio, model, tokens)
    assert kept.shape == (4000, count)
    assert (kept == pooled).sum(dim=1).eq(1).all()
    others = kept[kept != pooled].reshape(4000, count - 1)
    assert (others.diff(dim=1) == 1).all()
    if count == 1:
        return
    assert set(others.flatten().tolist()) == set(range(18)) - {pooled}
    starts = torch.bincount(others[:, 0] - others[:, 0].min()).double()
    assert len(starts) == (18 - (pooled < 18)) - (count - 1) + 1
    expected = 4000 / len(starts)
    # Chi-squared with one degree of freedom fewer than there are places: five deviations above its mean.
    free = len(starts) - 1
    assert float(((starts - expected) ** 2 / expected).sum()) < free + 5 * (2 * free) ** 0.5


def test_a_block_takes_padding_of_a_caption_that_is_shorter_only():
    kept = kept_by("block", 0.5).tolist()
    # Texts of 6, 12, 3 and 5 tokens with their ends, cut to 10 of 20.
    assert kept[0] == kept[2] == kept[3] == list(range(10))
    assert set(kept[1]) < set(range(12))


def test_random_keeps_padding_as_readily_as_words():
    model, counts = model_of(open_clip.CLIP, {}), torch.zeros(20)
    for step in range(300):
        counts += torch.bincount(kept_by("random", 0.5, model, step=step)[0], minlength=20)
    # The end, at 5, always; of the 19 others 9: 142 times of 300, with a standard deviation of 8.6.
    assert counts[5] == 300
    others = torch.cat([counts[:5], counts[6:]])
    assert others.min() > 142 - 5 * 8.6
    assert others.max() < 142 + 5 * 8.6


@pytest.mark.parametrize("mask", ["random", "prioritised", "block"])
def test_slices_of_a_batch_draw_what_the_whole_batch_draws(mask):
    whole = kept_by(mask, seed=3, step=7)
    for part in (slice(0, 1), slice(1, 3), slice(3, 4)):
        assert torch.equal(kept_by(mask, seed=3, step=7, first=part.start, tokens=tokens_of()[part]), whole[part])
    assert not torch.equal(kept_by(mask, seed=3, step=8), whole)
    assert not torch.equal(kept_by(mask, seed=4, step=7), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_activation_checkpointing_gives_the_same_feature_and_gradient(kind):
    def gradient(checkpointing):
        model = model_of(kind, {}).train()
        model.set_grad_checkpointing(checkpointing)
        seen = []
        text_tower(model).transformer.resblocks[0].register_forward_pre_hook(lambda *_: seen.append(1))
        kept = kept_by("random", model=model)
        feature = encode_text(model, tokens_of(), kept=kept)
        feature.square().sum().backward()
        return feature.detach(), text_tower(model).positional_embedding.grad, len(seen)

    (feature, gradient_of, forwards), (other, other_gradient, twice) = gradient(False), gradient(True)
    assert (forwards, twice) == (1, 2)
    assert torch.equal(feature, other)
    assert torch.allclose(gradient_of, other_gradient, atol=1e-6)


IDS = torch.tensor([0, 320, 1205, 49406, 49407])


def test_a_compact_table_looks_up_the_rows_of_the_full_one():
    full = torch.randn(49408, 16)
    tokens = torch.tensor([[49406, 320, 49407, 0], [49406, 1205, 320, 49407]])
    assert torch.equal(CompactEmbedding(full, IDS)(tokens), F.embedding(tokens, full))


@pytest.mark.parametrize("token", [1, 321, 49405])
def test_a_token_outside_the_vocabulary_is_an_error(token):
    with pytest.raises(IndexError):
        CompactEmbedding(torch.randn(49408, 16), IDS)(torch.tensor([[token]]))


def test_a_compact_table_trains_as_the_full_one():
    """40 steps with a weight decay that takes the unused rows to a third."""
    start, tokens = torch.randn(49408, 16, generator=torch.Generator().manual_seed(0)), IDS[[3, 1, 2, 1, 4, 0]][None]
    full, compact = torch.nn.Embedding.from_pretrained(start.clone(), freeze=False), CompactEmbedding(start, IDS)
    optimizers = [torch.optim.AdamW([table.weight], weight_decay=2.0, fused=True) for table in (full, compact)]
    for step in range(40):
        for table, optimizer in zip((full, compact), optimizers, strict=True):
            optimizer.param_groups[0]["lr"] = 0.03 * (1 - step / 40)
            table(tokens).square().sum().sin().backward()
            optimizer.step()
            optimizer.zero_grad()
    trained = full.weight.detach()
    assert 0.2 < float(trained[7].norm() / start[7].norm()) < 0.4
    assert torch.allclose(compact.full(), trained, rtol=1e-5, atol=1e-6)
    assert torch.allclose(compact.weight[:-1], trained[IDS], rtol=1e-5, atol=1e-6)


def test_the_state_of_a_compact_table_is_its_rows_and_says_how_far_the_others_decayed():
    start = torch.randn(49408, 16)
    trained, fresh = CompactEmbedding(start, IDS), CompactEmbedding(start, IDS)
    optimizer = torch.optim.AdamW(trained.parameters(), lr=0.1, weight_decay=1.0)
    trained(IDS).sum().backward()
    optimizer.step()
    assert list(trained.state_dict()) == ["weight"]
    assert trained.weight.shape == (6, 16)
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(fresh.full(), trained.full())
    assert torch.allclose(fresh.full()[1], 0.9 * start[1])


def test_what_is_not_trained_stays_as_it_was():
    full = torch.randn(49408, 16)
    assert torch.equal(CompactEmbedding(full, IDS).full(), full)


def test_a_compact_model_encodes_as_the_full_one(settings):
    vocabulary = np.unique(tokenize(TEXTS, 16))
    full, compact = build(settings()).eval(), build(settings(), vocabulary).eval()
    tokens = tokens_of(16)
    with torch.no_grad():
        assert torch.equal(encode_text(compact, tokens), encode_text(full, tokens))
