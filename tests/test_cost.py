"""What a run costs, against open_clip, torch's own FLOP counter and the published figures."""

from dataclasses import asdict, replace

import pytest
import torch
from open_clip.loss import ClipLoss
from open_clip.model import CLIP, CustomTextCLIP
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from flipscale.cost.arithmetic import (
    ALLOCATOR,
    Flops,
    activation_bytes,
    cost,
    flops,
    image_parameters,
    is_limited_by_reading,
    loss_flops,
    memory_of,
    parameters,
    rate_of,
    step_traffic,
    trained_parameters,
    training_view,
)
from flipscale.errors import FlipscaleError
from flipscale.planning.identity import stage
from flipscale.settings.architecture import Architecture, architecture, known_models, patches_kept, resized_side
from flipscale.settings.declarations import FineTuning, Reconstruction, Resources
from tests.asked import settings_of

FAMILY = ("ViT-w16d1-4", "ViT-w48d3-4", "ViT-w64d4-7", "ViT-w128d12-2")

# FLIP's ViT-L/16 on LAION-400M for 32 epochs (arXiv 2212.00794): the base of its trade-off in figure 1.
FLIP_L16 = settings_of(
    model="ViT-L-16",
    image_size=224,
    text_length=32,
    samples=12_800_000_000,
    batch_size=16384,
    precision="bf16",
)
# Mask ratio, batch, GPU memory in G (footnote 1) and hours on 256 TPU-v3 cores (figure 3, without unmasked tuning).
FLIP_RUNS = [(0, 16384, 25.5, 233.5), (0.5, 32768, 23.9, 115.4), (0.75, 65536, 24.5, 77.4)]


class NoFirstValues(TorchFunctionMode):
    """Weights get no first values. On "meta" they have none, yet drawing them takes most of the time of `build`."""

    DRAWN = (torch.Tensor.normal_, torch.Tensor.uniform_)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        return args[0] if function in self.DRAWN else function(*args, **(kwargs or {}))


def build(shape: Architecture, mask_ratio: float = 0) -> torch.nn.Module:
    """The model as open_clip builds it, with open_clip's own patch dropout. On "meta": it has shapes and no values."""
    config = shape.open_clip_config
    config["vision_cfg"] |= {"patch_dropout": mask_ratio, "layers": shape.image.layers}
    config["text_cfg"] |= {"layers": shape.text.layers}
    kind = CustomTextCLIP if config.pop("custom_text", False) else CLIP
    with torch.device("meta"), NoFirstValues():
        return kind(**config).train()


@pytest.mark.parametrize("name", [*known_models(), *FAMILY])
def test_parameters_equal_open_clips(name):
    shape = architecture(name)
    assert parameters(shape) == sum(p.numel() for p in build(shape).parameters())


def test_parameters_follow_the_image_size():
    shape = architecture("ViT-B-16", 112)
    assert parameters(shape) == sum(p.numel() for p in build(shape).parameters())


def test_the_bias_of_the_sigmoid_loss_is_a_parameter():
    model = CLIP(**architecture("ViT-w48d3-4").open_clip_config, init_logit_bias=-10.0)
    asked = settings_of(model="ViT-w48d3-4", loss_function="sigmoid")
    assert trained_parameters(asked) == sum(p.numel() for p in model.parameters())


# FLOPs


