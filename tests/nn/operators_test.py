#!/usr/bin/python3
"""krait's operators in Debian's torch: against plain torch, under torch's own gradient check, and with wrong arguments.

usage: operators_test.py LIBKRAIT_OPERATORS_SO
Exit status 77 where this Python has no torch.
"""
import sys

try:
    import torch
except ImportError:
    print("skipped: no torch for this Python (Debian: python3-torch)")
    sys.exit(77)


def scan_in_torch(x, dt, a, b, c, d, z, bias):
    """The recurrence, a step at a time: x, dt [B, T, E], b, c [B, T, N]."""
    dt = torch.nn.functional.softplus(dt + bias)
    h = torch.zeros(x.shape[0], x.shape[2], a.shape[1], dtype=x.dtype)
    rows = []
    for t in range(x.shape[1]):
        h = torch.exp(dt[:, t, :, None] * a) * h + (dt[:, t] * x[:, t])[..., None] * b[:, t, None]
        rows.append((h * c[:, t, None]).sum(-1) + d * x[:, t])
    return torch.stack(rows, 1) * torch.nn.functional.silu(z), h


def drawn(*shape, dtype):
    return torch.randn(*shape, dtype=dtype)


def inputs(dtype, batch=2, length=7, channels=6, states=3):
    torch.manual_seed(3)
    tensors = [drawn(batch, length, channels, dtype=dtype), drawn(batch, length, channels, dtype=dtype),
               -torch.rand(channels, states, dtype=dtype) - 0.1, drawn(batch, length, states, dtype=dtype),
               drawn(batch, length, states, dtype=dtype), drawn(channels, dtype=dtype),
               drawn(batch, length, channels, dtype=dtype), drawn(channels, dtype=dtype)]
    return [tensor.requires_grad_() for tensor in tensors]


def test_scan_agrees_with_torch():
    # f32: errors of a few hundred roundings of numbers about 1.
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 2e-5)):
        ours, theirs = inputs(dtype), inputs(dtype)
        results = torch.ops.krait.selective_scan(*ours)
        expected = scan_in_torch(*theirs)
        for result, wanted in zip(results, expected):
            assert torch.allclose(result, wanted, rtol=0, atol=tolerance * wanted.abs().max().item()), dtype
        sum((r * torch.cos(r)).sum() for r in results).backward()
        sum((r * torch.cos(r)).sum() for r in expected).backward()
        for mine, other in zip(ours, theirs):
            bound = 10 * tolerance * other.grad.abs().max().item()
            assert (mine.grad - other.grad).abs().max().item() <= bound, (dtype, mine.shape)


def test_torch_checks_the_gradients():
    torch.autograd.gradcheck(lambda *t: torch.ops.krait.selective_scan(*t), inputs(torch.float64))
    torch.manual_seed(4)
    heads, width, states, groups = 4, 3, 2, 2
    ssd = [drawn(2, 5, heads * width, dtype=torch.float64), drawn(2, 5, heads, dtype=torch.float64),
           -torch.rand(heads, dtype=torch.float64) - 0.1, drawn(2, 5, groups * states, dtype=torch.float64),
           drawn(2, 5, groups * states, dtype=torch.float64), drawn(heads, dtype=torch.float64),
           drawn(heads, dtype=torch.float64)]
    segments = torch.tensor([[0, 0, 1, 1, 1], [0, 0, 0, 0, 1]])
    state = drawn(4, heads, width, states, dtype=torch.float64).requires_grad_()
    torch.autograd.gradcheck(
        lambda *t: torch.ops.krait.ssd_scan(*t[:-1], groups=groups, state=t[-1], segments=segments),
        [*(tensor.requires_grad_() for tensor in ssd), state])
    conv = [drawn(2, 5, 3, dtype=torch.float64), drawn(3, 4, dtype=torch.float64), drawn(3, dtype=torch.float64)]
    torch.autograd.gradcheck(lambda *t: torch.ops.krait.conv1d_causal(*t, segments=segments),
                             [tensor.requires_grad_() for tensor in conv])
    x, gate = (drawn(2, 3, 8, dtype=torch.float64).requires_grad_() for _ in range(2))
    weight = drawn(8, dtype=torch.float64).requires_grad_()
    torch.autograd.gradcheck(torch.ops.krait.rms_norm, [x, weight])
    for before in (False, True):
        torch.autograd.gradcheck(
            lambda *t: torch.ops.krait.gated_rms_norm(*t, groups=2, norm_before_gate=before), [x, gate, weight])
    torch.autograd.gradcheck(torch.ops.krait.linear, [x, drawn(5, 8, dtype=torch.float64).requires_grad_()])


def test_wrong_arguments_are_named():
    x, dt, a, b, c, *_ = inputs(torch.float32)
    for arguments, word in (((x, dt[:, :3], a, b, c), "dt"), ((x, dt, a, b[..., :2], c), "B"),
                            ((x, dt, a.double(), b, c), "A"), ((x[0], dt[0], a, b[0], c[0]), "[B, T, channels]")):
        try:
            torch.ops.krait.selective_scan(*arguments)
        except (ValueError, RuntimeError) as error:
            assert word in str(error), error
        else:
            raise AssertionError(f"{word}: nothing was said")


def main(library):
    torch.ops.load_library(library)
    for name, test in sorted(globals().items()):
        if name.startswith("test_"):
            test()
            print(f"ok {name}")


if __name__ == "__main__":
    main(sys.argv[1])
