"""The cost of a run follows from its settings alone: parameters, FLOPs, memory and GPU-hours, without torch.

**Parameters** are open_clip's to the last one, fixed sine-cosine positions and the logit scale included.

**FLOPs** count matrix products and the patch convolution, a multiplication and an addition as two, as PaLM does
(arXiv 2204.02311, appendix B) and as torch.utils.flop_counter counts; normalisations, activations and softmax are
left out. The blocks of the image tower see the kept patches and the class token, the patch convolution sees all patches
(FLIP, arXiv 2212.00794), the text tower sees `text_length` tokens. An image that is resized instead (`mask_shape:
resize`) costs the same as an unmasked one of that size; its positions are interpolated once a forward pass, which is
not counted. The backward pass costs twice the forward pass, except for the patch convolution, whose input needs no
gradient. The two products of a batch's features with each other belong to the loss and are counted separately, as they
alone grow with the batch.

FLIP and the papers after it print forward multiply-adds: half of `Flops.image_forward + Flops.text_forward`.

A fine-tuning computes the image tower alone, on all patches. Its head replaces the projection and has as many FLOPs and
parameters per class as the projection has per dimension. Only the files know the number of classes, so the projection
is counted instead of the head; either is negligible against the tower.

**Memory** is the peak of one device; on an accelerator the memory that it shows as used. See `memory_bytes`.

**GPU-hours** are device-hours of training: FLOPs over the rate a device sustains, see `devices`. The number of devices
that share them does not matter. Evaluation and start-up are not included.
"""

import functools
import math
from dataclasses import dataclass, replace
from types import SimpleNamespace

from flipscale.door.run_states import Hours
from flipscale.errors import FlipscaleError
from flipscale.settings.architecture import (
    Architecture,
    ImageTower,
    TextTower,
    architecture,
    patches_kept,
    resized_side,
)
from flipscale.settings.declarations import FlipscaleTrainer, Resources, Settings, Shapes, WebDataset
from flipscale.settings.devices import LOADERS, Rate, device, has_fused_attention, pairs_drawn, pairs_read

NO_RESOURCES = Resources(device="cpu")


@dataclass(frozen=True)
class Cost:
    """The cost of one run. FLOPs are per image-text pair, forward and backward, unless stated otherwise."""

    params: int
    """All parameters of the model; for a fine-tuning, those of the image tower."""
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
    """Device-hours of training, the loss included; core-hours on a CPU. A plan adds those of evaluations on GPUs."""
    gpu_hours_low: float | None = None
    """The likely range; None in run folders of versions that gave no range."""
    gpu_hours_high: float | None = None

    @property
    def hours(self) -> Hours:
        """The device-hours with their range."""
        about = self.gpu_hours
        low = self.gpu_hours_low
        high = self.gpu_hours_high
        return Hours(about, about if low is None else low, about if high is None else high)

    def taking(self, hours: Hours) -> "Cost":
        """The same cost with these hours, for example measured ones."""
        return replace(self, gpu_hours=hours.about, gpu_hours_low=hours.low, gpu_hours_high=hours.high)

    def over(self, samples: int) -> "Cost":
        """The cost of the same training over this many samples, whole batches of it."""
        share = samples / self.samples_seen
        flops = self.flops_per_sample * samples
        steps = round(self.steps * share)
        return replace(self.taking(self.hours * share), samples_seen=samples, steps=steps, train_flops=flops)


def cost(settings: Settings, resources: Resources = NO_RESOURCES) -> Cost:
    """The cost of training with these `settings` (one stage of a run) on these `resources`.

    In the resources, `device` is a key of `devices.DEVICES`; `flops_per_second`, if given, is the rate one device
    sustains and replaces the rate of `devices`. 0 samples are an evaluation without training. Raises FlipscaleError for
    a text_length beyond the model's context and for an unknown device.
    """
    batch = settings.batch_size
    per_sample, loss, computed = _computed(settings, resources)
    steps = steps_of(settings)
    samples = steps * batch
    hours = rate_of(settings, resources).hours(computed * samples, samples)
    return Cost(
        params=trained_parameters(settings),
        image_flops=per_sample.image,
        text_flops=per_sample.text,
        loss_flops=loss,
        flops_per_sample=per_sample.total,
        samples_seen=samples,
        steps=steps,
        train_flops=per_sample.total * samples,
        memory_bytes=memory_bytes(settings, resources),
        gpu_hours=hours.about,
        gpu_hours_low=hours.low,
        gpu_hours_high=hours.high,
    )


