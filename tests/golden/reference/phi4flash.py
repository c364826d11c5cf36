"""SambaY as released in Phi-4-mini-flash: Mamba and differential attention, then gated memory units and attention to the
keys and values of one layer."""
import math

import numpy as np

from . import parts

CONFIGS = {"phi4flash": {
    "architectures": ["Phi4FlashForCausalLM"], "model_type": "phi4flash", "vocab_size": 57, "hidden_size": 32,
    "intermediate_size": 40, "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 4,
    "sliding_window": 6, "mb_per_layer": 2, "mamba_d_state": 4, "mamba_d_conv": 4, "mamba_expand": 2,
    "mamba_dt_rank": "auto", "layer_norm_eps": 1e-5, "tie_word_embeddings": True, "lm_head_bias": False}}


def kind(c, i):
    half = c["num_hidden_layers"] // 2
    if i < half + 2:
        return "mamba" if i % 2 == 0 else "full" if i == half + 1 else "window"
    return "memory" if i % 2 == 0 else "cross"


def shapes(c):
    d, inner = c["hidden_size"], 2 * c["hidden_size"]
    heads, key_heads = c["num_attention_heads"], c["num_key_value_heads"]
    width = d // heads
    out = {"model.embed_tokens.weight": (c["vocab_size"], d), "model.final_layernorm.weight": (d,),
           "model.final_layernorm.bias": (d,)}
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            out |= {f"{p}{norm}.weight": (d,), f"{p}{norm}.bias": (d,)}
        out |= {p + "mlp.fc1.weight": (2 * c["intermediate_size"], d), p + "mlp.fc2.weight": (d, c["intermediate_size"])}
        p += "attn."
        what = kind(c, i)
        if what == "mamba":
            out |= parts.mamba1_shapes(p, d, inner, c["mamba_d_state"], math.ceil(d / 16))
        elif what == "memory":
            out |= {p + "in_proj.weight": (inner, d), p + "out_proj.weight": (d, inner)}
        else:
            rows = heads * width if what == "cross" else (heads + 2 * key_heads) * width
            out |= {p + "Wqkv.weight": (rows, d), p + "Wqkv.bias": (rows,), p + "out_proj.weight": (d, d),
                    p + "out_proj.bias": (d,), p + "inner_cross_attn.subln.weight": (2 * width,)}
            out |= {f"{p}inner_cross_attn.lambda_{x}": (width,) for x in ("q1", "k1", "q2", "k2")}
    return out


def differential(c, w, p, past, u, layer, cache):
    heads, key_heads = c["num_attention_heads"], c["num_key_value_heads"]
    width = c["hidden_size"] // heads
    qkv = w[p + "Wqkv.weight"] @ u + w[p + "Wqkv.bias"]
    q = qkv[:heads * width].reshape(heads, width)
    tokens = past.setdefault(cache, [])
    if len(qkv) > heads * width:
        k, v = qkv[heads * width:].reshape(2, key_heads, width)
        tokens.append((k, v))
    window = c["sliding_window"] if kind(c, layer) == "window" else None
    # Even heads make the first map, odd ones the second; both read the values of even and of odd heads.
    maps = []
    for stream in (0, 1):
        keys = [k[stream::2] for k, _ in tokens]
        values = [np.concatenate([v[0::2], v[1::2]], axis=1) for _, v in tokens]
        maps.append(parts.attend(list(q[stream::2]), keys, values, width ** -0.5, window))
    i = p + "inner_cross_attn."
    start = 0.8 - 0.6 * math.exp(-0.3 * layer)
    factor = (math.exp(float(w[i + "lambda_q1"] @ w[i + "lambda_k1"]))
              - math.exp(float(w[i + "lambda_q2"] @ w[i + "lambda_k2"])) + start)
    mixed = [(1.0 - start) * parts.rms(a - factor * b, w[i + "subln.weight"], 1e-5) for a, b in zip(*maps)]
    return w[p + "out_proj.weight"] @ np.concatenate(mixed) + w[p + "out_proj.bias"]


def step(c, w, past, token):
    x = w["model.embed_tokens.weight"][token]
    memory = None
    half = c["num_hidden_layers"] // 2
    for i in range(c["num_hidden_layers"]):
        p, what = f"model.layers.{i}.", kind(c, i)
        u = parts.layer_norm(x, w[p + "input_layernorm.weight"], w[p + "input_layernorm.bias"], c["layer_norm_eps"])
        a = p + "attn."
        if what == "mamba":
            mixed, ungated = parts.mamba1(w, a, past, u, keep_ungated=True)
            if i == half:
                memory = ungated
        elif what == "memory":
            mixed = w[a + "out_proj.weight"] @ (parts.silu(w[a + "in_proj.weight"] @ u) * memory)
        else:
            cache = half + 1 if what == "cross" else i
            mixed = differential(c, w, a, past, u, i, f"kv of layer {cache}")
        x = x + mixed
        u = parts.layer_norm(x, w[p + "post_attention_layernorm.weight"], w[p + "post_attention_layernorm.bias"],
                             c["layer_norm_eps"])
        gate, value = np.split(w[p + "mlp.fc1.weight"] @ u, 2)
        x = x + w[p + "mlp.fc2.weight"] @ (value * parts.silu(gate))
    x = parts.layer_norm(x, w["model.final_layernorm.weight"], w["model.final_layernorm.bias"], c["layer_norm_eps"])
    return w["model.embed_tokens.weight"] @ x
