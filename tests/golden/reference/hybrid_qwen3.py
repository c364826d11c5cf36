"""Qwen3 whose attention is replaced layer by layer (Hybrid Model Factory): M2 is Mamba-2 and GDN the gated delta rule with
heads that share values and keys, SWA attention over a window, BMF B'MOJO-F: an SSM and a window under one softmax.

The eidetic store (bmojo_config.eidetic_size) is krait's own definition, computed here from all tokens anew at every step:
of those that have left the window, the most surprising ones, sorted.
"""
import math

import numpy as np

from . import parts

SIZES = {"model_type": "hybrid_qwen3", "vocab_size": 47, "hidden_size": 32, "intermediate_size": 40,
         "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 8, "rms_norm_eps": 1e-6,
         "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}, "attention_bias": False,
         "tie_word_embeddings": False}
CONFIGS = {
    "hybrid_qwen3_bmojo": SIZES | {
        "num_hidden_layers": 4, "hybrid_override_pattern": "BMF-M2-SWA-*",
        "bmojo_config": {"window_size": 5, "tie_attn_weights": False, "ssm_mixer": "mamba2"},
        "mamba2_config": {"use_qk_norm": True, "use_pos_emb": True}, "swa_config": {"window_size": 6}},
    "hybrid_qwen3_eidetic": SIZES | {
        "num_hidden_layers": 3, "hybrid_override_pattern": "BMF-GDN-BMF",
        "bmojo_config": {"window_size": 3, "tie_attn_weights": True, "ssm_mixer": "gdn", "eidetic_size": 4},
        "gdn_config": {"allow_neg_eigval": True, "norm_eps": 1e-5}},
}


def sizes(c):
    return c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]


def ssm_of(c):
    return {"mamba2": "M2", "gdn": "GDN"}[c["bmojo_config"]["ssm_mixer"]]


def ssm_shapes(c, p, kind):
    (heads, shared, head), d = sizes(c), c["hidden_size"]
    inner, few = heads * head, shared * head
    if kind == "M2":
        p += "mamba."
        return {p + "in_proj.weight": (2 * inner + 2 * few + heads, d), p + "conv1d.weight": (inner + 2 * few, 1, 4),
                p + "conv1d.bias": (inner + 2 * few,), p + "dt_bias": (heads,), p + "A_log": (heads,),
                p + "D": (heads,), p + "B_norm.weight": (head,), p + "C_norm.weight": (head,),
                p + "norm.weight": (inner,), p + "out_proj.weight": (d, inner)}
    p += "gdn."
    out = {p + "g_proj.weight": (inner, d), p + "b_proj.weight": (heads, d), p + "gk_proj.weight": (heads, d),
           p + "A_log": (heads,), p + "dt_bias": (heads,), p + "o_norm.weight": (head,), p + "o_proj.weight": (d, inner)}
    for part, rows in (("q", inner), ("k", few), ("v", few)):
        out |= {f"{p}{part}_proj.weight": (rows, d), f"{p}{part}_conv1d.weight": (rows, 1, 4)}
    return out


def attention_shapes(c, p, suffix=""):
    (heads, shared, head), d = sizes(c), c["hidden_size"]
    return {f"{p}q_proj{suffix}.weight": (heads * head, d), f"{p}k_proj{suffix}.weight": (shared * head, d),
            f"{p}v_proj{suffix}.weight": (shared * head, d), f"{p}q_norm{suffix}.weight": (head,),
            f"{p}k_norm{suffix}.weight": (head,)}