def cost_of_program(flops: float, resources: Resources) -> Cost:
    """The cost of a run of the user's own program: these FLOPs, and hours where `flops_per_second` gives the rate."""
    rate = resources.flops_per_second
    hours = flops / rate / 3600 if rate else 0.0
    counted = dict.fromkeys(("params", "image_flops", "text_flops", "loss_flops", "flops_per_sample"), 0)
    return Cost(**counted, samples_seen=0, steps=0, train_flops=round(flops), memory_bytes=0, gpu_hours=hours)


def _computed(settings: Settings, resources: Resources) -> tuple["Flops", int, int]:
    """The FLOPs of a pair by tower and pass, those of its loss, and all that a device computes for it."""
    per_sample = _flops_of(settings)
    loss = 0
    if settings.fine_tuning is None:
        shape = architecture(settings.model, settings.image_size)
        loss = loss_flops(shape, settings.batch_size, is_sigmoid=settings.is_sigmoid)
    else:
        per_sample = replace(per_sample, text_forward=0, text_backward=0)
    # Computing in parts and activation checkpointing each take another forward pass, which gains no accuracy.
    again = (resources.accumulate > 1 and settings.fine_tuning is None) + resources.activation_checkpointing
    return per_sample, loss, per_sample.total + again * (per_sample.image_forward + per_sample.text_forward) + loss


def is_limited_by_reading(settings: Settings, resources: Resources) -> bool:
    """Whether a device would train more pairs than are read or drawn for it."""
    rate = rate_of(settings, resources)
    return _computed(settings, resources)[2] * rate.samples_per_second < rate.flops_per_second


@dataclass(frozen=True)
class StepTraffic:
    """What a step of one device sends over the network between nodes, and how long that and computing take."""

    bytes: int
    exposed_seconds: float
    """The part during which the device does not compute."""
    computing_seconds: float


def step_traffic(settings: Settings, resources: Resources, gigabits: float) -> StepTraffic:
    """The traffic of a step on devices of several nodes. gigabits: a second, for each device.

    Features of the whole batch, those of texts alone where the loss is a sigmoid, are gathered, and their gradients
    scattered, while nothing is computed. A ring reduces the gradients of all weights beside the backward pass, which is
    two thirds of a step.
    """
    shape = architecture(settings.model, settings.image_size)
    towers = 1 if settings.is_sigmoid else 2
    features = 0 if settings.fine_tuning else 2 * settings.batch_size * towers * shape.embed_dim * 4
    gradients = 2 * trained_parameters(settings) * 4
    computed = _computed(settings, resources)[2] * settings.batch_size / resources.devices
    computing = computed / rate_of(settings, resources).flops_per_second
    bytes_a_second = gigabits * 1e9 / 8
    exposed = features / bytes_a_second + max(0.0, gradients / bytes_a_second - 2 / 3 * computing)
    return StepTraffic(features + gradients, exposed, computing)


def rate_of(settings: Settings, resources: Resources) -> Rate:
    """How fast one of these devices trains a model of these settings. FlipscaleError for an unknown device."""
    image = architecture(settings.model, settings.image_size).image
    cap = resources.samples_per_second
    if resources.flops_per_second:
        return Rate(resources.flops_per_second, cap or math.inf)
    rate = device(resources.device or "cpu").rate(image.width, settings.precision, resources.software)
    fed = math.inf
    if isinstance(settings.data, Shapes):
        fed = pairs_drawn(image.image_size)
    elif isinstance(settings.data, WebDataset) and settings.data.decode != "once":
        fed = pairs_read(image.image_size, resources.loaders or LOADERS)
    return replace(rate, samples_per_second=cap or (fed if is_on_accelerator(resources) else math.inf))


def scoring_hours(settings: Settings, resources: Resources, images: int) -> Hours:
    """The device-hours of the evaluations of a run that scores this many images with their texts.

    One process reads and decodes them while the others wait, and all of them encode.
    """
    shape = architecture(settings.model, settings.image_size)
    rate = rate_of(settings, resources)
    each = flops(shape, 0.0, min(settings.text_length, shape.text.context_length))
    encoding = evaluations_of(settings) * (each.image_forward + each.text_forward) / rate.flops_per_second
    reading = resources.devices / pairs_read(shape.image.image_size)
    return Hours.within(images * (encoding + reading) / 3600, rate.spread)


