"""Train on a run's folder: python train.py FOLDER"""

import json
import sys
import time
from pathlib import Path

import torch

folder = Path(sys.argv[1])
settings = json.loads((folder / "run.json").read_text())["settings"]
batch, steps = settings["batch_size"], settings["samples"] // settings["batch_size"]
torch.manual_seed(settings["seed"])
model = torch.nn.Linear(8, 1)
optimizer = torch.optim.AdamW(model.parameters(), lr=settings["lr"])
checkpoint, first = folder / "checkpoint.pt", 0
if checkpoint.exists():
    first, weights, moments = torch.load(checkpoint)
    model.load_state_dict(weights)
    optimizer.load_state_dict(moments)

with open(folder / "metrics.jsonl", "a") as metrics:
    for step in range(first + 1, steps + 1):
        x = torch.randn(batch, 8)
        loss = (model(x).squeeze() - x.sum(dim=1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0 or step == steps:
            record = {"step": step, "samples_seen": step * batch, "loss": loss.item(), "time": time.time()}
            print(json.dumps(record), file=metrics, flush=True)
            torch.save((step, model.state_dict(), optimizer.state_dict()), folder / "new.pt")
            (folder / "new.pt").rename(checkpoint)

outcome = {"scores": {"held_out_loss": loss.item()}, "params": 9}
(folder / "outcome.json").write_text(json.dumps(outcome))
