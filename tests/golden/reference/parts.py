"""Pieces of hybrid language models in float64, one token after the other, as their papers and transformers' configurations
describe them. Slow on purpose: every function works on one vector and a dictionary that holds the sequence's past.

w is a mapping from tensor names to float64 arrays; p a prefix of names.
"""
import math

import numpy as np


def softplus(x):
    return np.logaddexp(0.0, x)


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def gelu(x):
    return np.array([0.5 * v * (1.0 + math.erf(v / math.sqrt(2.0))) for v in np.ravel(x)]).reshape(np.shape(x))


def rms(x, weight, epsilon):
    return x / math.sqrt(float(np.mean(x * x)) + epsilon) * weight


def layer_norm(x, weight, bias, epsilon):
    centred = x - np.mean(x)
    return centred / math.sqrt(float(np.mean(centred * centred)) + epsilon) * weight + bias


def softmax(x):
    e = np.exp(x - np.max(x))
    return e / np.sum(e)


def convolution(w, p, past, x, activation=True):
    """Depthwise, causal: the last K inputs, oldest first, are in past."""
    weight = w[p + "weight"]  # [C, 1, K]
    width = weight.shape[2]
    window = past.setdefault(p, [np.zeros_like(x) for _ in range(width)])
    window.pop(0)
    window.append(x)
    y = sum(weight[:, 0, k] * window[k] for k in range(width))
    if p + "bias" in w:
        y = y + w[p + "bias"]
    return silu(y) if activation else y


def mamba1(w, p, past, u, keep_ungated=False, addition=None):
    """Mamba. With keep_ungated also what the scan gives before the gate; addition(x) is added to it."""
    inner, states = w[p + "A_log"].shape
    rank = w[p + "dt_proj.weight"].shape[1]
    both = w[p + "in_proj.weight"] @ u
    x, z = both[:inner], both[inner:]
    x = convolution(w, p + "conv1d.", past, x)
    projected = w[p + "x_proj.weight"] @ x
    b, c = projected[rank:rank + states], projected[rank + states:]
    dt = softplus(w[p + "dt_proj.weight"] @ projected[:rank] + w[p + "dt_proj.bias"])
    a = -np.exp(w[p + "A_log"])
    h = past.get(p + "h", np.zeros((inner, states)))
    h = np.exp(dt[:, None] * a) * h + (dt * x)[:, None] * b[None, :]
    past[p + "h"] = h
    y = h @ c + w[p + "D"] * x
    if addition:
        y = y + addition(x)
    out = w[p + "out_proj.weight"] @ (y * silu(z))
    return (out, y) if keep_ungated else out


def mamba2(w, p, past, u, heads, head_dim, states, groups, epsilon=1e-5, norm="gate_first", factors=(1, 1, 1, 1, 1),
           addition=None):
    """Mamba-2. norm: gate_first (norm(y silu(z))), norm_first (norm(y) silu(z)) or none; statistics by group.
    addition(x) is added to y before that."""
    inner = heads * head_dim
    projected = w[p + "in_proj.weight"] @ u
    sizes = np.cumsum([inner, inner, groups * states, groups * states])
    z, x, b, c, dt = (f * part for f, part in zip(factors, np.split(projected, sizes)))
    xbc = convolution(w, p + "conv1d.", past, np.concatenate([x, b, c]))
    x, b, c = np.split(xbc, [inner, inner + groups * states])
    dt = softplus(dt + w[p + "dt_bias"])
    state = past.get(p + "h", np.zeros((heads, head_dim, states)))
    y = np.zeros(inner)
    for h in range(heads):
        group = h * groups // heads
        bh, ch = (v[group * states:(group + 1) * states] for v in (b, c))
        xh = x[h * head_dim:(h + 1) * head_dim]
        state[h] = math.exp(-math.exp(w[p + "A_log"][h]) * dt[h]) * state[h] + dt[h] * np.outer(xh, bh)
        y[h * head_dim:(h + 1) * head_dim] = state[h] @ ch + w[p + "D"][h] * xh
    past[p + "h"] = state
    if addition:
        y = y + addition(x)
    if norm == "gate_first":
        y = y * silu(z)
    if norm != "none":
        weight, size = w[p + "norm.weight"], inner // groups
        y = np.concatenate([rms(y[g * size:(g + 1) * size], weight[g * size:(g + 1) * size], epsilon)
                            for g in range(groups)])
    if norm != "gate_first":
        y = y * silu(z)
    return w[p + "out_proj.weight"] @ y


