"""A fine-tuning: the image tower and a linear head in training on labelled images, end to end.

Steps, checkpoints, processes and micro-batches are those of `Training`. Three things differ: the loss, a cross-entropy
of each row; the learning rates, which fall from layer to layer; and the batches, which are augmented and mixed.
"""

import numpy as np
import torch
from open_clip import CLIP
from timm.optim import param_groups_layer_decay  # type: ignore[attr-defined]
from torch import Tensor, nn

from flipscale.data.pairs import Data, Images, Integers
from flipscale.data.views import views
from flipscale.settings.declarations import NORMALIZATIONS, Resources, Settings
from flipscale.train.augmentation import augment, mix_of, mixed
from flipscale.train.classify import Classifier
from flipscale.train.distributed import Group
from flipscale.train.model import build
from flipscale.train.requests import TrainedWeights
from flipscale.train.trainers.builtin.training import Training, adamw


class HeadTraining(Training):
    """Weights, optimizer state and progress of a fine-tuning. The text tower stays on the CPU, as it was."""

    def __init__(
        self, settings: Settings, group: Group, resources: Resources, start: TrainedWeights | None, classes: int
    ):
        """settings: of the stage, see `flipscale.planning.identity.stage`. start: the weights that it goes on from."""
        assert settings.fine_tuning is not None
        self.fine_tuning = settings.fine_tuning
        self.classes = classes
        super().__init__(settings, group, resources, start=start)

    def _build(self, vocabulary: Integers | None, start: TrainedWeights | None) -> tuple[CLIP, nn.Module]:
        model: CLIP = build(self.settings, vocabulary, start)
        self.classifier = Classifier(model.visual, self.classes, self.settings).to(self.device)
        return model, self.classifier

    def _optimizer(self) -> torch.optim.AdamW:
        return layer_wise(self.classifier, self.settings, self.fine_tuning.layer_decay)

    @property
    def logit_scale(self) -> None:
        return None

    @property
    def trained_parameters(self) -> int:
        """Parameters of the image tower without its projection, and of the head."""
        return sum(parameter.numel() for parameter in self.classifier.parameters() if parameter.requires_grad)

    def batch(self, data: Data, step: int) -> tuple[Images, Integers]:
        """This process's rows of the batch of a step, augmented and mixed: images [b, 3, S, S] and labels [b, 2]."""
        size = self.settings.batch_size
        indices = data.order(self.settings.seed, step, size)
        images, labels = self._seen(data, indices, step, self.first)
        mix = mix_of(self.fine_tuning, self.settings.seed, step, self.settings.image_size)
        if mix is None:
            return images, np.stack([labels, labels], axis=1)
        others, other_labels = self._seen(data, indices, step, size - self.first - self.rows)
        return mixed(images, others[::-1], mix), np.stack([labels, other_labels[::-1]], axis=1)

    def _seen(self, data: Data, indices: Integers, step: int, first: int) -> tuple[Images, Integers]:
        """The rows of a batch from `first` on, as many as this process has, as they look before they are mixed."""
        position = step * self.settings.batch_size + first
        images, labels = data.batch(indices[first : first + self.rows], views(self.settings, position, self.rows))
        if self.fine_tuning.randaugment:
            positions = np.arange(position, position + self.rows, dtype=np.int64)
            fill = np.rint(255 * np.array(NORMALIZATIONS[self.settings.normalization][0])).astype(np.int64)
            images = augment(images, self.fine_tuning.randaugment, self.settings.seed, positions, fill)
        return images, labels

    def _backward(self, images: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of this process's rows; its gradients are left in the parameters."""
        return self._backward_rows(images, labels, 0)

    def _backward_in_parts(self, images: Tensor, labels: Tensor) -> Tensor:
        """The same in micro-batches, whose gradients add up: no row's loss depends on another's features."""
        rows = len(images) // self.parts
        losses = []
        for row in range(0, len(images), rows):
            part = slice(row, row + rows)
            with self._in_part(part.stop == len(images)):
                losses.append(self._backward_rows(images[part], labels[part], row))
        return torch.stack(losses).mean()

    def _backward_rows(self, images: Tensor, labels: Tensor, row: int) -> Tensor:
        with self.autocast():
            logits = self.module(images, self.drawn_step, self.first + row)
        loss = self.classifier.loss(logits, labels, self.drawn_step)
        self.scaler.scale(loss / self.parts).backward()  # type: ignore[no-untyped-call]
        return loss.detach()


def layer_wise(classifier: Classifier, settings: Settings, decay: float) -> torch.optim.AdamW:
    """AdamW with a learning rate that is multiplied by `decay` from each layer to the one before it.

    The head and the last LayerNorm have the schedule's own, as in BEiT's and MAE's code. Weight decay applies to the
    same weights as in pre-training, see `optimizer_of`.
    """
    groups = param_groups_layer_decay(
        classifier, settings.weight_decay, no_weight_decay_list=["*positional_embedding"], layer_decay=decay
    )
    return adamw(groups, settings)
