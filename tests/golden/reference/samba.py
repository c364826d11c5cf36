"""Samba: Mamba, MLP, sliding-window attention, MLP, and so on; names and configuration of the authors' code (lit-gpt)."""
import math

import numpy as np

from . import parts

CONFIGS = {"samba": {"name": "tiny Samba", "padded_vocab_size": 64, "n_layer": 4, "n_head": 4, "n_query_groups": 2,
                     "n_embd": 32, "intermediate_size": 40, "norm_eps": 1e-5, "mb_per_layer": 2, "local_window": 5,
                     "rotary_percentage": 1.0, "bias": False, "mamba_init": True}}
STATES = 16


def shapes(c):
    d, inner, hidden = c["n_embd"], 2 * c["n_embd"], c["intermediate_size"]
    head = d // c["n_head"]
    out = {"transformer.wte.weight": (c["padded_vocab_size"], d), "transformer.ln_f.weight": (d,)}
    for i in range(c["n_layer"]):
        p = f"transformer.h.{i}."
        out |= {p + "norm_1.weight": (d,), p + "norm_2.weight": (d,)}
        out |= parts.swiglu_shapes(p + "mlp.swiglu.", d, hidden, "w1", "w2", "w3")
        if i % c["mb_per_layer"] == 0:
            out |= parts.mamba1_shapes(p + "attn.", d, inner, STATES, math.ceil(d / 16))
        else:
            out |= {p + "attn.attn.weight": ((c["n_head"] + 2 * c["n_query_groups"]) * head, d),
                    p + "attn.proj.weight": (d, d)}
    return out


def attention(c, w, p, past, u):
    """Rows of the projection: for every group its queries, its key, its value."""
    groups, each = c["n_query_groups"], c["n_head"] // c["n_query_groups"]
    head = c["n_embd"] // c["n_head"]
    rows = (w[p + "attn.weight"] @ u).reshape(groups, each + 2, head)
    tokens = past.setdefault(p, [])
    width = int(c["rotary_percentage"] * head)
    turn = lambda x: parts.rotate(x, len(tokens), width, 10000.0)
    q = [turn(x) for group in rows for x in group[:each]]
    k, v = [turn(group[each]) for group in rows], [group[each + 1] for group in rows]
    tokens.append((k, v))
    mixed = parts.attend(q, [t[0] for t in tokens], [t[1] for t in tokens], head ** -0.5, c["local_window"])
    return w[p + "proj.weight"] @ np.concatenate(mixed)


def step(c, w, past, token):
    x = w["transformer.wte.weight"][token]
    for i in range(c["n_layer"]):
        p = f"transformer.h.{i}."
        u = parts.rms(x, w[p + "norm_1.weight"], c["norm_eps"])
        mixer = parts.mamba1 if i % c["mb_per_layer"] == 0 else lambda *args: attention(c, *args)
        x = x + mixer(w, p + "attn.", past, u)
        x = x + parts.swiglu(w, p + "mlp.swiglu.", parts.rms(x, w[p + "norm_2.weight"], c["norm_eps"]), "w1", "w2",
                             "w3")
    return w["transformer.wte.weight"] @ parts.rms(x, w["transformer.ln_f.weight"], c["norm_eps"])
