"""HAX on Mamba and on Mamba-2: sparse attention over the block's own input, by its definition. Every token looks through
all tokens before it, so nothing here knows of rings or of a set that is kept.

The names are those of the authors' code, with `hash_projection` beside them. Two things are decided by comparisons: the
signs of projections and the order of scores. `closest` is the smallest margin by which one was decided, since float32
must decide alike.
"""
import math

import numpy as np

from . import parts

CONFIGS = {
    "hax_mamba": {"model_type": "mamba", "vocab_size": 61, "hidden_size": 32, "intermediate_size": 48,
                  "num_hidden_layers": 2, "state_size": 7, "conv_kernel": 4, "time_step_rank": 3,
                  "layer_norm_epsilon": 1e-5, "tie_word_embeddings": False,
                  "sparse_arch": "sign_bin_lsh+key_selection", "sparse_keys": 6, "num_hash": 2},
    "hax_mamba2": {"model_type": "mamba2", "vocab_size": 59, "hidden_size": 36, "expand": 2, "num_hidden_layers": 3,
                   "num_heads": 6, "head_dim": 12, "state_size": 9, "n_groups": 2, "conv_kernel": 4,
                   "layer_norm_epsilon": 1e-5, "tie_word_embeddings": False,
                   "sparse_arch": "sign_bin_lsh+key_selection", "sparse_keys": 8, "num_hash": 1},
}
MARGIN = 1e-4
closest = math.inf


def inner_width(c):
    return c["intermediate_size"] if c["model_type"] == "mamba" else c["num_heads"] * c["head_dim"]


def shapes(c):
    d, n, inner = c["hidden_size"], c["state_size"], inner_width(c)
    out = {"backbone.embeddings.weight": (c["vocab_size"], d), "backbone.norm_f.weight": (d,),
           "lm_head.weight": (c["vocab_size"], d)}
    for i in range(c["num_hidden_layers"]):
        p = f"backbone.layers.{i}."
        out[p + "norm.weight"] = (d,)
        p += "mixer."
        if c["model_type"] == "mamba":
            out |= parts.mamba1_shapes(p, d, inner, n, c["time_step_rank"])
        else:
            out |= parts.mamba2_shapes(p, d, c["num_heads"], c["head_dim"], n, c["n_groups"])
        out |= {p + "xx_proj.weight": (2 * n, inner), p + "E": (inner,), p + "hash_projection": (c["num_hash"], n),
                p + "dx_proj_1.weight": (2 * n, 2 * n), p + "dx_proj_1.bias": (2 * n,),
                p + "dx_proj_2.weight": (2 * n, 2 * n), p + "dx_proj_2.bias": (2 * n,),
                p + "dx_proj_3.weight": (1, 2 * n), p + "dx_proj_3.bias": (1,)}
    return out


def change(tensor, values):
    """Tensors that only decide between keys do nothing until a decision falls the other way: they are turned round.
    The last bias moves all scores alike and decides nothing."""
    if "dx_proj" in tensor or "hash" in tensor:
        return -np.flip(values)
    return values * 1.1 + 0.05


def decided(margin):
    global closest
    closest = min(closest, float(margin))


def bucket(projection, vectors):
    """Of the last vector: the signs of its projections, less the mean of the vectors before it."""
    last = vectors[-1] - np.mean(vectors[:-1], axis=0) if len(vectors) > 1 else vectors[-1]
    projected = projection @ last
    decided(np.min(np.abs(projected)))
    return tuple(projected > 0.0)


def relu(x):
    return np.maximum(x, 0.0)


def attention(c, w, p, past, x):
    n, budget = c["state_size"], c["sparse_keys"] // 2
    both = w[p + "xx_proj.weight"] @ x
    tokens = past.setdefault(p + "tokens", {part: [] for part in ("k", "q", "v", "bucket", "score")})
    tokens["k"].append(both[:n] / math.sqrt(n))
    tokens["q"].append(both[n:])
    tokens["v"].append(x)
    tokens["bucket"].append(bucket(w[p + "hash_projection"], tokens["k"]))
    mean = np.mean(tokens["q"], axis=0)
    hidden = np.concatenate([tokens["k"][-1], mean / math.sqrt(float(mean @ mean))])
    for i in (1, 2):
        hidden = relu(w[f"{p}dx_proj_{i}.weight"] @ hidden + w[f"{p}dx_proj_{i}.bias"])
    tokens["score"].append(float((w[p + "dx_proj_3.weight"] @ hidden + w[p + "dx_proj_3.bias"])[0]))

    here = bucket(w[p + "hash_projection"], tokens["q"])
    recent = [j for j, there in enumerate(tokens["bucket"]) if there == here][-budget:]
    ranked = sorted(range(len(tokens["score"])), key=lambda j: -tokens["score"][j])
    if len(ranked) > budget:
        decided(tokens["score"][ranked[budget - 1]] - tokens["score"][ranked[budget]])
    read = sorted(set(recent) | set(ranked[:budget]))
    weights = parts.softmax(np.array([float(tokens["q"][-1] @ tokens["k"][j]) for j in read]))
    return w[p + "E"] * sum(weight * tokens["v"][j] for weight, j in zip(weights, read))


def step(c, w, past, token):
    x = w["backbone.embeddings.weight"][token]
    epsilon = c["layer_norm_epsilon"]
    for i in range(c["num_hidden_layers"]):
        p = f"backbone.layers.{i}."
        u = parts.rms(x, w[p + "norm.weight"], epsilon)
        p += "mixer."
        addition = lambda inside: attention(c, w, p, past, inside)
        if c["model_type"] == "mamba":
            x = x + parts.mamba1(w, p, past, u, addition=addition)
        else:
            x = x + parts.mamba2(w, p, past, u, c["num_heads"], c["head_dim"], c["state_size"], c["n_groups"], epsilon,
                                 addition=addition)
    return w["lm_head.weight"] @ parts.rms(x, w["backbone.norm_f.weight"], epsilon)
