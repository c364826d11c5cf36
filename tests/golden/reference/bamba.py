"""Bamba: x += mixer(norm(x)), x += mlp(norm(x)); attention turns half of each head."""
from . import parts

CONFIGS = {"bamba": {
    "architectures": ["BambaForCausalLM"], "model_type": "bamba", "vocab_size": 67, "hidden_size": 32,
    "intermediate_size": 48, "num_hidden_layers": 4, "attn_layer_indices": [1, 3], "num_attention_heads": 4,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "partial_rotary_factor": 0.5,
    "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 16, "mamba_n_groups": 2, "mamba_d_conv": 4,
    "mamba_expand": 2, "mamba_conv_bias": True, "mamba_proj_bias": False, "tie_word_embeddings": False}}


def shapes(c):
    d = c["hidden_size"]
    out = {"model.embed_tokens.weight": (c["vocab_size"], d), "model.final_layernorm.weight": (d,),
           "lm_head.weight": (c["vocab_size"], d)}
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        out |= {p + "input_layernorm.weight": (d,), p + "pre_ff_layernorm.weight": (d,)}
        out |= parts.swiglu_shapes(p + "feed_forward.", d, c["intermediate_size"])
        if i in c["attn_layer_indices"]:
            out |= parts.attention_shapes(p + "self_attn.", d, c["num_attention_heads"], c["num_key_value_heads"],
                                          d // c["num_attention_heads"])
        else:
            out |= parts.mamba2_shapes(p + "mamba.", d, c["mamba_n_heads"], c["mamba_d_head"], c["mamba_d_state"],
                                       c["mamba_n_groups"])
    return out


def step(c, w, past, token):
    x = w["model.embed_tokens.weight"][token]
    head_dim = c["hidden_size"] // c["num_attention_heads"]
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        u = parts.rms(x, w[p + "input_layernorm.weight"], c["rms_norm_eps"])
        if i in c["attn_layer_indices"]:
            x = x + parts.attention(w, p + "self_attn.", past, u, c["num_attention_heads"], c["num_key_value_heads"],
                                    rotary=int(head_dim * c["partial_rotary_factor"]), theta=c["rope_theta"])
        else:
            x = x + parts.mamba2(w, p + "mamba.", past, u, c["mamba_n_heads"], c["mamba_d_head"], c["mamba_d_state"],
                                 c["mamba_n_groups"], c["rms_norm_eps"])
        x = x + parts.swiglu(w, p + "feed_forward.", parts.rms(x, w[p + "pre_ff_layernorm.weight"], c["rms_norm_eps"]))
    return w["lm_head.weight"] @ parts.rms(x, w["model.final_layernorm.weight"], c["rms_norm_eps"])
