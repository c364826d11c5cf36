#!/usr/bin/env python3
"""Trains a small Mamba on a CPU from Python: the model is written in torch, the scan and the rest are krait's operators.

    ./dev build && /usr/bin/python3 examples/train/train_in_python.py build/release/krait/nn/libkrait_operators.so

The task is to copy: eight letters, a gap, and the letters again. Loss and accuracy are printed as it learns.
"""
import argparse
import math

import torch

LETTERS, LENGTH, GAP = 16, 8, 8
VOCABULARY = LETTERS + 1  # and the sign to begin


class Mamba(torch.nn.Module):
    """The mixer of Mamba (Gu & Dao 2023) on krait's operators."""

    def __init__(self, width, states=16, expand=2, taps=4):
        super().__init__()
        inner, self.states, self.rank = expand * width, states, math.ceil(width / 16)
        self.in_proj = torch.nn.Linear(width, 2 * inner, bias=False)
        self.conv1d = torch.nn.Conv1d(inner, inner, taps, groups=inner)  # for its weight and bias
        self.x_proj = torch.nn.Linear(inner, self.rank + 2 * states, bias=False)
        self.dt_proj = torch.nn.Linear(self.rank, inner)
        step = torch.exp(torch.empty(inner).uniform_(math.log(1e-3), math.log(1e-1)))
        self.dt_proj.bias.data = step + torch.log(-torch.expm1(-step))
        self.A_log = torch.nn.Parameter(torch.arange(1.0, states + 1).log().repeat(inner, 1))
        self.D = torch.nn.Parameter(torch.ones(inner))
        self.out_proj = torch.nn.Linear(inner, width, bias=False)

    def forward(self, u):
        krait = torch.ops.krait
        x, z = krait.linear(u, self.in_proj.weight).chunk(2, dim=-1)
        x, _ = krait.conv1d_causal(x, self.conv1d.weight, self.conv1d.bias)
        dt, b, c = krait.linear(x, self.x_proj.weight).split([self.rank, self.states, self.states], dim=-1)
        dt = krait.linear(dt, self.dt_proj.weight)
        y, _ = krait.selective_scan(x, dt, -self.A_log.exp(), b, c, self.D, z, self.dt_proj.bias)
        return krait.linear(y, self.out_proj.weight)


class Model(torch.nn.Module):
    def __init__(self, width=64, layers=2):
        super().__init__()
        self.embedding = torch.nn.Embedding(VOCABULARY, width)
        self.norms = torch.nn.ParameterList(torch.ones(width) for _ in range(layers + 1))
        self.mixers = torch.nn.ModuleList(Mamba(width) for _ in range(layers))
        self.head = torch.nn.Linear(width, VOCABULARY, bias=False)

    def forward(self, tokens):
        h = self.embedding(tokens)
        for norm, mixer in zip(self.norms, self.mixers):
            h = h + mixer(torch.ops.krait.rms_norm(h, norm))
        return self.head(torch.ops.krait.rms_norm(h, self.norms[-1]))


def batch(rows, generator):
    letters = torch.randint(0, LETTERS, (rows, LENGTH), generator=generator)
    gap = torch.full((rows, GAP), LETTERS)
    return torch.cat([letters, gap, letters], dim=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", help="libkrait_operators.so")
    parser.add_argument("--steps", type=int, default=600)
    options = parser.parse_args()
    torch.ops.load_library(options.library)
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    model = Model()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    right = 0.0
    for step in range(options.steps):
        tokens = batch(32, generator)
        logits = model(tokens[:, :-1])[:, -LENGTH:]
        wanted = tokens[:, -LENGTH:]
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, VOCABULARY), wanted.reshape(-1))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % 50 == 0 or step == options.steps - 1:
            right = (logits.argmax(-1) == wanted).float().mean().item()
            print(f"step {step:4}  loss {loss.item():.3f}  right {100 * right:.1f} %", flush=True)
    return 0 if right > 0.95 else 1


if __name__ == "__main__":
    raise SystemExit(main())
