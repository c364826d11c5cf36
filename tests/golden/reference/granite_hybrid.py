"""Granite 4 hybrids: multipliers on the embedding, on every addition to the residual and on the scores; logits divided;
experts by a softmax over the chosen ones, beside an MLP that all tokens pass."""
import numpy as np

from . import parts

COMMON = {"architectures": ["GraniteMoeHybridForCausalLM"], "model_type": "granitemoehybrid", "vocab_size": 61,
          "hidden_size": 32, "num_hidden_layers": 4, "layer_types": ["mamba", "attention", "mamba", "attention"],
          "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
          "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 16, "mamba_n_groups": 1, "mamba_d_conv": 4,
          "mamba_expand": 2, "mamba_conv_bias": True, "mamba_proj_bias": False, "embedding_multiplier": 3.5,
          "residual_multiplier": 0.7, "attention_multiplier": 0.21, "logits_scaling": 2.5,
          "shared_intermediate_size": 40, "tie_word_embeddings": True, "attention_bias": False}
CONFIGS = {
    "granite_hybrid": COMMON | {"position_embedding_type": "nope", "num_local_experts": 5, "num_experts_per_tok": 2,
                                "intermediate_size": 24},
    "granite_hybrid_rope": COMMON | {"position_embedding_type": "rope", "num_local_experts": 0,
                                     "num_experts_per_tok": 0, "intermediate_size": 24},
}


def shapes(c):
    d = c["hidden_size"]
    out = {"model.embed_tokens.weight": (c["vocab_size"], d), "model.norm.weight": (d,)}
    for i, kind in enumerate(c["layer_types"]):
        p = f"model.layers.{i}."
        out |= {p + "input_layernorm.weight": (d,), p + "post_attention_layernorm.weight": (d,),
                p + "shared_mlp.input_linear.weight": (2 * c["shared_intermediate_size"], d),
                p + "shared_mlp.output_linear.weight": (d, c["shared_intermediate_size"])}
        if kind == "attention":
            out |= parts.attention_shapes(p + "self_attn.", d, c["num_attention_heads"], c["num_key_value_heads"],
                                          d // c["num_attention_heads"])
        else:
            out |= parts.mamba2_shapes(p + "mamba.", d, c["mamba_n_heads"], c["mamba_d_head"], c["mamba_d_state"],
                                       c["mamba_n_groups"])
        if c["num_local_experts"]:
            experts, hidden = c["num_local_experts"], c["intermediate_size"]
            out |= {p + "block_sparse_moe.router.layer.weight": (experts, d),
                    p + "block_sparse_moe.input_linear.weight": (experts, 2 * hidden, d),
                    p + "block_sparse_moe.output_linear.weight": (experts, d, hidden)}
    return out


def fused(inside, outside, u):
    gate, up = np.split(inside @ u, 2)
    return outside @ (parts.silu(gate) * up)


def experts(c, w, p, u):
    logits = w[p + "router.layer.weight"] @ u
    chosen = np.argsort(-logits)[:c["num_experts_per_tok"]]
    weights = parts.softmax(logits[chosen])
    return sum(weight * fused(w[p + "input_linear.weight"][e], w[p + "output_linear.weight"][e], u)
               for weight, e in zip(weights, chosen))


def step(c, w, past, token):
    x = c["embedding_multiplier"] * w["model.embed_tokens.weight"][token]
    head_dim = c["hidden_size"] // c["num_attention_heads"]
    rotary = head_dim if c["position_embedding_type"] == "rope" else 0
    for i, kind in enumerate(c["layer_types"]):
        p = f"model.layers.{i}."
        u = parts.rms(x, w[p + "input_layernorm.weight"], c["rms_norm_eps"])
        if kind == "attention":
            mixed = parts.attention(w, p + "self_attn.", past, u, c["num_attention_heads"], c["num_key_value_heads"],
                                    scale=c["attention_multiplier"], rotary=rotary, theta=c["rope_theta"])
        else:
            mixed = parts.mamba2(w, p + "mamba.", past, u, c["mamba_n_heads"], c["mamba_d_head"], c["mamba_d_state"],
                                 c["mamba_n_groups"], c["rms_norm_eps"])
        x = x + c["residual_multiplier"] * mixed
        u = parts.rms(x, w[p + "post_attention_layernorm.weight"], c["rms_norm_eps"])
        mixed = fused(w[p + "shared_mlp.input_linear.weight"], w[p + "shared_mlp.output_linear.weight"], u)
        if c["num_local_experts"]:
            mixed = mixed + experts(c, w, p + "block_sparse_moe.", u)
        x = x + c["residual_multiplier"] * mixed
    return w["model.embed_tokens.weight"] @ parts.rms(x, w["model.norm.weight"], c["rms_norm_eps"]) / c["logits_scaling"]
