"""A model is scored on held-out data with all its patches, in float32, whatever it was trained with.

Scores are fractions from 0 to 1, but for held_out_loss, which is in nats. A score the data cannot give is absent.
"""

import torch
import torch.nn.functional as F
from open_clip import CLIP
from open_clip.loss import ClipLoss
from torch import Tensor

from flipscale.train.data import HeldOut, Images, Integers
from flipscale.train.model import encode_text, pixels

BATCH = 64
"""Pairs in a batch of the held-out loss. The contrastive loss grows with the batch, so this is part of the score."""


@torch.inference_mode()
def evaluate(model: CLIP, held_out: HeldOut) -> dict[str, float]:
    """The scores of `model` on `held_out`, by name. The model comes back in the mode it was given in."""
    training = model.training
    model.eval()
    scores = {}
    if held_out.pairs is not None:
        images, texts = (_encode_images(model, held_out.pairs[0]), _encode_texts(model, held_out.pairs[1]))
        scores["held_out_loss"] = _loss(images, texts, model.logit_scale.exp())
        if held_out.retrieval:
            similarity = texts @ images.T
            own = torch.arange(len(texts), device=similarity.device)
            for k in (1, 5, 10):
                scores[f"image_retrieval_r{k}"] = hit_rate(similarity, own, k)
                scores[f"text_retrieval_r{k}"] = hit_rate(similarity.T, own, k)
    if held_out.labelled is not None and held_out.prompts is not None:
        images = _encode_images(model, held_out.labelled[0])
        labels = torch.from_numpy(held_out.labelled[1]).to(images.device)
        similarity = images @ _classifier(model, held_out.prompts).T
        for k in (1, 5):
            if k < len(held_out.classes):
                scores[f"zero_shot_top{k}"] = hit_rate(similarity, labels, k)
    model.train(training)
    return scores


def hit_rate(similarity: Tensor, right: Tensor, k: int) -> float:
    """The share of rows of `similarity` [N, M] whose column `right` [N] is among the k largest.

    Equal values are taken to be in random order, so a model that sees no difference scores k / M, not 0 or 1.
    """
    own = similarity.gather(1, right[:, None])
    above = (similarity > own).sum(dim=1)
    level = (similarity == own).sum(dim=1)
    return float(((k - above) / level).clamp(0, 1).double().mean())


def _loss(images: Tensor, texts: Tensor, logit_scale: Tensor) -> float:
    """Mean contrastive loss over batches of 64 pairs. What is left over is left out, unless it is all there is."""
    loss = ClipLoss()
    whole = range(0, max(len(images) - BATCH, 0) + 1, BATCH)
    losses = [loss(images[i : i + BATCH], texts[i : i + BATCH], logit_scale) for i in whole]
    return float(torch.stack(losses).double().mean())


def _classifier(model: CLIP, prompts: Integers) -> Tensor:
    """One unit vector a class [C, E], from tokens [C, templates, T]: embed each prompt, normalise, mean, normalise.

    As CLIP and FLIP do; open_clip's `build_zero_shot_classifier` does the same, at the full context length only.
    """
    classes, templates, length = prompts.shape
    texts = _encode_texts(model, prompts.reshape(classes * templates, length))
    return F.normalize(texts.reshape(classes, templates, -1).mean(dim=1), dim=-1)


def _encode_images(model: CLIP, images: Images) -> Tensor:
    device = model.logit_scale.device
    batches = (images[i : i + BATCH] for i in range(0, len(images), BATCH))
    return torch.cat([model.encode_image(pixels(batch, device), normalize=True) for batch in batches])


def _encode_texts(model: CLIP, tokens: Integers) -> Tensor:
    device = model.logit_scale.device
    batches = (torch.from_numpy(tokens[i : i + BATCH]).to(device) for i in range(0, len(tokens), BATCH))
    return torch.cat([encode_text(model, batch, normalize=True) for batch in batches])