def encode_text(model: torch.nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """open_clip's CLIP.encode_text on texts shorter than its context."""
    length = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    mask = None if model.attn_mask is None else model.attn_mask[:length, :length]
    return model.ln_final(model.transformer(x, attn_mask=mask))[:, 0] @ model.text_projection


def counted(forward) -> tuple[int, int]:
    """Forward and backward FLOPs by torch's counter.

    It knows no fused attention on a CPU and would count none, so attention is made of plain products here.
    """
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as ahead:
            features = forward()
        with FlopCounterMode(display=False) as back:
            features.sum().backward()
    return ahead.get_total_flops(), back.get_total_flops()


@pytest.mark.parametrize("mask_ratio", [0, 0.5, 0.75])
@pytest.mark.parametrize(
    ("name", "image_size", "text_length", "layers"),
    [
        ("ViT-w48d3-4", None, 32, None),
        ("ViT-w16d2-7", None, 16, None),
        ("ViT-B-32", None, 32, None),
        # The other blocks of these are like the first ones, and the counter takes each operation apart in Python.
        ("ViT-B-32", 256, 77, 3),
        ("ViT-M-16-alt", None, 32, 3),
        ("ViT-L-14-CLIPA", 84, 16, 3),
        ("ViT-g-14", 56, 8, 3),
    ],
)
def test_flops_equal_torchs_counter_in_both_towers_and_both_passes(name, image_size, text_length, layers, mask_ratio):
    shape = architecture(name, image_size)
    if layers:
        image, text = replace(shape.image, layers=layers), replace(shape.text, layers=layers - 1)
        shape = replace(shape, image=image, text=text)
    model = build(shape, mask_ratio)
    batch = 2
    images = torch.zeros(batch, 3, shape.image.image_size, shape.image.image_size, device="meta")
    tokens = torch.zeros(batch, text_length, dtype=torch.long, device="meta")
    image, text = counted(lambda: model.visual(images)), counted(lambda: encode_text(model, tokens))
    assert flops(shape, mask_ratio, text_length) == Flops(
        image_forward=image[0] // batch,
        image_backward=image[1] // batch,
        text_forward=text[0] // batch,
        text_backward=text[1] // batch,
    )


def test_loss_flops_equal_torchs_counter_on_open_clips_loss():
    batch, shape = 24, architecture("ViT-B-32")
    image, text = (torch.randn(batch, shape.embed_dim, requires_grad=True) for _ in range(2))
    ahead, back = counted(lambda: ClipLoss()(image, text, torch.tensor(10.0)))
    assert loss_flops(shape, batch) * batch == ahead + back


@pytest.mark.parametrize(
    ("name", "image", "text"),
    [("ViT-B-16", 17.56, 1.22), ("ViT-L-16", 61.55, 2.74), ("ViT-H-14", 167.30, 9.72)],
)
def test_forward_multiply_adds_are_flips_per_model(name, image, text):
    unmasked = flops(architecture(name), 0, 32)
    assert unmasked.image_forward / 2e9 == pytest.approx(image, abs=0.005)
    assert unmasked.text_forward / 2e9 == pytest.approx(text, abs=0.005)


@pytest.mark.parametrize(
    ("name", "half", "quarter"),
    [("ViT-B-16", 0.528, 0.300), ("ViT-L-16", 0.518, 0.282), ("ViT-H-14", 0.522, 0.289)],
)
def test_masking_saves_what_flip_says(name, half, quarter):
    """FLIP's table 1a has 0.52 and 0.28 for ViT-L/16, which is the ratio of forward multiply-adds."""
    unmasked, masked_half, masked_most = (flops(architecture(name), ratio, 32) for ratio in (0, 0.5, 0.75))

    def forward(flops: Flops) -> int:
        return flops.image_forward + flops.text_forward

    assert round(forward(masked_half) / forward(unmasked), 3) == half
    assert round(forward(masked_most) / forward(unmasked), 3) == quarter


def test_masking_saves_a_little_more_in_training_as_the_patch_convolution_has_half_a_backward_pass():
    unmasked, half, most = (cost(replace(FLIP_L16, mask_ratio=ratio)).flops_per_sample for ratio in (0, 0.5, 0.75))
    assert (round(half / unmasked, 3), round(most / unmasked, 3)) == (0.517, 0.281)


def test_text_tower_of_flips_l16_is_4_4_percent_of_the_image_tower():
    unmasked = flops(architecture("ViT-L-16"), 0, 32)
    assert round(unmasked.text_forward / unmasked.image_forward, 3) == 0.044


def test_text_longer_than_the_context_is_refused():
    with pytest.raises(
        FlipscaleError, match=r"text_length 77 is longer than the context of ViT-w48d3-4; .* 32 or less"
    ):
        cost(replace(FLIP_L16, model="ViT-w48d3-4", image_size=28, text_length=77))


# A run


def test_cost_of_a_small_run_is_its_arithmetic():
    settings = settings_of(
        model="ViT-w48d3-4",
        image_size=28,
        text_length=16,
        samples=1000,
        mask_ratio=0.5,
        batch_size=64,
        precision="fp32",
    )
    # 25 image tokens and 16 text tokens of width 48, in 3 blocks and 1; 49 patches of 48 values.
    image_forward = 2 * 49 * 48 * 48 + 3 * (25 * 24 * 48**2 + 4 * 25**2 * 48) + 2 * 48 * 48
    text = 3 * ((16 * 24 * 48**2 + 4 * 16**2 * 48) + 2 * 48 * 48)
    image = 3 * image_forward - 2 * 49 * 48 * 48
    assert asdict(cost(settings, Resources(flops_per_second=1e9))) == {
        "params": 2_495_761,
        "image_flops": image,
        "text_flops": text,
        "loss_flops": 12 * 64 * 48,
        "flops_per_sample": image + text,
        "samples_seen": 1024,
        "steps": 16,
        "train_flops": (image + text) * 1024,
        "memory_bytes": 16 * 2_495_761
        + 64 * (4 * 3 * 28 * 28 + 25 * (3 * 64 * 48 + 8 * 48) + 16 * (64 * 48 + 8 * 48))
        + 16 * 64 * 48
        + 24 * 64 * 64,
        "gpu_hours": pytest.approx((image + text + 12 * 64 * 48) * 1024 / 1e9 / 3600),
        "gpu_hours_low": pytest.approx((image + text + 12 * 64 * 48) * 1024 / 1.2e9 / 3600),
        "gpu_hours_high": pytest.approx((image + text + 12 * 64 * 48) * 1024 / 1e9 / 3600 * 1.2),
    }


@pytest.mark.parametrize(
    ("samples", "steps"), [(1, 1), (64, 1), (95, 1), (96, 2), (160, 3), (10**12 + 31, 15_625_000_000)]
)
def test_samples_are_whole_batches_and_at_least_one(samples, steps):
    run = cost(replace(FLIP_L16, samples=samples, batch_size=64))
    assert (run.steps, run.samples_seen) == (steps, steps * 64)


def test_training_of_flips_largest_run_has_1_4e22_flops():
    run = cost(replace(FLIP_L16, model="ViT-H-14", samples=25_600_000_000, mask_ratio=0.5, batch_size=65536))
    assert run.train_flops == pytest.approx(1.4e22, rel=0.02)
    assert isinstance(run.train_flops, int)


# Hours


@pytest.mark.parametrize(
    ("mask_ratio", "batch", "hours"), [(mask, batch, hours) for mask, batch, _, hours in FLIP_RUNS]
)
def test_hours_of_flips_runs_are_predicted_within_15_percent(mask_ratio, batch, hours):
    run = cost(replace(FLIP_L16, mask_ratio=mask_ratio, batch_size=batch), Resources(processes=256, device="TPU-v3"))
    assert run.gpu_hours == pytest.approx(256 * hours, rel=0.15)


def test_hours_do_not_depend_on_the_number_of_devices():
    assert (
        cost(FLIP_L16, Resources(processes=1, device="A100")).gpu_hours
        == cost(FLIP_L16, Resources(processes=64, device="A100")).gpu_hours
    )


def test_fp32_on_a_gpu_is_tf32_and_half_as_fast_as_bf16():
    run, slow = (
        cost(replace(FLIP_L16, precision=precision), Resources(device="A100")) for precision in ("bf16", "fp32")
    )
    assert slow.gpu_hours / run.gpu_hours == pytest.approx(2)


def test_hours_are_told_with_the_range_of_the_device():
    run = cost(FLIP_L16, Resources(device="A100"))
    assert (run.hours.low, run.hours.high) == (run.gpu_hours / 1.5, run.gpu_hours * 1.5)
    assert str(run.hours) == "about 15,000 (9,800 to 22,000)"


def test_software_of_2022_trains_half_as_fast():
    today, then = (cost(FLIP_L16, Resources(device="A100", software=year)) for year in (None, 2022))
    assert then.gpu_hours == pytest.approx(2 * today.gpu_hours)


SHARDS = {"webdataset": {"urls": "laion/{00000..41455}.tar"}}


@pytest.mark.parametrize(("size", "rate"), [(224, 2280), (128, 2280 * 1.75**1.4), (448, 2280 / 2**1.4)])
def test_decoding_on_four_cores_caps_the_rate_of_a_model_that_costs_little(size, rate):
    asked = {"model": "ViT-S-32-alt", "image_size": size, "samples": 15_000_000, "batch_size": 1000}
    asked["precision"] = "bf16"
    small = settings_of(**asked, data=SHARDS)
    found = cost(small, Resources(device="H100"))
    assert found.gpu_hours == pytest.approx(15_000_000 / rate / 3600)
    assert is_limited_by_reading(small, Resources(device="H100"))
    # Where images are decoded once a device waits for none; nor do cores that train.
    once = settings_of(**asked, data={"webdataset": {**SHARDS["webdataset"], "decode": "once"}})
    assert cost(once, Resources(device="H100")).gpu_hours < 0.5 * found.gpu_hours
    assert not is_limited_by_reading(small, Resources())
    faster = Resources(device="H100", samples_per_second=300)
    assert cost(small, faster).gpu_hours == pytest.approx(15_000_000 / 300 / 3600)


@pytest.mark.parametrize(("size", "rate"), [(224, 850 / 0.26), (448, 850 / 0.26 / 4)])
def test_drawing_on_four_threads_with_one_lock_caps_the_rate_of_a_model_that_costs_little(size, rate):
    asked = {"model": "ViT-S-32-alt", "image_size": size, "samples": 15_000_000, "batch_size": 1000}
    drawn = settings_of(**asked, precision="bf16", data={"shapes": {}})
    assert cost(drawn, Resources(device="H100")).gpu_hours == pytest.approx(15_000_000 / rate / 3600)
    assert is_limited_by_reading(drawn, Resources(device="H100"))
    assert not is_limited_by_reading(drawn, Resources())


def test_measured_rate_takes_the_place_of_the_devices():
    run = cost(FLIP_L16, Resources(device="A100", flops_per_second=1e12))
    assert run.gpu_hours == pytest.approx((run.flops_per_sample + run.loss_flops) * run.samples_seen / 3.6e15)


def test_unknown_device_is_refused():
    with pytest.raises(FlipscaleError, match=r"unknown device 'A1000', did you mean 'A100'.*or give flops_per_second"):
        cost(FLIP_L16, Resources(device="A1000"))


# Memory


@pytest.mark.parametrize("mask_ratio", [0, 0.5, 0.75])
@pytest.mark.parametrize(
    ("name", "image_size"),
    [("ViT-w128d12-4", 28), ("ViT-S-32-alt", 224), ("ViT-M-16-alt", 112), ("ViT-B-32-quickgelu", 64)],
)
def test_activation_bytes_are_what_autograd_keeps(name, image_size, mask_ratio):
    shape = architecture(name, image_size)
    model = build(shape, mask_ratio).to_empty(device="cpu")
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data.zero_()  # What memory happens to hold may be slow to compute with.
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    batch = 2
    images = torch.zeros(batch, 3, image_size, image_size)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.encode_image(images)
        encode_text(model, torch.zeros(batch, 32, dtype=torch.long))
    measured = sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / batch
    # What autograd keeps beyond the count are the statistics of LayerNorm and softmax.
    assert activation_bytes(shape, mask_ratio, 32, "fp32") == pytest.approx(measured, rel=0.05)


def memory_gib(mask_ratio: float, batch: int, software: int | None) -> float:
    resources = Resources(gpus=256, device="A100", software=software)
    return cost(replace(FLIP_L16, mask_ratio=mask_ratio, batch_size=batch), resources).memory_bytes / 2**30


@pytest.mark.parametrize(("mask_ratio", "batch", "memory"), [run[:3] for run in FLIP_RUNS])
def test_memory_of_flips_runs_is_predicted_within_15_percent(mask_ratio, batch, memory):
    assert memory_gib(mask_ratio, batch, 2022) == pytest.approx(memory, rel=0.15)


def test_memory_falls_and_rises_under_masks_as_flips_does():
    """At equal work a step, masks save attention's scores, and larger batches have more similarities."""
    unmasked, half, most = (memory_gib(mask, batch, 2022) for mask, batch, *_ in FLIP_RUNS)
    published = [run[2] for run in FLIP_RUNS]
    assert half / unmasked == pytest.approx(published[1] / published[0], rel=0.02)
    assert most / half == pytest.approx(published[2] / published[1], rel=0.02)


def test_fused_attention_saves_the_scores():
    shape, (mask, batch, *_) = architecture("ViT-L-16"), FLIP_RUNS[0]
    image, text = (tower.layers * tower.heads for tower in (shape.image, shape.text))
    scores = 6 * 64 * (image * 197**2 + text * 32**2)
    saved = memory_gib(mask, batch, 2022) - memory_gib(mask, batch, None)
    assert saved == pytest.approx(ALLOCATOR * scores / 2**30, rel=1e-3)


def test_an_accelerator_shows_more_than_tensors_as_used():
    held = memory_of(FLIP_L16, Resources(gpus=256))
    assert cost(FLIP_L16, Resources(gpus=256, device="A100")).memory_bytes == held.held
    assert held.held == pytest.approx(held.tensors + 2**30 + 0.2 * held.activations)


def test_few_activations_are_gone_when_the_last_gradients_come():
    """On one GPU a step with a tiny batch peaks at its end: weight, gradient and two moments of 4 bytes each."""
    one = replace(FLIP_L16, batch_size=1, mask_ratio=0.75)
    params = parameters(architecture("ViT-L-16"))
    assert memory_of(one, Resources(gpus=1)).tensors == 16 * params


def test_uneven_batch_is_counted_on_the_fullest_device():
    assert cost(replace(FLIP_L16, batch_size=9), Resources(processes=4)).memory_bytes - cost(
        replace(FLIP_L16, batch_size=8), Resources(processes=4)
    ).memory_bytes > activation_bytes(architecture("ViT-L-16"), 0, 32, "bf16")


# What a recipe adds


TINY = settings_of(
    model="ViT-w32d2-4",
    image_size=28,
    text_length=16,
    mask_ratio=0.5,
    text_mask_ratio=0.0,
    samples=640,
    batch_size=64,
    precision="fp32",
    reconstruction=None,
)


def test_reconstruction_costs_what_its_decoder_computes_three_times():
    with_decoder, without = (cost(replace(TINY, reconstruction=asked)) for asked in (Reconstruction(1.0, 16, 2), None))
    # 49 patches of 4 x 4 pixels, 24 kept: W = 32, D = 16, L = 2.
    forward = 2 * 25 * 32 * 16 + 2 * (24 * 50 * 16**2 + 4 * 50**2 * 16) + 6 * 25 * 4**2 * 16
    assert with_decoder.image_flops - without.image_flops == 3 * forward
    assert with_decoder.params == without.params


def test_text_masks_leave_the_text_tower_fewer_tokens():
    half, short = cost(replace(TINY, text_mask_ratio=0.5)), cost(replace(TINY, text_length=8))
    assert half.text_flops == short.text_flops
    assert half.image_flops == cost(TINY).image_flops


def test_evaluation_costs_no_training():
    run = cost(replace(TINY, samples=0))
    assert (run.samples_seen, run.steps, run.train_flops, run.gpu_hours) == (0, 0, 0, 0.0)


@pytest.mark.parametrize("resource", [Resources(accumulate=4), Resources(activation_checkpointing=True)])
def test_what_saves_memory_takes_one_forward_pass_more(resource):
    plain, sparing = cost(FLIP_L16), cost(FLIP_L16, resource)
    assert sparing.memory_bytes < plain.memory_bytes / 2
    assert sparing.train_flops == plain.train_flops
    assert sparing.gpu_hours == pytest.approx(plain.gpu_hours * 4 / 3, rel=0.01)


def test_a_fine_tuning_costs_the_image_tower_alone_on_all_patches():
    settings = replace(FLIP_L16, mask_ratio=0.5, text_mask_ratio=0.5)
    fine = FineTuning(64_000_000)
    own, pretraining = (cost(stage(replace(settings, fine_tuning=asked))) for asked in (fine, None))
    unmasked = flops(architecture("ViT-L-16", 224), 0.0, 32)
    assert (own.flops_per_sample, own.text_flops, own.loss_flops) == (unmasked.image, 0, 0)
    assert own.samples_seen == 64_000_000
    assert own.train_flops == 64_000_000 * unmasked.image
    # FLIP's vision transformer of Table 9 has 303M parameters.
    assert own.params == image_parameters(architecture("ViT-L-16", 224)) == pytest.approx(303e6, rel=0.01)
    assert own.params < pretraining.params


def test_parts_of_a_batch_take_no_second_forward_pass_in_a_fine_tuning():
    fine = FineTuning(64_000_000)
    staged = stage(replace(FLIP_L16, fine_tuning=fine))
    whole, parts = (cost(staged, Resources(gpus=8, device="A100", accumulate=parts)) for parts in (1, 4))
    assert whole.gpu_hours == parts.gpu_hours
    assert parts.memory_bytes < whole.memory_bytes


@pytest.mark.parametrize(
    ("model", "image_size", "mask_ratio", "smaller"),
    [
        ("ViT-L-16", 224, 0.75, 112),
        ("ViT-L-16", 224, 0.5, 160),
        ("ViT-H-14", 224, 0.5, 154),
        ("ViT-w32d2-4", 28, 0.5, 20),
    ],
)
def test_images_that_are_resized_cost_what_unmasked_ones_of_that_size_do(model, image_size, mask_ratio, smaller):
    """7 x 7 of 14 x 14 patches at 75 %, 10 x 10 at 50 %; 11 x 11 of 16 x 16 and 5 x 5 of 7 x 7."""
    base = replace(FLIP_L16, model=model, image_size=image_size)
    resized = replace(base, mask_ratio=mask_ratio, mask_shape="resize")
    assert training_view(resized).shape.image.image_size == smaller
    small = cost(replace(base, image_size=smaller))
    found = cost(resized)
    assert (found.flops_per_sample, found.train_flops) == (small.flops_per_sample, small.train_flops)
    assert found.gpu_hours == small.gpu_hours
    # The table of positions is the one of the full size: 16 bytes of weight, gradient and moments each, and on
    # bf16's autocast 2 of a copy.
    assert found.params == cost(base).params
    table = (architecture(model, image_size).image.patches - (smaller // architecture(model).image.patch_size) ** 2) * (
        architecture(model).image.width
    )
    assert found.memory_bytes - small.memory_bytes == (18 * table)


def test_a_resized_image_saves_the_patch_convolution_too():
    """A mask of 75 % keeps as many patches, but all 196 are embedded."""
    masked, resized = (cost(replace(FLIP_L16, mask_ratio=0.75, mask_shape=shape)) for shape in ("random", "resize"))
    assert masked.image_flops - resized.image_flops == 2 * 6 * (196 - 49) * 16**2 * 1024
    assert masked.text_flops == resized.text_flops


@pytest.mark.parametrize(
    ("side", "mask_ratio", "resized"),
    [
        (14, 0.75, 7),
        (14, 0.5, 10),
        (14, 0.918, 4),
        (7, 0.5, 5),
        (7, 0.75, 3),
        (16, 0.5, 11),
        (14, 0.99, 1),
        (14, 0.05, 14),
    ],
)
def test_resized_images_have_the_square_that_is_nearest_to_what_a_mask_keeps(side, mask_ratio, resized):
    kept = patches_kept(side**2, mask_ratio)
    assert resized_side(side, mask_ratio) == resized
    assert all(abs(resized**2 - kept) <= abs(other**2 - kept) for other in range(1, side + 1))


def test_more_loaders_feed_a_device_more() -> None:
    data = {"webdataset": {"urls": "{0..9}.tar", "name": "pairs", "decode": "always"}}
    settings = settings_of(model="ViT-B-16", image_size=224, batch_size=4096, data=data)
    rates = [
        rate_of(settings, Resources(gpus=1, device="H100", loaders=loaders)).samples_per_second
        for loaders in (None, 4, 12)
    ]
    assert rates == [rates[0], rates[0], 3 * rates[0]]


def test_a_step_waits_for_features_and_for_gradients_that_take_longer_than_its_backward_pass() -> None:
    """ViT-L/16 at 64k on 256 GPUs of 400 Gb/s: 3.4 GB of gradients in 69 ms, hidden, and 805 MB of features in 16."""
    settings = settings_of(model="ViT-L-16", image_size=224, samples=12_800_000_000, batch_size=65536, precision="bf16")
    resources = Resources(gpus=256, device="H100")
    fast, slow = (step_traffic(settings, resources, gigabits) for gigabits in (400, 25))
    features = 2 * 65536 * 2 * 768 * 4
    assert fast.bytes == features + 8 * parameters(architecture("ViT-L-16", 224))
    assert fast.exposed_seconds == pytest.approx(features / 50e9)
    assert slow.exposed_seconds == pytest.approx(slow.bytes / 3.125e9 - 2 / 3 * slow.computing_seconds)
