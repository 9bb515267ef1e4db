"""What a run costs follows from its settings alone: parameters, FLOPs, memory and GPU-hours, without torch.

**Parameters** are open_clip's to the last one, fixed sine-cosine positions and the logit scale included.

**FLOPs** count matrix products and the patch convolution, a multiplication and an addition as two, as PaLM does
(arXiv 2204.02311, appendix B) and as torch.utils.flop_counter counts; normalisations, activations and softmax are
left out. The blocks of the image tower see the kept patches and the class token, the patch convolution sees all patches
(FLIP, arXiv 2212.00794), the text tower sees `text_length` tokens. The backward pass costs twice the forward pass, but
for the patch convolution, whose input needs no gradient. The two products of a batch's features with each other are
the loss's and apart, as they alone grow with the batch.

FLIP and the papers after it print forward multiply-adds: half of `Flops.image_forward + Flops.text_forward`.

**Memory** is that of one device at the turn from the forward to the backward pass, see `memory_bytes`.

**GPU-hours** are device-hours of training: FLOPs over the rate a device sustains, see `DEVICES`. How many devices share
them does not matter. Evaluation, start-up and waiting for data are not in them.
"""

import functools
import re
from dataclasses import dataclass, replace
from typing import Protocol

from flipscale.architecture import Architecture, ImageTower, TextTower, architecture, patches_kept
from flipscale.errors import FlipscaleError, did_you_mean
from flipscale.settings import Reconstruction, Resources, Settings

UTILISATION = 0.35
"""The share of its peak that an accelerator sustains, unless measured: FLIP's own runs of ViT-L/16 on 256 TPU-v3 cores
sustained 0.37, 0.39 and 0.32 at mask ratios 0, 0.5 and 0.75 (from the hours in its figure 3)."""


@dataclass(frozen=True)
class Device:
    """A device by its vendor's peak FLOPs per second, dense, and the share of them that training sustains."""

    bf16: float
    fp32: float
    source: str
    utilisation: float = UTILISATION

    def peak(self, precision: str) -> float:
        """The peak FLOPs per second in `precision`: those of fp16 are those of bf16."""
        return self.fp32 if precision == "fp32" else self.bf16

    def flops_per_second(self, precision: str) -> float:
        """The rate that training in `precision` sustains."""
        return self.utilisation * self.peak(precision)


NO_RESOURCES = Resources(device="cpu")

DEVICES = {
    # A CPU gains nothing from bf16: 0.6 to 1.2 times the speed of fp32 was measured.
    "cpu": Device(40e9, 40e9, "one core, sustained: 28 to 59 GFLOP/s measured on models of the small family", 1.0),
    "V100": Device(125e12, 15.7e12, "NVIDIA V100 data sheet, SXM2; it has no bf16, so the figure is that of fp16"),
    # torch's fp32 is true fp32, not TF32, unless torch.set_float32_matmul_precision says otherwise.
    "A100": Device(312e12, 19.5e12, "NVIDIA A100 data sheet, SXM"),
    "H100": Device(989e12, 67e12, "NVIDIA H100 data sheet, SXM"),
    "H200": Device(989e12, 67e12, "NVIDIA H200 data sheet, SXM"),
    # A TPU multiplies float32 as bf16 by default; FLIP saw bf16 gain only about 1.1 times.
    "TPU-v3": Device(61.5e12, 61.5e12, "one core, half of a chip's 123 TFLOP/s in Google Cloud's documentation"),
}
"""The devices whose hours can be predicted by name. For any other, or a measured rate, give `cost` flops_per_second."""


def device_named(name: str) -> str | None:
    """The key in `DEVICES` of a device by the name it gives itself, as "NVIDIA H100 80GB HBM3"; None if it has none."""
    words = re.split(r"[^A-Za-z0-9]+", name)  # An RTX A1000 is no A100.
    return next((key for key in DEVICES if key in words), None)