PRICED = ("model", "image_size", "text_length", "mask_ratio", "mask_shape", "text_mask_ratio", "reconstruction")
"""The settings that FLOPs per sample depend on."""


Priced = Settings | SimpleNamespace
"""Settings, or as many of them as FLOPs depend on; there a `text_length` of None is the model's own."""


@dataclass(frozen=True)
class TrainingView:
    """The part of an image that training shows to the image tower."""

    shape: Architecture
    """The model's, for images as large as training shows them."""
    mask_ratio: float
    """The share of their patches that is dropped; 0 if images are resized instead."""

    @property
    def patches(self) -> int:
        """How many patches of an image the blocks see."""
        return patches_kept(self.shape.image.patches, self.mask_ratio)


def training_view(settings: Priced) -> TrainingView:
    """The view of an image in training: all patches, a masked part, or with `mask_shape: resize` a smaller image."""
    shape = architecture(settings.model, settings.image_size)
    if not settings.mask_ratio or settings.mask_shape != "resize":
        return TrainingView(shape, settings.mask_ratio)
    size = resized_side(shape.image.side, settings.mask_ratio) * shape.image.patch_size
    return TrainingView(architecture(settings.model, size), 0.0)


def flops_per_sample(settings: Priced) -> int:
    """Training FLOPs of one image-text pair, both towers and passes.

    Raises FlipscaleError for a text_length beyond the model's context.
    """
    return _flops_of(settings).total


def _flops_of(settings: Priced) -> "Flops":
    shown = training_view(settings)
    return flops(
        shown.shape,
        shown.mask_ratio,
        shown.shape.text.context_length if settings.text_length is None else settings.text_length,
        settings.text_mask_ratio,
        _decoder(shown, settings),
    )


