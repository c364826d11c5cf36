"""Qwen3-Next: three layers of the gated delta rule, one of gated attention; norms store w - 1 but for the gated one; the
projections of the linear layers are interleaved by key head; experts beside a gated shared one."""
import math

import numpy as np

from . import parts

CONFIGS = {"qwen3_next": {
    "architectures": ["Qwen3NextForCausalLM"], "model_type": "qwen3_next", "vocab_size": 51, "hidden_size": 24,
    "num_hidden_layers": 4, "full_attention_interval": 4, "num_attention_heads": 3, "num_key_value_heads": 1,
    "head_dim": 16, "partial_rotary_factor": 0.25, "rope_theta": 10000.0, "rms_norm_eps": 1e-6,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 6, "linear_value_head_dim": 10,
    "linear_conv_kernel_dim": 4, "num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 12,
    "shared_expert_intermediate_size": 14, "norm_topk_prob": True, "tie_word_embeddings": False}}


def sizes(c):
    return (c["linear_num_key_heads"], c["linear_num_value_heads"], c["linear_key_head_dim"],
            c["linear_value_head_dim"])


def attends(c, i):
    return (i + 1) % c["full_attention_interval"] == 0


def shapes(c):
    d = c["hidden_size"]
    hk, hv, dk, dv = sizes(c)
    out = {"model.embed_tokens.weight": (c["vocab_size"], d), "model.norm.weight": (d,),
           "lm_head.weight": (c["vocab_size"], d)}
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        out |= {p + "input_layernorm.weight": (d,), p + "post_attention_layernorm.weight": (d,),
                p + "mlp.gate.weight": (c["num_experts"], d), p + "mlp.shared_expert_gate.weight": (1, d)}
        out |= parts.swiglu_shapes(p + "mlp.shared_expert.", d, c["shared_expert_intermediate_size"])
        for e in range(c["num_experts"]):
            out |= parts.swiglu_shapes(f"{p}mlp.experts.{e}.", d, c["moe_intermediate_size"])
        if attends(c, i):
            a, head = p + "self_attn.", c["head_dim"]
            out |= parts.attention_shapes(a, d, c["num_attention_heads"], c["num_key_value_heads"], head)
            out |= {a + "q_proj.weight": (2 * c["num_attention_heads"] * head, d), a + "q_norm.weight": (head,),
                    a + "k_norm.weight": (head,)}
        else:
            a = p + "linear_attn."
            out |= {a + "in_proj_qkvz.weight": (2 * hk * dk + 2 * hv * dv, d), a + "in_proj_ba.weight": (2 * hv, d),
                    a + "conv1d.weight": (2 * hk * dk + hv * dv, 1, c["linear_conv_kernel_dim"]),
                    a + "dt_bias": (hv,), a + "A_log": (hv,), a + "norm.weight": (dv,),
                    a + "out_proj.weight": (d, hv * dv)}
    return out


def delta(c, w, p, past, u):
    hk, hv, dk, dv = sizes(c)
    each = hv // hk
    rows = (w[p + "in_proj_qkvz.weight"] @ u).reshape(hk, 2 * dk + 2 * each * dv)
    q, k, v, z = (np.concatenate(list(part)) for part in np.split(rows, np.cumsum([dk, dk, each * dv]), axis=1))
    ba = (w[p + "in_proj_ba.weight"] @ u).reshape(hk, 2, each)
    beta, a = parts.sigmoid(ba[:, 0].ravel()), ba[:, 1].ravel()
    mixed = parts.convolution(w, p + "conv1d.", past, np.concatenate([q, k, v]))
    q, k, v = np.split(mixed, [hk * dk, 2 * hk * dk])
    unit = lambda x: x / math.sqrt(float(x @ x) + 1e-6)
    state = past.get(p + "S", np.zeros((hv, dk, dv)))
    out = []
    for h in range(hv):
        qh, kh = (unit(x.reshape(hk, dk)[h // each]) for x in (q, k))
        vh, zh = v.reshape(hv, dv)[h], z.reshape(hv, dv)[h]
        decay = math.exp(-math.exp(w[p + "A_log"][h]) * float(parts.softplus(a[h] + w[p + "dt_bias"][h])))
        state[h] *= decay
        state[h] += np.outer(kh, beta[h] * (vh - state[h].T @ kh))
        o = state[h].T @ (qh * dk ** -0.5)
        out.append(parts.rms(o, w[p + "norm.weight"], c["rms_norm_eps"]) * parts.silu(zh))
    past[p + "S"] = state
    return w[p + "out_proj.weight"] @ np.concatenate(out)


def attention(c, w, p, past, u):
    heads, head = c["num_attention_heads"], c["head_dim"]
    both = (w[p + "q_proj.weight"] @ u).reshape(heads, 2, head)
    tokens = past.setdefault(p, [])
    width = int(head * c["partial_rotary_factor"])

    def prepared(rows, norm):
        return [parts.rotate(parts.rms(x, 1.0 + w[p + norm], c["rms_norm_eps"]), len(tokens), width, c["rope_theta"])
                for x in rows]

    q = prepared(both[:, 0], "q_norm.weight")
    k = prepared(parts.heads_of(w[p + "k_proj.weight"] @ u, c["num_key_value_heads"]), "k_norm.weight")
    tokens.append((k, parts.heads_of(w[p + "v_proj.weight"] @ u, c["num_key_value_heads"])))
    mixed = parts.attend(q, [t[0] for t in tokens], [t[1] for t in tokens], head ** -0.5)
    gated = [o * parts.sigmoid(gate) for o, gate in zip(mixed, both[:, 1])]
    return w[p + "o_proj.weight"] @ np.concatenate(gated)


def experts(c, w, p, u):
    scores = parts.softmax(w[p + "gate.weight"] @ u)
    chosen = np.argsort(-scores)[:c["num_experts_per_tok"]]
    weights = scores[chosen] / np.sum(scores[chosen])
    out = sum(weight * parts.swiglu(w, f"{p}experts.{e}.", u) for weight, e in zip(weights, chosen))
    gate = parts.sigmoid(float((w[p + "shared_expert_gate.weight"] @ u)[0]))
    return out + gate * parts.swiglu(w, p + "shared_expert.", u)


def step(c, w, past, token):
    norm = lambda x, name: parts.rms(x, 1.0 + w[name], c["rms_norm_eps"])
    x = w["model.embed_tokens.weight"][token]
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        u = norm(x, p + "input_layernorm.weight")
        x = x + (attention(c, w, p + "self_attn.", past, u) if attends(c, i) else
                 delta(c, w, p + "linear_attn.", past, u))
        x = x + experts(c, w, p + "mlp.", norm(x, p + "post_attention_layernorm.weight"))
    return w["lm_head.weight"] @ norm(x, "model.norm.weight")
