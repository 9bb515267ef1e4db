"""A language model of bytes, on the help topics that come with Python: python nanolm.py --help"""

import argparse
import json
import pydoc_data.topics
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

WIDTH, CONTEXT, BATCH = 64, 64, 16

parser = argparse.ArgumentParser()
parser.add_argument("--norm", choices=["layer", "rms"])
parser.add_argument("--depth", type=int)
parser.add_argument("--tokens", type=int)
parser.add_argument("--seed", type=int)
parser.add_argument("--out", type=Path)
asked = parser.parse_args()

text = "".join(pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics)).encode()
data = torch.tensor(list(text))
train, held_out = data[: len(data) * 9 // 10], data[len(data) * 9 // 10 :]
torch.manual_seed(asked.seed)


def norm() -> nn.Module:
    return nn.RMSNorm(WIDTH) if asked.norm == "rms" else nn.LayerNorm(WIDTH)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = norm(), norm()
        self.mix, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = self.mix(self.before(x)).unflatten(-1, (3, 4, WIDTH // 4)).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        return x + self.mlp(self.after(x))


model = nn.Sequential(nn.Embedding(256, WIDTH), *(Block() for _ in range(asked.depth)), norm(), nn.Linear(WIDTH, 256))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)


def loss_of(tokens: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    window = tokens[starts[:, None] + torch.arange(CONTEXT + 1)]
    return functional.cross_entropy(model(window[:, :-1]).flatten(0, 1), window[:, 1:].flatten())


steps = asked.tokens // (BATCH * CONTEXT)
checkpoint, first = asked.out / "checkpoint.pt", 0
if checkpoint.exists():
    first, weights, moments, randomness = torch.load(checkpoint)
    model.load_state_dict(weights)
    optimizer.load_state_dict(moments)
    torch.set_rng_state(randomness)
with (asked.out / "metrics.jsonl").open("a") as metrics:
    for step in range(first + 1, steps + 1):
        loss = loss_of(train, torch.randint(len(train) - CONTEXT, (BATCH,)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0 or step == steps:
            record = {
                "step": step,
                "steps": steps,
                "tokens": step * BATCH * CONTEXT,
                "loss": loss.item(),
                "time": time.time(),
            }
            print(json.dumps(record), file=metrics, flush=True)
            torch.save((step, model.state_dict(), optimizer.state_dict(), torch.get_rng_state()), asked.out / "new.pt")
            (asked.out / "new.pt").rename(checkpoint)

with torch.no_grad():
    starts = torch.arange(0, len(held_out) - CONTEXT - 1, CONTEXT)
    losses = [loss_of(held_out, part).item() for part in starts.split(256)]
print(json.dumps({"scores": {"val_loss": sum(losses) / len(losses)}}))
