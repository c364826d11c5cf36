"""LFM2: gated short convolutions, y = C conv(B x); attention with norms on queries and keys."""
import numpy as np

from . import parts

CONFIGS = {"lfm2": {
    "architectures": ["Lfm2ForCausalLM"], "model_type": "lfm2", "vocab_size": 55, "hidden_size": 32,
    "num_hidden_layers": 4, "layer_types": ["conv", "full_attention", "conv", "full_attention"],
    "num_attention_heads": 4, "num_key_value_heads": 2, "norm_eps": 1e-5, "rope_theta": 1000000.0, "conv_L_cache": 3,
    "conv_bias": False, "intermediate_size": 60, "block_auto_adjust_ff_dim": True, "block_ffn_dim_multiplier": 1.1,
    "block_multiple_of": 16, "tie_word_embeddings": True}}


def hidden(c):
    adjusted = int(c["block_ffn_dim_multiplier"] * int(2 * c["intermediate_size"] / 3))
    return -(-adjusted // c["block_multiple_of"]) * c["block_multiple_of"]


def shapes(c):
    d = c["hidden_size"]
    head = d // c["num_attention_heads"]
    out = {"model.embed_tokens.weight": (c["vocab_size"], d), "model.embedding_norm.weight": (d,)}
    for i, kind in enumerate(c["layer_types"]):
        p = f"model.layers.{i}."
        out |= {p + "operator_norm.weight": (d,), p + "ffn_norm.weight": (d,)}
        out |= parts.swiglu_shapes(p + "feed_forward.", d, hidden(c), "w1", "w3", "w2")
        if kind == "conv":
            out |= {p + "conv.in_proj.weight": (3 * d, d), p + "conv.conv.weight": (d, 1, c["conv_L_cache"]),
                    p + "conv.out_proj.weight": (d, d)}
        else:
            out |= parts.attention_shapes(p + "self_attn.", d, c["num_attention_heads"], c["num_key_value_heads"], head,
                                          output="out_proj")
            out |= {p + "self_attn.q_layernorm.weight": (head,), p + "self_attn.k_layernorm.weight": (head,)}
    return out


def attention(c, w, p, past, u):
    head = c["hidden_size"] // c["num_attention_heads"]
    tokens = past.setdefault(p, [])

    def heads(part, count):
        norm = w[f"{p}{part}_layernorm.weight"]
        return [parts.rotate(parts.rms(x, norm, c["norm_eps"]), len(tokens), head, c["rope_theta"])
                for x in parts.heads_of(w[f"{p}{part}_proj.weight"] @ u, count)]

    q, k = heads("q", c["num_attention_heads"]), heads("k", c["num_key_value_heads"])
    tokens.append((k, parts.heads_of(w[p + "v_proj.weight"] @ u, c["num_key_value_heads"])))
    mixed = parts.attend(q, [t[0] for t in tokens], [t[1] for t in tokens], head ** -0.5)
    return w[p + "out_proj.weight"] @ np.concatenate(mixed)


def short_convolution(w, p, past, u):
    b, c, x = np.split(w[p + "in_proj.weight"] @ u, 3)
    return w[p + "out_proj.weight"] @ (c * parts.convolution(w, p + "conv.", past, b * x, activation=False))


def step(c, w, past, token):
    x = w["model.embed_tokens.weight"][token]
    for i, kind in enumerate(c["layer_types"]):
        p = f"model.layers.{i}."
        u = parts.rms(x, w[p + "operator_norm.weight"], c["norm_eps"])
        if kind == "conv":
            x = x + short_convolution(w, p + "conv.", past, u)
        else:
            x = x + attention(c, w, p + "self_attn.", past, u)
        x = x + parts.swiglu(w, p + "feed_forward.", parts.rms(x, w[p + "ffn_norm.weight"], c["norm_eps"]), "w1", "w3",
                             "w2")
    return w["model.embed_tokens.weight"] @ parts.rms(x, w["model.embedding_norm.weight"], c["norm_eps"])
