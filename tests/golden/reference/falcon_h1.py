"""Falcon-H1: attention and Mamba-2 on the same input, a multiplier on every part."""
from . import parts

COMMON = {"architectures": ["FalconH1ForCausalLM"], "model_type": "falcon_h1", "vocab_size": 59, "hidden_size": 32,
          "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
          "head_dim": 12, "rms_norm_eps": 1e-5, "rope_theta": 100000000000.0, "mamba_d_ssm": 48, "mamba_n_heads": 6,
          "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 16, "mamba_d_conv": 4, "mamba_conv_bias": True,
          "mamba_proj_bias": False, "attention_bias": False, "mlp_bias": False, "projectors_bias": False,
          "embedding_multiplier": 2.5, "lm_head_multiplier": 0.4, "key_multiplier": 0.6,
          "attention_in_multiplier": 1.3, "attention_out_multiplier": 0.8, "ssm_in_multiplier": 1.4,
          "ssm_out_multiplier": 0.7, "ssm_multipliers": [0.9, 1.2, 0.5, 1.6, 0.8], "mlp_multipliers": [1.5, 0.6],
          "tie_word_embeddings": False}
CONFIGS = {
    "falcon_h1": COMMON | {"mamba_rms_norm": False, "mamba_norm_before_gate": False},
    "falcon_h1_norm": COMMON | {"mamba_rms_norm": True, "mamba_norm_before_gate": False, "mamba_n_groups": 2},
}


def shapes(c):
    d = c["hidden_size"]
    out = {"model.embed_tokens.weight": (c["vocab_size"], d), "model.final_layernorm.weight": (d,),
           "lm_head.weight": (c["vocab_size"], d)}
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        out |= {p + "input_layernorm.weight": (d,), p + "pre_ff_layernorm.weight": (d,)}
        out |= parts.swiglu_shapes(p + "feed_forward.", d, c["intermediate_size"])
        out |= parts.attention_shapes(p + "self_attn.", d, c["num_attention_heads"], c["num_key_value_heads"],
                                      c["head_dim"])
        out |= parts.mamba2_shapes(p + "mamba.", d, c["mamba_n_heads"], c["mamba_d_head"], c["mamba_d_state"],
                                   c["mamba_n_groups"], norm=c["mamba_rms_norm"])
    return out


def step(c, w, past, token):
    x = c["embedding_multiplier"] * w["model.embed_tokens.weight"][token]
    norm = "none" if not c["mamba_rms_norm"] else "norm_first" if c["mamba_norm_before_gate"] else "gate_first"
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        u = parts.rms(x, w[p + "input_layernorm.weight"], c["rms_norm_eps"])
        ssm = parts.mamba2(w, p + "mamba.", past, c["ssm_in_multiplier"] * u, c["mamba_n_heads"], c["mamba_d_head"],
                           c["mamba_d_state"], c["mamba_n_groups"], c["rms_norm_eps"], norm, c["ssm_multipliers"])
        attention = parts.attention(w, p + "self_attn.", past, c["attention_in_multiplier"] * u,
                                    c["num_attention_heads"], c["num_key_value_heads"], rotary=c["head_dim"],
                                    theta=c["rope_theta"], key_factor=c["key_multiplier"])
        x = x + c["ssm_out_multiplier"] * ssm + c["attention_out_multiplier"] * attention
        u = parts.rms(x, w[p + "pre_ff_layernorm.weight"], c["rms_norm_eps"])
        x = x + parts.swiglu(w, p + "feed_forward.", u, factors=c["mlp_multipliers"])
    return c["lm_head_multiplier"] * (w["lm_head.weight"] @ parts.rms(x, w["model.final_layernorm.weight"],
                                                                     c["rms_norm_eps"]))
