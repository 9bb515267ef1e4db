"""Zero-shot accuracy on plain squares: python colours.py FOLDER"""

import json
import sys
from pathlib import Path

import open_clip
import torch

from flipscale.settings.architecture import architecture

folder = Path(sys.argv[1])
settings = json.loads((folder / "run.json").read_text())["settings"]
size, model = settings["image_size"], settings["model"]
# A model that open_clip ships needs its name alone: open_clip.create_model("ViT-B-16", str(folder / "model.pt")).
config = architecture(model, size).open_clip_config
clip = open_clip.create_model("ViT-B-16", str(folder / "model.pt"), **config).eval()
colours = ["red", "green", "blue"]
images = torch.eye(3)[:, :, None, None].expand(3, 3, size, size)
tokenize = open_clip.get_tokenizer("ViT-B-16", context_length=clip.context_length)
texts = tokenize([f"a big {colour} square" for colour in colours])
with torch.inference_mode():
    similarity = clip.encode_image(images, normalize=True) @ clip.encode_text(texts, normalize=True).T
right = similarity.argmax(dim=1) == torch.arange(3)
print(json.dumps({"scores": {"accuracy": right.double().mean().item()}, "chance": {"accuracy": 1 / 3}}))