def shapes(c):
    d = c["hidden_size"]
    out = {"model.embed_tokens.weight": (c["vocab_size"], d), "model.norm.weight": (d,),
           "lm_head.weight": (c["vocab_size"], d)}
    for i, kind in enumerate(c["hybrid_override_pattern"].split("-")):
        p = f"model.layers.{i}."
        out |= {p + "input_layernorm.weight": (d,), p + "post_attention_layernorm.weight": (d,)}
        out |= parts.swiglu_shapes(p + "mlp.", d, c["intermediate_size"])
        if kind in ("M2", "GDN"):
            out |= ssm_shapes(c, p, kind)
            continue
        a = p + {"*": "self_attn.", "SWA": "swa.", "BMF": "bmojo_f.bmojo_attn."}[kind]
        out |= attention_shapes(c, a) | {a + "o_proj.weight": (d, c["num_attention_heads"] * c["head_dim"])}
        if kind == "BMF":
            out |= ssm_shapes(c, p + "bmojo_f.", ssm_of(c))
            if not c["bmojo_config"]["tie_attn_weights"]:
                out |= attention_shapes(c, a, "_")
    return out


def turned(c, x, position):
    return parts.rotate(x, position, len(x), c["rope_parameters"]["rope_theta"])


def mamba2(c, w, p, past, u):
    heads, shared, head = sizes(c)
    inner, few, each = heads * head, shared * head, heads // shared
    position = past[p + "t"] = past.get(p + "t", -1) + 1
    z, x, b, k, dt = np.split(w[p + "in_proj.weight"] @ u, np.cumsum([inner, few, few, inner]))
    b = [turned(c, parts.rms(v, w[p + "B_norm.weight"], 1e-6), position) for v in parts.heads_of(b, shared)]
    k = [turned(c, parts.rms(v, w[p + "C_norm.weight"], 1e-6), position) for v in parts.heads_of(k, heads)]
    mixed = parts.convolution(w, p + "conv1d.", past, np.concatenate([x, *b, *k]))
    x, b, k = np.split(mixed, [few, 2 * few])
    x, b, k = parts.heads_of(x, shared), parts.heads_of(b, shared), parts.heads_of(k, heads)
    dt = parts.softplus(dt + w[p + "dt_bias"])
    state = past.setdefault(p + "h", np.zeros((heads, head, head)))
    y = []
    for h in range(heads):
        decay = math.exp(-math.exp(w[p + "A_log"][h]) * dt[h])
        state[h] = decay * state[h] + dt[h] * np.outer(x[h // each], b[h // each])
        gated = (state[h] @ k[h] + w[p + "D"][h] * x[h // each]) * parts.silu(parts.heads_of(z, heads)[h])
        y.append(parts.rms(gated, parts.heads_of(w[p + "norm.weight"], heads)[h], 1e-5))
    return w[p + "out_proj.weight"] @ np.concatenate(y)


def delta(c, w, p, past, u):
    heads, shared, head = sizes(c)
    each, options = heads // shared, c["gdn_config"]
    q, k, v = (parts.convolution(w, f"{p}{part}_conv1d.", past, w[f"{p}{part}_proj.weight"] @ u) for part in "qkv")
    q, k, v = parts.heads_of(q, heads), parts.heads_of(k, shared), parts.heads_of(v, shared)
    beta = parts.sigmoid(w[p + "b_proj.weight"] @ u) * (2.0 if options["allow_neg_eigval"] else 1.0)
    rate = parts.softplus(w[p + "gk_proj.weight"] @ u + w[p + "dt_bias"]) * np.exp(w[p + "A_log"])
    unit = lambda x: x / math.sqrt(float(x @ x) + 1e-6)
    gate = parts.heads_of(w[p + "g_proj.weight"] @ u, heads)
    state = past.setdefault(p + "S", np.zeros((heads, head, head)))
    out = []
    for h in range(heads):
        key = unit(k[h // each])
        state[h] = math.exp(-rate[h]) * state[h]
        state[h] = state[h] + np.outer(key, beta[h] * (v[h // each] - state[h].T @ key))
        o = state[h].T @ unit(q[h]) / math.sqrt(head)
        out.append(parts.rms(o, w[p + "o_norm.weight"], options["norm_eps"]) * parts.silu(gate[h]))
    return w[p + "o_proj.weight"] @ np.concatenate(out)


def ssm(c, w, p, past, u, kind):
    return mamba2(c, w, p + "mamba.", past, u) if kind == "M2" else delta(c, w, p + "gdn.", past, u)


def query(c, w, p, u, position, suffix=""):
    norm = w[f"{p}q_norm{suffix}.weight"]
    return [turned(c, parts.rms(x, norm, c["rms_norm_eps"]), position)
            for x in parts.heads_of(w[f"{p}q_proj{suffix}.weight"] @ u, c["num_attention_heads"])]


def key_value(c, w, p, u, position, suffix=""):
    norm, shared = w[f"{p}k_norm{suffix}.weight"], c["num_key_value_heads"]
    k = [turned(c, parts.rms(x, norm, c["rms_norm_eps"]), position)
         for x in parts.heads_of(w[f"{p}k_proj{suffix}.weight"] @ u, shared)]
    return k, parts.heads_of(w[f"{p}v_proj{suffix}.weight"] @ u, shared)


def attention(c, w, p, past, u, window=None):
    tokens = past.setdefault(p, [])
    q = query(c, w, p, u, len(tokens))
    tokens.append(key_value(c, w, p, u, len(tokens)))
    mixed = parts.attend(q, [k for k, _ in tokens], [v for _, v in tokens], c["head_dim"] ** -0.5, window)
    return w[p + "o_proj.weight"] @ np.concatenate(mixed)


def surprise(predicted, actual):
    f, v = np.concatenate(predicted), np.concatenate(actual)
    return 1.0 - float(f @ v) / math.sqrt(float(f @ f) * float(v @ v))


def bmojo(c, w, p, past, u):
    heads, shared, head = sizes(c)
    options = c["bmojo_config"]
    window, suffix = options["window_size"], "" if options["tie_attn_weights"] else "_"
    fading = ssm(c, w, p, past, u, ssm_of(c))
    p += "bmojo_attn."
    near, far = past.setdefault(p + "near", []), past.setdefault(p + "far", [])
    now = len(near)
    near.append(key_value(c, w, p, u, now))
    far.append(key_value(c, w, p, fading, now, suffix))
    own, other = query(c, w, p, u, now), query(c, w, p, u, now, suffix)
    scores = [1.0 if j == 0 else surprise(far[j - 1][1], near[j][1]) for j in range(now + 1)]
    left = range(max(0, now - window + 1))  # tokens that have left the window
    store = sorted(left, key=lambda j: (-scores[j], j))[:options.get("eidetic_size", 0)]
    read = [(own, near[j]) for j in range(max(0, now - window + 1), now + 1)]
    read += [(other, far[j]) for j in range(max(0, now - 2 * window + 1), now - window + 1)]
    read += [(own, near[j]) for j in store]
    out = []
    for h in range(heads):
        g = h * shared // heads
        weights = parts.softmax(np.array([float(q[h] @ k[g]) / math.sqrt(head) for q, (k, _) in read]))
        out.append(sum(weight * v[g] for weight, (_, (_, v)) in zip(weights, read)))
    return w[p + "o_proj.weight"] @ np.concatenate(out)


def step(c, w, past, token):
    norm = lambda x, name: parts.rms(x, w[name], c["rms_norm_eps"])
    x = w["model.embed_tokens.weight"][token]
    for i, kind in enumerate(c["hybrid_override_pattern"].split("-")):
        p = f"model.layers.{i}."
        u = norm(x, p + "input_layernorm.weight")
        if kind == "BMF":
            x = x + bmojo(c, w, p + "bmojo_f.", past, u)
        elif kind in ("M2", "GDN"):
            x = x + ssm(c, w, p, past, u, kind)
        elif kind == "SWA":
            x = x + attention(c, w, p + "swa.", past, u, c["swa_config"]["window_size"])
        else:
            x = x + attention(c, w, p + "self_attn.", past, u)
        x = x + parts.swiglu(w, p + "mlp.", norm(x, p + "post_attention_layernorm.weight"))
    return w["lm_head.weight"] @ norm(x, "model.norm.weight")
