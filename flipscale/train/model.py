"""The model of a run is open_clip's own, with FLIP's patch mask in it, a text tower for short texts, and fewer words.

None of these shows in what a finished run leaves: model.pt holds exactly open_clip's state dict. It loads in open_clip
with one line, a model that open_clip ships by its name, and a model of the family by its configuration:

    open_clip.create_model("ViT-B-16", "results/runs/ID/model.pt")
    open_clip.create_model("ViT-B-16", "results/runs/ID/model.pt", **architecture("ViT-w48d3-4").open_clip_config)

with `from flipscale.settings.architecture import architecture`. In the second line any model's name would do, as
the rest replaces what it stands for. A run on images of another size than the model's own adds force_image_size=SIZE
to the first, and the size to `architecture` in the second. A tuned run loads by the model and image size of its
tuning, where that names them. One of the sigmoid loss adds init_logit_bias=-10. Pixels are normalised as the run's
`normalization` says: pass its numbers as image_mean and image_std of `open_clip.create_model_and_transforms`.

In the other direction a run starts from what open_clip's loader takes, see `load`.
"""

import math
import textwrap
from pathlib import Path
from typing import IO, Any

import open_clip
import torch
from open_clip import CLIP, CustomTextCLIP
from open_clip.factory import load_checkpoint, load_state_dict
from open_clip.pretrained import download_pretrained
from torch import Tensor, nn

from flipscale.cost.arithmetic import training_view
from flipscale.data.pairs import Images, Integers
from flipscale.data.weights import pretrained_config
from flipscale.errors import FlipscaleError
from flipscale.settings.architecture import Architecture, architecture
from flipscale.settings.declarations import NORMALIZATIONS, Settings
from flipscale.train.attention import shorten
from flipscale.train.mask import MaskedTower, PatchMask
from flipscale.train.requests import TrainedWeights
from flipscale.train.resize import resize
from flipscale.train.text import CompactEmbedding, encode_text, text_tower

__all__ = ["build", "channels", "encode_text", "load", "pixels", "save", "tokenize", "weights"]

SIGLIP = {"init_logit_scale": math.log(10), "init_logit_bias": -10.0}
"""How training with the sigmoid loss begins (arXiv 2303.15343)."""

_VOCABULARY = 49408
"""Words of the tokenizer that comes with open_clip; its largest id is the end of the text."""


def build(
    settings: Settings, vocabulary: Integers | None = None, start: str | Path | TrainedWeights | None = None
) -> CLIP | CustomTextCLIP:
    """The run's model, in training mode on the CPU, initialised as open_clip does it, from the run's seed alone.

    Mask ratio, batch, text length and vocabulary take no part in the initialisation: a run and its unmasked twin start
    equal. `init` of the settings replaces these weights, and so does `start`: a checkpoint of this model, or the
    weights of a run's parent, which are resized if it was trained with other patches, image sizes or text lengths
    (`flipscale.train.resize`).

    vocabulary: ids of all tokens that will be seen, sorted; see `CompactEmbedding`. None keeps the whole table. The
    state dict then has its rows only and loads into a model built in the same way; `weights` gives the whole one.
    """
    shape = architecture(settings.model, settings.image_size)
    if settings.text_length > shape.text.context_length:
        raise FlipscaleError(
            f"text_length {settings.text_length} is longer than the {shape.text.context_length} positions of "
            f"{settings.model}; set text_length: {shape.text.context_length} or less."
        )
    if shape.text.vocab_size < _VOCABULARY:
        raise FlipscaleError(
            f"{settings.model} has {shape.text.vocab_size} words, which need another tokenizer than the one that "
            f"comes with open_clip ({_VOCABULARY} words); choose a model such as ViT-B-16."
        )
    config = shape.open_clip_config
    if settings.is_sigmoid:
        config |= SIGLIP
    kind = CustomTextCLIP if config.pop("custom_text", False) else CLIP
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = kind(**config)
    shorten(model)
    if start is None and settings.init is not None:
        start = settings.init.path
    if isinstance(start, TrainedWeights):
        _load_parent(model, settings, start)
    elif start is not None:
        load(model, shape, start)
    model.visual.__class__ = MaskedTower
    ratio = training_view(settings).mask_ratio
    # Images that are resized have no mask, so no shape of one.
    mask_shape = settings.mask_shape if ratio else "random"
    model.visual.patch_dropout = PatchMask(ratio, settings.seed, shape.image.patches, mask_shape)
    if vocabulary is not None:
        tower = text_tower(model)
        tower.token_embedding = CompactEmbedding(tower.token_embedding.weight, torch.from_numpy(vocabulary))
    return model.train()


