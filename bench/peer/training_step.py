#!/usr/bin/python3
"""Training steps of Mamba-1 and Mamba-2 in PyTorch alone, as one would write them without kernels of one's own: what
bench/peer/compare_training.py measures krait's steps against. Prints one line of JSON.

    bench/peer/training_step.py mamba|mamba2|scan [--layers 24] [--batch 2] [--length 1024] [--threads 2] [--rounds 3]
                                [--chunk 64] [--shared]

Written from the equations. Mamba-1 (Gu & Dao 2023): the scan goes through time step by step, over discretised inputs
of all steps, as the authors' reference does, but for gradients that are linear in T rather than quadratic. Mamba-2
(Dao & Gu 2024): the state-space dual in chunks, as an einsum for each term of the paper's with B and C of every head;
--shared multiplies B and C once for all heads of a group, which takes more thought and less time. Both with torch.optim.AdamW and
the cross entropy of all logits. `scan` is the selective scan of one layer, forward and backward.
"""

import argparse
import json
import math
import resource
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

VOCABULARY, TABLE, WIDTH, INNER, CONV_WIDTH = 50280, 50288, 768, 1536, 4
RANK, STATES = 48, 16  # Mamba-1
HEAD_WIDTH, HEADS, DUAL_STATES = 64, INNER // 64, 128  # Mamba-2


class RmsNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * self.weight


def convolve(conv, x):
    """Causal and depthwise, over [B, T, C]."""
    return F.silu(conv(x.transpose(1, 2))[..., :x.shape[1]])


def causal_conv(channels):
    return nn.Conv1d(channels, channels, CONV_WIDTH, groups=channels, padding=CONV_WIDTH - 1)


def selective_scan(x, dt, a, b, c, d, z, dt_bias):
    """x, dt, z [B, E, T]; a [E, N]; b, c [B, N, T]."""
    dt = F.softplus(dt + dt_bias[:, None])
    decay = torch.exp(torch.einsum("bet,en->betn", dt, a))
    inflow = torch.einsum("bet,bnt,bet->betn", dt, b, x)
    state = x.new_zeros(x.shape[0], *a.shape)
    rows = []
    # Unbound once: the gradient of an index is a matrix of zeros of all T steps, made T times.
    for decay_t, inflow_t, c_t in zip(decay.unbind(2), inflow.unbind(2), c.unbind(2)):
        state = decay_t * state + inflow_t
        rows.append(torch.einsum("ben,bn->be", state, c_t))
    return (torch.stack(rows, dim=2) + d[:, None] * x) * F.silu(z)


class Mamba1(nn.Module):
    def __init__(self):
        super().__init__()
        self.in_proj = nn.Linear(WIDTH, 2 * INNER, bias=False)
        self.conv1d = causal_conv(INNER)
        self.x_proj = nn.Linear(INNER, RANK + 2 * STATES, bias=False)
        self.dt_proj = nn.Linear(RANK, INNER)
        self.a_log = nn.Parameter(torch.log(torch.arange(1.0, STATES + 1)).repeat(INNER, 1))
        self.d = nn.Parameter(torch.ones(INNER))
        self.out_proj = nn.Linear(INNER, WIDTH, bias=False)
        with torch.no_grad():
            self.dt_proj.bias.copy_(time_step_bias(INNER))

    def forward(self, u):
        x, z = self.in_proj(u).chunk(2, dim=-1)
        x = convolve(self.conv1d, x)
        dt, b, c = self.x_proj(x.transpose(1, 2)).split([RANK, STATES, STATES], dim=-1)
        # The scan adds the bias itself.
        dt = (dt @ self.dt_proj.weight.t()).transpose(1, 2)
        y = selective_scan(x, dt, -torch.exp(self.a_log), b.transpose(1, 2), c.transpose(1, 2), self.d,
                           z.transpose(1, 2), self.dt_proj.bias)
        return self.out_proj(y.transpose(1, 2))