@dataclass(frozen=True)
class Cost:
    """The cost of one run. FLOPs are per image-text pair and of training, forward and backward, unless said."""

    params: int
    """All parameters of the model."""
    image_flops: int
    """Image tower."""
    text_flops: int
    """Text tower."""
    loss_flops: int
    """Similarities of the batch, per pair: proportional to the batch."""
    flops_per_sample: int
    """Both towers, without the loss."""
    samples_seen: int
    """Samples the run really sees: whole batches."""
    steps: int
    """Optimizer steps."""
    train_flops: int
    """Both towers over all samples, without the loss."""
    memory_bytes: int
    """Peak of one device."""
    gpu_hours: float
    """Device-hours of training, the loss included; core-hours on a CPU."""


def cost(settings: Settings, resources: Resources = NO_RESOURCES) -> Cost:
    """The cost of training with these `settings` (one stage of a run) on these `resources`.

    Of the resources `device` is a key of `DEVICES`; `flops_per_second`, if given, is the rate one device sustains and
    takes the place of what `DEVICES` says. 0 samples are an evaluation: no training. Raises FlipscaleError for a
    text_length beyond the model's context and for an unknown device.
    """
    shape = architecture(settings.model, settings.image_size)
    precision, batch = settings.precision, settings.batch_size
    per_sample = _flops_of(settings)
    steps = steps_of(settings) if settings.samples else 0
    samples = steps * batch
    loss = loss_flops(shape, batch)
    rate = resources.flops_per_second or _device(resources.device or "cpu").flops_per_second(precision)
    # To compute in parts, and to keep no activations, each take another forward pass, which no accuracy comes of.
    again = (resources.accumulate > 1) + resources.activation_checkpointing
    forward = per_sample.image_forward + per_sample.text_forward
    return Cost(
        params=parameters(shape),
        image_flops=per_sample.image,
        text_flops=per_sample.text,
        loss_flops=loss,
        flops_per_sample=per_sample.total,
        samples_seen=samples,
        steps=steps,
        train_flops=per_sample.total * samples,
        memory_bytes=memory_bytes(settings, resources),
        gpu_hours=(per_sample.total + again * forward + loss) * samples / rate / 3600,
    )


PRICED = ("model", "image_size", "text_length", "mask_ratio", "text_mask_ratio", "reconstruction")
"""The settings that FLOPs per sample follow from."""


class Priced(Protocol):
    """Settings of which FLOPs per sample follow. A `text_length` of None is the model's own."""

    @property
    def model(self) -> str: ...
    @property
    def image_size(self) -> int | None: ...
    @property
    def text_length(self) -> int | None: ...
    @property
    def mask_ratio(self) -> float: ...
    @property
    def text_mask_ratio(self) -> float: ...
    @property
    def reconstruction(self) -> Reconstruction | None: ...


def flops_per_sample(settings: Priced) -> int:
    """Training FLOPs of one image-text pair, both towers and passes.

    Raises FlipscaleError for a text_length beyond the model's context.
    """
    return _flops_of(settings).total


def _flops_of(settings: Priced) -> "Flops":
    shape = architecture(settings.model, settings.image_size)
    return flops(
        shape,
        settings.mask_ratio,
        shape.text.context_length if settings.text_length is None else settings.text_length,
        settings.text_mask_ratio,
        _decoder(shape, settings),
    )