def _load_parent(model: CLIP | CustomTextCLIP, settings: Settings, start: TrainedWeights) -> None:
    """Put the weights of a run's parent into its model, resized where the two have other shapes."""
    before = start.settings
    if all(getattr(before, name) == getattr(settings, name) for name in ("model", "image_size", "text_length")):
        load(model, architecture(settings.model, settings.image_size), start.path)
        return
    state: dict[str, Tensor] = build(before, start=start.path).state_dict()
    resize(state, model, (before.text_length, settings.text_length))
    model.load_state_dict(state)


def load(model: CLIP | CustomTextCLIP, shape: Architecture, start: str | Path) -> None:
    """Put the weights of an open_clip checkpoint into `model`, whose shape is given, as open_clip's own loader does.

    start: a file, or a tag of open_clip's pretrained weights for that model, which are then downloaded. Tables of
    positions are resized if the image or the context has another size. Weights of another loss function begin with this
    one's temperature: without a bias where it is a softmax, which no bias changes, and as SIGLIP where it is a sigmoid.
    Raises FlipscaleError for a file that is not there, is not a checkpoint, or is one of another model.
    """
    path = Path(start)
    if not path.is_file():
        path = _pretrained(shape.name, str(start))
    try:
        state = load_state_dict(str(path))
        assert any(isinstance(value, Tensor) for value in state.values())
    except OSError:
        raise
    except Exception as error:  # Unpickling what is not a checkpoint raises nearly anything.
        raise FlipscaleError(
            f"{path}: is not a checkpoint of open_clip ({type(error).__name__}); give a file of weights that "
            f"open_clip.create_model(pretrained=...) takes."
        ) from error
    bias = model.logit_bias
    if bias is None and "logit_bias" in state:
        model.logit_bias = nn.Parameter(torch.zeros(()))
    try:
        load_checkpoint(model, str(path))
    except Exception as error:
        fault = str(error).splitlines()[-1].strip().rstrip(".!")
        raise FlipscaleError(
            f"{path}: is not a checkpoint of {shape.name}: {textwrap.shorten(fault, 200)}. Set model to the one that "
            f"these weights belong to, or give a checkpoint of {shape.name}."
        ) from error
    if bias is None:
        model.logit_bias = None
    elif "logit_bias" not in state:
        nn.init.constant_(model.logit_scale, SIGLIP["init_logit_scale"])
        nn.init.constant_(bias, SIGLIP["init_logit_bias"])


def channels(normalization: str) -> Tensor:
    """Factor and summand of `pixels` for each channel: float32 [2, 3, 1, 1], on the CPU."""
    means, deviations = NORMALIZATIONS[normalization]
    scale = [1 / (255 * std) for std in deviations]
    shift = [-mean / std for mean, std in zip(means, deviations, strict=True)]
    return torch.tensor([scale, shift])[:, :, None, None]


def pixels(images: Images | Tensor, device: torch.device, normalization: str | Tensor = "imagenet") -> Tensor:
    """Images as the model takes them: uint8 [B, 3, S, S] goes to the device as it is and becomes normalised float32.

    normalization: a key of NORMALIZATIONS, or its `channels` where they are on the device already. A tensor that is
    made on a GPU from numbers makes the host wait for all that the GPU has to do, so they are sent there instead.
    """
    if isinstance(normalization, str):
        normalization = channels(normalization).to(device, non_blocking=True)
    scale, shift = normalization
    return torch.as_tensor(images).to(device, non_blocking=True).float().mul_(scale).add_(shift)


def tokenize(texts: list[str], length: int) -> Integers:
    """Tokens [B, length] of open_clip's own tokenizer, whose vocabulary comes with it; longer texts are cut."""
    tokens: Integers = open_clip.tokenize(texts, context_length=length).numpy()
    return tokens


def weights(model: CLIP | CustomTextCLIP) -> dict[str, Tensor]:
    """The state dict of open_clip's own model, on the CPU, whatever vocabulary this one has."""
    state: dict[str, Tensor] = {name: value.cpu() for name, value in model.state_dict().items()}
    embedding = text_tower(model).token_embedding
    if isinstance(embedding, CompactEmbedding):
        state["token_embedding.weight" if text_tower(model) is model else "text.token_embedding.weight"] = (
            embedding.full()
        )
    return state


def save(model: CLIP | CustomTextCLIP, file: IO[bytes], **more: Any) -> None:
    """Write the weights in the form open_clip's `pretrained=` takes: {"state_dict": ...}, on the CPU.

    more: entries written beside them, which open_clip's loader ignores.
    """
    torch.save({"state_dict": weights(model), **more}, file)


def _pretrained(name: str, tag: str) -> Path:
    """The file of one of open_clip's pretrained weights of the model `name`, downloaded if need be."""
    config = pretrained_config(tag, name)
    try:
        return Path(download_pretrained(config))
    except Exception as error:  # Whatever the hub's client raises.
        raise FlipscaleError(
            f"init: the weights {tag} of {name} could not be downloaded ({type(error).__name__}); download them where "
            f"there is a network and give the file."
        ) from error