def decays_between(a):
    """exp(a[j+1] + … + a[i]) at [..., i, j] for j <= i, else 0, from a [..., Q]."""
    sums = torch.cumsum(a, dim=-1)
    differences = sums[..., :, None] - sums[..., None, :]
    causal = torch.ones(differences.shape[-2:], dtype=torch.bool).tril()
    return torch.exp(differences.masked_fill(~causal, -math.inf))


def dual_scan(x, a, b, c, chunk):
    """x [B, T, H, P] times dt; a = dt A [B, T, H]; b, c [B, T, N], given to every head. Chunks k of rows q, s."""
    batch, length, heads, width = x.shape
    b, c = (of[:, :, None].expand(-1, -1, heads, -1).reshape(batch, -1, chunk, heads, of.shape[-1]) for of in (b, c))
    x = x.reshape(batch, -1, chunk, heads, width)
    a = a.reshape(batch, -1, chunk, heads).permute(0, 3, 1, 2)  # [B, H, k, q]
    sums = torch.cumsum(a, dim=-1)
    within = torch.einsum("bkqhn,bkshn,bhkqs,bkshp->bkqhp", c, b, decays_between(a), x)
    # What each chunk adds to the state, then the state before each chunk by the same matrix of decays over chunks.
    added = torch.einsum("bkqhn,bhkq,bkqhp->bkhpn", b, torch.exp(sums[..., -1:] - sums), x)
    across = decays_between(F.pad(sums[..., -1], (1, 0)))[:, :, :-1, 1:]
    before = torch.einsum("bhik,bkhpn->bihpn", across, added)
    from_before = torch.einsum("bkqhn,bkhpn,bhkq->bkqhp", c, before, torch.exp(sums))
    return (within + from_before).reshape(batch, length, heads, width)


def dual_scan_shared(x, a, b, c, chunk):
    """The same; b and c are multiplied once for all heads."""
    batch, length, heads, width = x.shape
    states = b.shape[-1]
    x = x.view(batch, -1, chunk, heads, width).transpose(2, 3)  # [B, k, H, q, P]
    a = a.view(batch, -1, chunk, heads).transpose(2, 3)  # [B, k, H, q]
    b, c = b.view(batch, -1, chunk, states), c.view(batch, -1, chunk, states)
    sums = torch.cumsum(a, dim=-1)
    within = ((c @ b.transpose(2, 3))[:, :, None] * decays_between(a)) @ x
    # What each chunk adds to the state, then the state before each chunk by the same matrix of decays over chunks.
    to_end = torch.exp(sums[..., -1:] - sums)
    added = torch.einsum("bkqn,bkhqp->bkhnp", b, to_end[..., None] * x)
    across = decays_between(F.pad(sums[..., -1].transpose(1, 2), (1, 0)))[:, :, :-1, 1:]  # [B, H, k, k]
    before = torch.einsum("bhik,bkhnp->bihnp", across, added)
    from_before = torch.exp(sums)[..., None] * (c[:, :, None] @ before)
    return (within + from_before).transpose(2, 3).reshape(batch, length, heads, width)


class Mamba2(nn.Module):
    def __init__(self, scan, chunk):
        super().__init__()
        self.scan, self.chunk = scan, chunk
        self.in_proj = nn.Linear(WIDTH, 2 * INNER + 2 * DUAL_STATES + HEADS, bias=False)
        self.conv1d = causal_conv(INNER + 2 * DUAL_STATES)
        self.dt_bias = nn.Parameter(time_step_bias(HEADS))
        self.a_log = nn.Parameter(torch.log(torch.empty(HEADS).uniform_(1, 16)))
        self.d = nn.Parameter(torch.ones(HEADS))
        self.norm = RmsNorm(INNER)
        self.out_proj = nn.Linear(INNER, WIDTH, bias=False)

    def forward(self, u):
        z, xbc, dt = self.in_proj(u).split([INNER, INNER + 2 * DUAL_STATES, HEADS], dim=-1)
        x, b, c = convolve(self.conv1d, xbc).transpose(1, 2).split([INNER, DUAL_STATES, DUAL_STATES], dim=-1)
        x = x.reshape(*x.shape[:2], HEADS, HEAD_WIDTH)
        dt = F.softplus(dt + self.dt_bias)
        y = self.scan(x * dt[..., None], dt * -torch.exp(self.a_log), b.contiguous(), c.contiguous(), self.chunk)
        y = (y + self.d[:, None] * x).flatten(2)
        return self.out_proj(self.norm(y * F.silu(z)))