def steps_of(settings: Settings) -> int:
    """Steps of the schedule: the samples over the batch size, to the nearest, halves up, and at least one."""
    batch = settings.batch_size
    return max(1, (2 * settings.samples + batch) // (2 * batch))


@functools.cache
def parameters(shape: Architecture) -> int:
    """The parameters of the model, equal to open_clip's count."""
    image, text = shape.image, shape.text
    image_ends = (
        3 * image.patch_size**2 * image.width  # patch convolution, no bias
        + image.width  # class token
        + (image.patches + 1) * image.width  # positions
        + (4 if image.ln_pre else 2) * image.width  # LayerNorm before and after the blocks
        + image.width * shape.embed_dim  # projection
    )
    text_ends = (
        (text.vocab_size + text.context_length) * text.width  # token embedding, positions
        + 2 * text.width  # LayerNorm
        + text.width * shape.embed_dim  # projection
    )
    return image_ends + _block_parameters(image) + text_ends + _block_parameters(text) + 1 + shape.logit_bias


def _block_parameters(tower: ImageTower | TextTower) -> int:
    width, mlp = tower.width, tower.mlp_width
    attention = 4 * width**2 + 4 * width
    perceptron = 2 * width * mlp + mlp + width
    norms = 4 * width + (2 * width if tower.layer_scale else 0)
    return tower.layers * (attention + perceptron + norms)


@dataclass(frozen=True)
class Flops:
    """The FLOPs of one image-text pair, by tower and pass."""

    image_forward: int
    image_backward: int
    text_forward: int
    text_backward: int

    @property
    def image(self) -> int:
        return self.image_forward + self.image_backward

    @property
    def text(self) -> int:
        return self.text_forward + self.text_backward

    @property
    def total(self) -> int:
        return self.image + self.text


@dataclass(frozen=True)
class Decoder:
    """The shape of the decoder that reconstructs dropped patches (MAE, arXiv 2111.06377): blocks on all tokens."""

    tower: ImageTower

    def parameters(self, image: ImageTower) -> int:
        """Embedding, mask token, blocks, LayerNorm, prediction of a patch's pixels; its positions are fixed."""
        width, pixels = self.tower.width, 3 * image.patch_size**2
        return image.width * width + width + width + _block_parameters(self.tower) + 2 * width + width * pixels + pixels

    def flops(self, image: ImageTower, tokens: int) -> int:
        """Forward FLOPs: `tokens` are embedded, all patches and the class token decoded, dropped patches predicted."""
        width, all_tokens = self.tower.width, image.patches + 1
        predicted = all_tokens - tokens
        ends = 2 * tokens * image.width * width + 2 * predicted * width * 3 * image.patch_size**2
        return ends + _block_flops(self.tower, all_tokens)


def _decoder(shape: Architecture, settings: Priced) -> Decoder | None:
    asked = settings.reconstruction
    if asked is None or not settings.mask_ratio:
        return None
    width = decoder_width(shape, asked.width)
    head = shape.image.width // shape.image.heads
    return Decoder(
        replace(
            shape.image, width=width, layers=asked.depth, heads=width // head, mlp_width=4 * width, layer_scale=False
        )
    )


def decoder_width(shape: Architecture, width: int | None) -> int:
    """The decoder's width: what was asked, or else half the image tower's, up to a whole number of its heads."""
    head = shape.image.width // shape.image.heads
    return width or -(-shape.image.width // (2 * head)) * head


@functools.cache
def flops(
    shape: Architecture,
    mask_ratio: float,
    text_length: int,
    text_mask_ratio: float = 0.0,
    decoder: Decoder | None = None,
) -> Flops:
    """The FLOPs of an image with `mask_ratio` of its patches left out and a text of `text_length` tokens.

    Of the tokens `text_mask_ratio` are left out. What the decoder computes counts as the image's. Raises
    FlipscaleError if the text is longer than the model's context.
    """
    image, text = shape.image, shape.text
    if text_length > text.context_length:
        raise FlipscaleError(
            f"text_length {text_length} is longer than the context of {shape.name}; "
            f"set text_length: {text.context_length} or less"
        )
    patch_embedding = 6 * image.patches * image.patch_size**2 * image.width
    tokens = shape.tokens(mask_ratio)
    image_rest = _block_flops(image, tokens) + 2 * image.width * shape.embed_dim
    if decoder is not None:
        image_rest += decoder.flops(image, tokens)
    text_all = _block_flops(text, patches_kept(text_length, text_mask_ratio)) + 2 * text.width * shape.embed_dim
    return Flops(
        image_forward=patch_embedding + image_rest,
        image_backward=patch_embedding + 2 * image_rest,
        text_forward=text_all,
        text_backward=2 * text_all,
    )


def _block_flops(tower: ImageTower | TextTower, tokens: int) -> int:
    """Forward FLOPs of the blocks. A causal mask saves nothing: the masked half is computed, and counted, as well."""
    products = tokens * (8 * tower.width**2 + 4 * tower.width * tower.mlp_width)
    attention = 4 * tokens**2 * tower.width
    return tower.layers * (products + attention)


def loss_flops(shape: Architecture, batch_size: int) -> int:
    """The loss's FLOPs per pair, forward and backward: open_clip computes image-text and text-image logits apart."""
    return 12 * batch_size * shape.embed_dim


def memory_bytes(settings: Settings, resources: Resources = NO_RESOURCES) -> int:
    """The peak memory of one of the devices that share a batch, as tensors; the allocator and CUDA come on top.

    It is the sum of
      - 16 bytes a parameter: fp32 weight, gradient and AdamW's two moments; with autocast 2 more for the copy of
        the weight that is kept for the backward pass; with several devices 4 more for the gradient in the buckets of
        DistributedDataParallel;
      - what the forward pass of the device's part of the batch, or as much of that as is computed at once, keeps for
        the backward pass, see `activation_bytes`;
      - in fp32, the features of the whole batch and their gradients, and of the device's own rows of both logit
        matrices the logits, their log-softmax and their gradient (open_clip's local loss).
    Gradients appear while activations go, so a run whose activations are few stays below the sum.
    """
    shape = architecture(settings.model, settings.image_size)
    devices, batch, precision = resources.devices, settings.batch_size, settings.precision
    decoder = _decoder(shape, settings)
    weights = parameters(shape) + (decoder.parameters(shape.image) if decoder else 0)
    per_parameter = 16 + (0 if precision == "fp32" else 2) + (4 if devices > 1 else 0)
    share = -(-batch // devices)
    at_once = -(-share // resources.accumulate)
    features = 2 * 2 * 4 * batch * shape.embed_dim
    logits = 2 * 3 * 4 * share * batch
    activations = at_once * activation_bytes(
        shape,
        settings.mask_ratio,
        patches_kept(settings.text_length, settings.text_mask_ratio),
        precision,
        decoder,
        checkpointing=resources.activation_checkpointing,
    )
    peak: int = per_parameter * weights + activations + features + logits
    return peak


def activation_bytes(
    shape: Architecture,
    mask_ratio: float,
    text_tokens: int,
    precision: str,
    decoder: Decoder | None = None,
    *,
    checkpointing: bool = False,
) -> int:
    """What the forward pass of one image-text pair keeps for the backward pass, and the pixels.

    Counted as Korthikanti et al. do (arXiv 2205.05198, section 4.1), a token and block keeps 8 widths (the inputs of
    both LayerNorms, of the projection to queries, keys and values, these three, the inputs of the output projection and
    of the MLP) and 2 MLP widths (before and after the activation): with 2-byte values and an MLP of 4 widths 32 bytes
    times the width, their 34 without dropout's 2. Layer scales keep 2 widths more. We differ in two things: attention
    scores are not kept, as torch's fused attention computes them again, and under autocast a GPU keeps the LayerNorms'
    inputs in fp32. With activation checkpointing a block of the towers keeps its input, and one block at a time all.
    """
    image = 3 * shape.image.image_size**2 * (4 if precision == "fp32" else 6)
    decoding = 0 if decoder is None else _block_bytes(decoder.tower, shape.image.patches + 1, precision)
    return (
        image
        + decoding
        + _block_bytes(shape.image, shape.tokens(mask_ratio), precision, checkpointing)
        + _block_bytes(shape.text, text_tokens, precision, checkpointing)
    )


def _block_bytes(tower: ImageTower | TextTower, tokens: int, precision: str, checkpointing: bool = False) -> int:
    values = (10 if tower.layer_scale else 8) * tower.width + 2 * tower.mlp_width
    per_block = 4 * values if precision == "fp32" else 2 * values + 4 * tower.width
    # The LayerNorms before and after the blocks keep their inputs too, in fp32.
    ends = 8 * tower.width
    if checkpointing:
        return tokens * (tower.layers * 4 * tower.width + per_block + ends)
    return tokens * (tower.layers * per_block + ends)


def _device(name: str) -> Device:
    if name not in DEVICES:
        raise FlipscaleError(f"unknown device {name!r}, {did_you_mean(name, DEVICES)}; or give flops_per_second")
    return DEVICES[name]