def rotate(x, position, width, theta):
    """The first `width` components, component i with i + width/2."""
    half = width // 2
    y = x.copy()
    for i in range(half):
        angle = position * theta ** (-2.0 * i / width)
        cosine, sine = math.cos(angle), math.sin(angle)
        y[i] = x[i] * cosine - x[i + half] * sine
        y[i + half] = x[i + half] * cosine + x[i] * sine
    return y


def attend(queries, keys, values, scale, window=None):
    """queries [heads][d]; keys and values: for every token [key heads][d]. The last `window` tokens are seen."""
    if window is not None:
        keys, values = keys[-window:], values[-window:]
    repeats = len(queries) // len(keys[0])
    out = []
    for h, q in enumerate(queries):
        weights = softmax(np.array([scale * float(q @ k[h // repeats]) for k in keys]))
        out.append(sum(weight * v[h // repeats] for weight, v in zip(weights, values)))
    return out


def heads_of(x, count):
    return list(x.reshape(count, -1))


def attention(w, p, past, u, heads, key_heads, scale=None, rotary=0, theta=10000.0, window=None, key_factor=1.0,
              add=(0.0, 0.0, 0.0), output="o_proj"):
    """Grouped attention; `add` is added to queries, keys and values as they are projected."""
    q, k, v = (w[f"{p}{part}_proj.weight"] @ u + extra for part, extra in zip("qkv", add))
    k = k * key_factor
    q, k, v = heads_of(q, heads), heads_of(k, key_heads), heads_of(v, key_heads)
    tokens = past.setdefault(p + "kv", [])
    if rotary:
        q = [rotate(x, len(tokens), rotary, theta) for x in q]
        k = [rotate(x, len(tokens), rotary, theta) for x in k]
    tokens.append((k, v))
    scale = len(q[0]) ** -0.5 if scale is None else scale
    mixed = attend(q, [t[0] for t in tokens], [t[1] for t in tokens], scale, window)
    return w[f"{p}{output}.weight"] @ np.concatenate(mixed)


def swiglu(w, p, u, gate="gate_proj", up="up_proj", down="down_proj", factors=(1.0, 1.0)):
    hidden = silu(factors[0] * (w[f"{p}{gate}.weight"] @ u)) * (w[f"{p}{up}.weight"] @ u)
    return factors[1] * (w[f"{p}{down}.weight"] @ hidden)


def mamba2_shapes(p, width, heads, head_dim, states, groups, kernel=4, norm=True):
    inner, channels = heads * head_dim, heads * head_dim + 2 * groups * states
    shapes = {p + "in_proj.weight": (inner + channels + heads, width), p + "conv1d.weight": (channels, 1, kernel),
              p + "conv1d.bias": (channels,), p + "dt_bias": (heads,), p + "A_log": (heads,), p + "D": (heads,),
              p + "out_proj.weight": (width, inner)}
    if norm:
        shapes[p + "norm.weight"] = (inner,)
    return shapes


def mamba1_shapes(p, width, inner, states, rank, kernel=4):
    return {p + "in_proj.weight": (2 * inner, width), p + "conv1d.weight": (inner, 1, kernel),
            p + "conv1d.bias": (inner,), p + "x_proj.weight": (rank + 2 * states, inner),
            p + "dt_proj.weight": (inner, rank), p + "dt_proj.bias": (inner,), p + "A_log": (inner, states),
            p + "D": (inner,), p + "out_proj.weight": (width, inner)}


def attention_shapes(p, width, heads, key_heads, head_dim, inputs=None, output="o_proj"):
    inputs = inputs or width
    return {p + "q_proj.weight": (heads * head_dim, inputs), p + "k_proj.weight": (key_heads * head_dim, inputs),
            p + "v_proj.weight": (key_heads * head_dim, inputs), f"{p}{output}.weight": (width, heads * head_dim)}


def swiglu_shapes(p, width, hidden, gate="gate_proj", up="up_proj", down="down_proj"):
    return {f"{p}{gate}.weight": (hidden, width), f"{p}{up}.weight": (hidden, width),
            f"{p}{down}.weight": (width, hidden)}
