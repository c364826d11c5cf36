"""Zamba2: Mamba-2 layers; before some of them a shared transformer block reads [x; embedding], and its result, projected,
is added to the layer's input before the norm, but not to the residual."""
import numpy as np

from . import parts

COMMON = {"architectures": ["Zamba2ForCausalLM"], "model_type": "zamba2", "vocab_size": 53, "hidden_size": 24,
          "intermediate_size": 40, "num_hidden_layers": 6,
          "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid", "hybrid", "mamba"], "hybrid_layer_ids": [1, 3, 4],
          "num_attention_heads": 4, "num_key_value_heads": 4, "attention_head_dim": 12, "hidden_act": "gelu",
          "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "n_mamba_heads": 6, "mamba_headdim": 8, "mamba_d_state": 8,
          "mamba_d_conv": 4, "mamba_expand": 2, "adapter_rank": 5, "add_bias_linear": False, "use_conv_bias": True,
          "tie_word_embeddings": True}
CONFIGS = {
    "zamba2": COMMON | {"num_mem_blocks": 2, "use_mem_rope": True, "use_shared_attention_adapter": False,
                        "mamba_ngroups": 1},
    "zamba2_adapters": COMMON | {"num_mem_blocks": 1, "use_mem_rope": False, "use_shared_attention_adapter": True,
                                 "mamba_ngroups": 2},
}


GAIN = 0.9  # what one use of a block rounds, all later uses see through its sharp scores


def places(c):
    """For every hybrid layer: where its block's weights stand, and which use of all it is."""
    first = c["hybrid_layer_ids"][:c["num_mem_blocks"]]
    return {layer: (f"model.layers.{first[use % c['num_mem_blocks']]}.shared_transformer.", use)
            for use, layer in enumerate(c["hybrid_layer_ids"])}


def shapes(c):
    d = c["hidden_size"]
    out = {"model.embed_tokens.weight": (c["vocab_size"], d), "model.final_layernorm.weight": (d,)}
    where = places(c)
    queries = c["num_attention_heads"] * c["attention_head_dim"]
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        inner = p
        if i in where:
            inner = p + "mamba_decoder."
            shared, use = where[i]
            out[p + "linear.weight"] = (d, d)
            out |= {shared + "input_layernorm.weight": (2 * d,), shared + "pre_ff_layernorm.weight": (d,),
                    shared + "feed_forward.gate_up_proj.weight": (2 * c["intermediate_size"], d),
                    shared + "feed_forward.down_proj.weight": (d, c["intermediate_size"])}
            out |= parts.attention_shapes(shared + "self_attn.", d, c["num_attention_heads"],
                                          c["num_key_value_heads"], c["attention_head_dim"], inputs=2 * d)
            adapter = f"{shared}feed_forward.gate_up_proj_adapter_list.{use}."
            out |= {adapter + "0.weight": (c["adapter_rank"], d),
                    adapter + "1.weight": (2 * c["intermediate_size"], c["adapter_rank"])}
            if c["use_shared_attention_adapter"]:
                for part in "qkv":
                    adapter = f"{shared}self_attn.linear_{part}_adapter_list.{use}."
                    out |= {adapter + "0.weight": (c["adapter_rank"], 2 * d),
                            adapter + "1.weight": (queries, c["adapter_rank"])}
        out[inner + "input_layernorm.weight"] = (d,)
        out |= parts.mamba2_shapes(inner + "mamba.", d, c["n_mamba_heads"], c["mamba_headdim"], c["mamba_d_state"],
                                   c["mamba_ngroups"])
    return out


def low_rank(w, p, u):
    return w[p + "1.weight"] @ (w[p + "0.weight"] @ u)


def shared_block(c, w, past, layer, x, embedding):
    p, use = places(c)[layer]
    u = parts.rms(np.concatenate([x, embedding]), w[p + "input_layernorm.weight"], c["rms_norm_eps"])
    add = [0.0, 0.0, 0.0]
    if c["use_shared_attention_adapter"]:
        add = [low_rank(w, f"{p}self_attn.linear_{part}_adapter_list.{use}.", u) for part in "qkv"]
    # Every use has keys and values of its own.
    own = past.setdefault(f"layer {layer}", {})
    y = parts.attention(w, p + "self_attn.", own, u, c["num_attention_heads"], c["num_key_value_heads"],
                        scale=(c["attention_head_dim"] / 2) ** -0.5,
                        rotary=c["attention_head_dim"] if c["use_mem_rope"] else 0, theta=c["rope_theta"], add=add)
    u = parts.rms(y, w[p + "pre_ff_layernorm.weight"], c["rms_norm_eps"])
    both = w[p + "feed_forward.gate_up_proj.weight"] @ u
    both = both + low_rank(w, f"{p}feed_forward.gate_up_proj_adapter_list.{use}.", u)
    gate, up = np.split(both, 2)
    return w[p + "feed_forward.down_proj.weight"] @ (parts.gelu(gate) * up)


def step(c, w, past, token):
    embedding = w["model.embed_tokens.weight"][token]
    x = embedding
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        u = x
        if i in c["hybrid_layer_ids"]:
            u = x + w[p + "linear.weight"] @ shared_block(c, w, past, i, x, embedding)
            p += "mamba_decoder."
        u = parts.rms(u, w[p + "input_layernorm.weight"], c["rms_norm_eps"])
        x = x + parts.mamba2(w, p + "mamba.", past, u, c["n_mamba_heads"], c["mamba_headdim"], c["mamba_d_state"],
                             c["mamba_ngroups"], 1e-5)
    return w["model.embed_tokens.weight"] @ parts.rms(x, w["model.final_layernorm.weight"], c["rms_norm_eps"])