def steps_of(settings: Settings) -> int:
    """Steps of the schedule; 0 for a program that trains no CLIP.

    They are the samples over the batch size, to the nearest, halves up, and at least one of any."""
    if not settings.is_clip:
        return 0
    batch = settings.batch_size
    return max(1, (2 * settings.samples + batch) // (2 * batch)) if settings.samples else 0


def trunk_steps(settings: Settings) -> int:
    """The first steps of a run that do not depend on where its schedule ends, so that runs of other lengths share them;
    0 if there are none. They are all steps at a constant rate, before the cooldown.
    """
    is_child = any(part is not None for part in (settings.stages, settings.tuning, settings.fine_tuning))
    is_ours = isinstance(settings.trainer, FlipscaleTrainer)
    if settings.schedule == "cosine" or is_endless(settings) or is_child or not is_ours:
        return 0
    return max(0, steps_of(settings) - math.ceil(settings.cooldown / settings.batch_size))


def is_endless(settings: Settings) -> bool:
    """Whether images are drawn, and as many as the schedule sees, so that each length has others in another order."""
    return isinstance(settings.data, Shapes) and settings.data_size is None


def of_any_length(settings: Settings) -> Settings:
    """The settings without those in which runs of one trunk may differ."""
    return replace(settings, samples=1, cooldown=0, cooldown_shape="linear", average=0.0)


def averaged_steps(settings: Settings) -> int:
    """How many of the last steps enter the mean of the weights; 0: there is no mean."""
    return max(1, math.floor(settings.average * steps_of(settings) + 0.5)) if settings.average else 0


def evaluations_of(settings: Settings) -> int:
    """How often weights of a run are scored while it trains: at its scored steps, and their mean at the end."""
    return len(scored_steps(settings)) + bool(settings.average)


def scored_steps(settings: Settings) -> set[int]:
    """The steps after which a run is evaluated: at the fractions of its schedule that it asks for, and at the end."""
    steps = steps_of(settings)
    # Halves go up: Python's round takes them to the even neighbour.
    return {min(steps, max(1, math.floor(at * steps + 0.5))) for at in settings.evaluation.at} | {steps}


def trained_parameters(settings: Settings) -> int:
    """The parameters of a run's model; for a fine-tuning, those of its image tower."""
    shape = architecture(settings.model, settings.image_size)
    return image_parameters(shape) if settings.fine_tuning else parameters(shape) + settings.is_sigmoid


@functools.cache
def parameters(shape: Architecture) -> int:
    """The parameters of the model without a logit bias, equal to open_clip's count."""
    text = shape.text
    text_ends = (
        (text.vocab_size + text.context_length) * text.width  # token embedding, positions
        + 2 * text.width  # LayerNorm
        + text.width * shape.embed_dim  # projection
    )
    return image_parameters(shape) + text_ends + _block_parameters(text) + 1


@functools.cache
def image_parameters(shape: Architecture) -> int:
    """The parameters of the image tower."""
    image = shape.image
    image_ends = (
        3 * image.patch_size**2 * image.width  # patch convolution, no bias
        + image.width  # class token
        + (image.patches + 1) * image.width  # positions
        + (4 if image.ln_pre else 2) * image.width  # LayerNorm before and after the blocks
        + image.width * shape.embed_dim  # projection
    )
    return image_ends + _block_parameters(image)


def _block_parameters(tower: ImageTower | TextTower) -> int:
    width = tower.width
    mlp = tower.mlp_width
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
        width = self.tower.width
        pixels = 3 * image.patch_size**2
        return image.width * width + width + width + _block_parameters(self.tower) + 2 * width + width * pixels + pixels

    def flops(self, image: ImageTower, tokens: int) -> int:
        """Forward FLOPs: `tokens` are embedded, all patches and the class token decoded, dropped patches predicted."""
        width = self.tower.width
        all_tokens = image.patches + 1
        predicted = all_tokens - tokens
        ends = 2 * tokens * image.width * width + 2 * predicted * width * 3 * image.patch_size**2
        return ends + _block_flops(self.tower, all_tokens)


def _decoder(shown: TrainingView, settings: Priced) -> Decoder | None:
    asked = settings.reconstruction
    shape = shown.shape
    if asked is None or not shown.mask_ratio:
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

    The share `text_mask_ratio` of the tokens is left out. The decoder's FLOPs count as the image's. Raises
    FlipscaleError if the text is longer than the model's context.
    """
    image = shape.image
    text = shape.text
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


def loss_flops(shape: Architecture, batch_size: int, *, is_sigmoid: bool = False) -> int:
    """The loss's FLOPs per pair, forward and backward: open_clip computes image-text and text-image logits apart. A
    sigmoid needs one product of the two, and computes it twice."""
    return (8 if is_sigmoid else 12) * batch_size * shape.embed_dim


CONTEXT = 2**30
"""Bytes of an accelerator that CUDA's context, its libraries' workspaces and NCCL's buffers take. A judgement."""

ALLOCATOR = 1.2
"""Memory that torch holds for activations, over their size: its allocator keeps blocks that tensors of other sizes
leave unfilled. With this factor `bench.memory` predicts the published figures best."""

SCORE_BYTES = 6
"""Bytes kept per attention score before fused attention, under autocast: softmax's fp32, and a copy in 2 bytes."""


@dataclass(frozen=True)
class DeviceMemory:
    """The bytes of one of the devices that share a batch, when its forward pass ends, and when its step does."""

    weights: int
    """Weights, AdamW's moments, copies of weights for the backward pass, and gradients that are there already."""
    activations: int
    """Bytes that the part of the batch that is computed at once keeps for the backward pass."""
    similarities: int
    """Features and similarities of the batch, and their gradients."""
    after: int
    """At the end of the step: weights, moments and all gradients, no activations."""

    @property
    def tensors(self) -> int:
        """The larger of the two moments."""
        return max(self.weights + self.activations + self.similarities, self.after)

    @property
    def held(self) -> int:
        """The memory that an accelerator shows as used: the allocator's share and the context on top."""
        turn = self.weights + int(ALLOCATOR * self.activations) + self.similarities
        return CONTEXT + max(turn, self.after)


def memory_bytes(settings: Settings, resources: Resources = NO_RESOURCES) -> int:
    """The peak memory of one of the devices that share a batch: what a GPU shows as used, or tensors on a CPU."""
    memory = memory_of(settings, resources)
    return memory.held if is_on_accelerator(resources) else memory.tensors


def is_on_accelerator(resources: Resources) -> bool:
    """Whether runs with these resources are predicted for GPUs or TPUs, not for cores."""
    return bool(resources.gpus) if resources.device is None else resources.device != "cpu"


def memory_of(settings: Settings, resources: Resources = NO_RESOURCES) -> DeviceMemory:
    """The tensors of one of the devices that share a batch. They are
    - for each parameter, in bytes: 4 for the fp32 weight, 8 for AdamW's moments, 4 for the gradient, with `average` 4
      for the sum of weights, and with autocast 2 for the copy that the backward pass needs. When the forward pass ends
      gradients are there only where several processes keep them in buckets (DistributedDataParallel) or earlier parts
      of the batch have added to them. On a CPU they always count, as activations leave only scattered holes free;
    - what the forward pass of the device's part of the batch, or as much of that as is computed at once, keeps for
      the backward pass, see `activation_bytes`;
    - in fp32, the features of the whole batch and their gradients, and of the device's own rows of both logit
      matrices the logits, their log-softmax and their gradient (open_clip's local loss); where the loss is a sigmoid,
      the features of own images and all texts, and three matrices of own images and as many texts.
    """
    shape = architecture(settings.model, settings.image_size)
    shown = training_view(settings)
    devices = resources.devices
    batch = settings.batch_size
    precision = settings.precision
    decoder = _decoder(shown, settings)
    on_accelerator = is_on_accelerator(resources)
    share = -(-batch // devices)
    is_fine_tuning = settings.fine_tuning is not None
    text_tokens = 0 if is_fine_tuning else patches_kept(settings.text_length, settings.text_mask_ratio)
    activations = -(-share // resources.accumulate) * activation_bytes(
        shown.shape,
        shown.mask_ratio,
        text_tokens,
        precision,
        decoder,
        checkpointing=resources.activation_checkpointing,
        scores=on_accelerator and not has_fused_attention(resources.device or "A100", resources.software),
    )
    similarities = 2 * 2 * batch * shape.embed_dim + 2 * 3 * share * batch
    if settings.is_sigmoid:
        similarities = 2 * (batch + share) * shape.embed_dim + 3 * share**2
    weights = trained_parameters(settings) + (decoder.parameters(shape.image) if decoder else 0)
    copies = (0 if precision == "fp32" else 2) + (4 if settings.average else 0)
    gradients = 4 * ((devices > 1 or resources.accumulate > 1) if on_accelerator else 1 + (devices > 1))
    return DeviceMemory(
        weights=(12 + copies + gradients) * weights,
        activations=activations,
        similarities=0 if is_fine_tuning else 4 * similarities,
        after=(20 if settings.average else 16) * weights,
    )


def activation_bytes(
    shape: Architecture,
    mask_ratio: float,
    text_tokens: int,
    precision: str,
    decoder: Decoder | None = None,
    *,
    checkpointing: bool = False,
    scores: bool = False,
) -> int:
    """Bytes that the forward pass of one image-text pair keeps for the backward pass, and the pixels.

    Counted as Korthikanti et al. do (arXiv 2205.05198, section 4.1), a token and block keeps 8 widths (the inputs of
    both LayerNorms, of the projection to queries, keys and values, these three, the inputs of the output projection and
    of the MLP) and 2 MLP widths (before and after the activation): with 2-byte values and an MLP of 4 widths 32 bytes
    times the width, their 34 without dropout's 2. Layer scales keep 2 widths more, QuickGELU an MLP width, its sigmoid.
    We differ in two things: attention scores are kept only with `scores`, as torch's fused attention computes them
    again, and under autocast the LayerNorms' inputs are kept in fp32. With activation checkpointing each block of the
    towers keeps only its input, and one block at a time keeps everything.
    """
    is_fp32 = precision == "fp32"

    def kept(tower: ImageTower | TextTower, tokens: int, checkpointing: bool = False) -> int:
        """The bytes that a tower keeps for this number of tokens."""
        values = (10 if tower.layer_scale else 8) * tower.width + (3 if shape.quick_gelu else 2) * tower.mlp_width
        per_block = 4 * values if is_fp32 else 2 * values + 4 * tower.width
        if scores:
            per_block += (4 if is_fp32 else SCORE_BYTES) * tower.heads * tokens
        # The LayerNorms before and after the blocks keep their inputs too, in fp32.
        ends = 8 * tower.width
        if checkpointing:
            return tokens * (tower.layers * (4 if is_fp32 else 2) * tower.width + per_block + ends)
        return tokens * (tower.layers * per_block + ends)

    pixels = 3 * shape.image.image_size**2 * (4 if is_fp32 else 6)
    decoding = 0 if decoder is None else kept(decoder.tower, shape.image.patches + 1)
    towers = kept(shape.image, shape.tokens(mask_ratio), checkpointing) + kept(shape.text, text_tokens, checkpointing)
    return pixels + decoding + towers
