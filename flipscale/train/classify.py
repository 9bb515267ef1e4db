"""An image tower with a linear head: what fine-tuning computes, which learning rate each weight has, and its score.

The head takes the tower's pooled feature, after its last LayerNorm and before the projection to the common space. It
starts near zero, as that of MAE's code does (arXiv 2111.06377), whose setting FLIP follows (arXiv 2212.00794, table
12); FLIP does not say how its own head starts.
"""

from functools import partial

import torch
import torch.nn.functional as F
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from flipscale.data.labelled import Labelled
from flipscale.scores import FINE_TUNED, SCORES
from flipscale.settings.declarations import FineTuning, Settings
from flipscale.train.augmentation import mix_of
from flipscale.train.distributed import Group
from flipscale.train.encoding import Encoders
from flipscale.train.evaluate import Evaluated, hits, packed_hits
from flipscale.train.machine import exact_fp32
from flipscale.train.mask import uniform
from flipscale.train.model import channels, pixels
from flipscale.train.objective import pooled_features

HEAD_DEVIATION = 2e-5
"""Standard deviation of the head's initial weights, as in MAE's code: all classes begin equally likely."""

_DROP_STREAM = 0x64726F70
"""Keeps the random numbers of skipped branches apart from others that come from the same seed."""


class Classifier(nn.Module):
    """The image tower, the head, and the cross-entropy of both. All its parameters but the projection are trained."""

    channels: Tensor

    def __init__(self, visual: VisionTransformer, classes: int, settings: Settings):
        super().__init__()
        assert settings.fine_tuning is not None
        self.fine_tuning: FineTuning = settings.fine_tuning
        self.seed = settings.seed
        self.image_size = settings.image_size
        self.visual = visual
        if isinstance(visual.proj, nn.Parameter):
            visual.proj.requires_grad_(False)
        self.register_buffer("channels", channels(settings.normalization), persistent=False)
        self.drop_path = DropPath(visual, self.fine_tuning.drop_path, settings.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.head = nn.Linear(visual.ln_post.normalized_shape[0], classes)
            nn.init.trunc_normal_(self.head.weight, std=HEAD_DEVIATION)
            nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor, step: int, first: int) -> Tensor:
        """The logits [b, classes], float32, of images uint8 [b, 3, S, S]: rows `first` on of the batch of `step`."""
        self.draw(step, first, len(images), images.device)
        return self.logits(images).float()

    def loss(self, logits: Tensor, labels: Tensor, step: int) -> Tensor:
        """The mean cross-entropy of some rows of the batch of `step`, a scalar.

        labels: int64 [b, 2], the class of each row and of what was mixed into it.
        """
        smoothing = self.fine_tuning.label_smoothing
        loss = F.cross_entropy(logits, labels[:, 0], label_smoothing=smoothing)
        mix = mix_of(self.fine_tuning, self.seed, step, self.image_size)
        if mix is not None:
            other = F.cross_entropy(logits, labels[:, 1], label_smoothing=smoothing)
            share = float(mix.mean())
            loss = (1 - share) * loss + share * other
        return loss

    def logits(self, images: Tensor) -> Tensor:
        """The head's output [b, classes] of images uint8 [b, 3, S, S]."""
        logits: Tensor = self.head(pooled_features(self.visual, pixels(images, images.device, self.channels)))
        return logits

    def group_matcher(self, coarse: bool) -> dict[str, str]:
        """The layers, in timm's form: what is before the blocks, and each block; all others are the last."""
        return {
            "stem": r"^visual\.(?:conv1|class_emb|positional_emb|ln_pre)",
            "blocks": r"^visual\.transformer\.resblocks\.(\d+)",
        }

    # NumPy draws random numbers, which torch.compile would make part of the graph, or break the graph in the tower.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def draw(self, step: int, first: int, rows: int, device: torch.device) -> None:
        """Choose the branches that these rows skip."""
        self.drop_path.draw(step, first, rows, device)


class DropPath:
    """Stochastic depth (arXiv 1603.09382): in training each row skips some branches of the blocks, the last most often.

    As in MAE and timm, the rate grows evenly from 0 at the first block to the whole at the last, attention and MLP are
    skipped independently, and branches that stay are scaled so that the mean stays. The branches that a row skips
    follow from the run's seed, the step and the row's place in the global batch: timm's DropPath draws for the rows
    that it is given, from torch's generator of the device, so another split of the batch would skip others.
    """

    def __init__(self, visual: VisionTransformer, rate: float, seed: int):
        """rate: how often the last block's branches are skipped; 0 leaves the tower as it is."""
        blocks = visual.transformer.resblocks
        self.seed = seed
        self.rates = torch.linspace(0, rate, len(blocks)).repeat_interleave(2)
        """The rate of each block's attention and MLP."""
        self.scale: Tensor | None = None
        """The factors of each row's branches in the next forward: [b, 2 blocks]; None is 1."""
        if rate:
            for number, block in enumerate(blocks):
                for half, end in enumerate((block.ls_1, block.ls_2)):
                    end.register_forward_hook(partial(self._scaled, 2 * number + half))

    def draw(self, step: int, first: int, rows: int, device: torch.device) -> None:
        """Choose what the next forward skips: of rows `first` to `first + rows` of the batch of `step`."""
        if not self.rates.any():
            return
        chance = uniform(_DROP_STREAM, self.seed, step, first, rows, len(self.rates))
        self.scale = ((chance >= self.rates) / (1 - self.rates)).to(device, non_blocking=True)

    def _scaled(self, branch: int, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not module.training or self.scale is None:
            return output
        return output * self.scale[:, branch, None, None].to(output.dtype)


@torch.inference_mode()
def score_classifier(classifier: Classifier, test: Labelled, source: str, precision: str, group: Group) -> Evaluated:
    """The share of test images whose class has the largest logit, on all patches. All processes of the group call it.

    source: the set in words. precision: the run's. The classifier comes back in the mode it was given in.
    """
    device = classifier.channels.device
    encoders = Encoders(lambda way, batch, first: classifier.logits(batch), device, precision, group)
    training = classifier.training
    classifier.eval()
    with exact_fp32():
        if group.rank:
            encoders.follow()
        else:
            logits = encoders.encode("logits", test.images)
            encoders.release()
    classifier.train(training)
    if group.rank:
        return Evaluated()
    likely = hits(logits, torch.from_numpy(test.labels).to(device), (1,))[0]
    return Evaluated(
        scores={FINE_TUNED: float(likely.double().mean())},
        chance={FINE_TUNED: SCORES[FINE_TUNED].chance(len(test.classes))},
        hits={FINE_TUNED: packed_hits(likely, source)},
    )