def time_step_bias(count):
    dt = torch.exp(torch.rand(count) * (math.log(0.1) - math.log(0.001)) + math.log(0.001)).clamp(min=1e-4)
    return dt + torch.log(-torch.expm1(-dt))


class LanguageModel(nn.Module):
    def __init__(self, layers, make_mixer):
        super().__init__()
        self.embedding = nn.Embedding(TABLE, WIDTH)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.norms = nn.ModuleList(RmsNorm(WIDTH) for _ in range(layers))
        self.mixers = nn.ModuleList(make_mixer() for _ in range(layers))
        self.last_norm = RmsNorm(WIDTH)

    def loss(self, ids, labels):
        h = self.embedding(ids)
        for norm, mixer in zip(self.norms, self.mixers):
            h = h + mixer(norm(h))
        logits = F.linear(self.last_norm(h), self.embedding.weight)
        return F.cross_entropy(logits.view(-1, TABLE), labels.view(-1))


def model_step(options):
    torch.manual_seed(0)
    scan = dual_scan_shared if options.shared else dual_scan
    model = LanguageModel(options.layers, Mamba1 if options.subject == "mamba" else lambda: Mamba2(scan, options.chunk))
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    optimiser = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
                                  lr=1e-4, betas=(0.9, 0.95))

    def step():
        tokens = torch.randint(VOCABULARY, (options.batch, options.length + 1))
        optimiser.zero_grad(set_to_none=True)
        model.loss(tokens[:, :-1], tokens[:, 1:].reshape(-1)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    return step


def scan_step(options):
    torch.manual_seed(1)
    b, t = options.batch, options.length
    x, dt, z = (torch.randn(b, INNER, t, requires_grad=True) for _ in range(3))
    bs, cs = (torch.randn(b, STATES, t, requires_grad=True) for _ in range(2))
    a = torch.empty(INNER, STATES).uniform_(-16, -1).requires_grad_()
    d = torch.randn(INNER, requires_grad=True)
    bias = torch.empty(INNER).uniform_(-6.9, -2.3).requires_grad_()
    dy = torch.randn(b, INNER, t)
    inputs = (x, dt, a, bs, cs, d, z, bias)

    def step():
        selective_scan(*inputs).backward(dy)
        for tensor in inputs:
            tensor.grad = None
    return step


def sgemm_gflops():
    """What the BLAS behind torch does: the reference BLAS, which Debian's torch also runs on, makes no peer."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    best = 0.0
    for _ in range(3):
        start = time.perf_counter()
        a @ b
        best = max(best, 2 * 1024**3 / (time.perf_counter() - start) * 1e-9)
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", choices=("mamba", "mamba2", "scan"))
    for name, value in (("layers", 24), ("batch", 2), ("length", 1024), ("threads", 2), ("rounds", 3), ("chunk", 64)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--shared", action="store_true")
    options = parser.parse_args()
    if options.length % options.chunk:
        parser.error(f"chunks of {options.chunk} do not fill {options.length} tokens")
    torch.set_num_threads(options.threads)
    gflops = sgemm_gflops()
    step = scan_step(options) if options.subject == "scan" else model_step(options)
    step()
    walls, processors = [], []
    for _ in range(options.rounds):
        wall, processor = time.perf_counter(), time.process_time()
        step()
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    print(json.dumps({"subject": options.subject, "layers": options.layers, "threads": options.threads,
                      "seconds": min(walls), "processor_seconds": min(processors), "sgemm_gflops": gflops,
                      "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                      "torch": torch.__version__}))


if __name__ == "__main__":
    sys.exit(main())
