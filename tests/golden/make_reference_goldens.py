#!/usr/bin/env python3
"""Draws tiny checkpoints of the architectures in tests/golden/reference/ and writes their logits beside them.

    tests/golden/make_reference_goldens.py OUT_FOLDER [NAME …]

Weights are random with a fixed seed, stored as f32; logits are computed from the stored values in float64. Every tensor
must matter: one that changes no logit by a thousandth of the largest when it is perturbed is reported. Where a model
decides by comparing numbers, weights are drawn again until no decision was closer than its MARGIN.
"""
import importlib
import json
import math
import struct
import sys
import zlib
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
MODULES = ("bamba", "granite_hybrid", "falcon_h1", "zamba2", "phi4flash", "samba", "lfm2", "qwen3_next", "hax",
           "hybrid_qwen3")


def draw(name, shape, random, from_one, gain):
    if name.endswith("A_log"):
        return np.log(random.uniform(0.5, 8.0, shape))
    if name.endswith("dt_bias") or name.endswith("dt_proj.bias"):
        return random.uniform(-3.0, 0.0, shape)
    if "norm" in name or "ln" in name.split(".")[-2] or name.endswith((".D", ".E")):
        if name.endswith("bias"):
            return random.normal(0.0, 0.3, shape)
        centre = 0.0 if from_one and "linear_attn.norm" not in name else 1.0
        return centre + random.normal(0.0, 0.2, shape)
    if "conv" in name and "proj" not in name:
        return random.normal(0.0, 0.5, shape)
    if "lambda" in name:
        return random.normal(0.0, 0.4, shape)
    if len(shape) == 1:
        return random.normal(0.0, 0.3, shape)
    if "embed" in name or "wte" in name:
        return random.normal(0.0, 0.5, shape)
    return random.normal(0.0, gain / np.sqrt(shape[-1]), shape)


def change(tensor, values):
    return values * 1.1 + 0.05


def logits(module, config, weights, ids):
    past = {}
    return np.array([module.step(config, weights, past, token) for token in ids])


def write_safetensors(path, tensors):
    header, at = {}, 0
    for name, values in sorted(tensors.items()):
        size = 4 * values.size
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, values in sorted(tensors.items()):
            file.write(values.astype("<f4").tobytes())


def make(folder, name, module, config):
    for attempt in range(100):
        module.closest = math.inf
        random = np.random.default_rng(zlib.crc32(name.encode()) + attempt)
        stored, weights, sequences, answers, greedy = draw_model(name, module, config, random)
        if module.closest > getattr(module, "MARGIN", 0.0):
            break
    else:
        sys.exit(f"{name}: every drawing came too close to a decision")
    write(folder / name, name, module, config, stored, weights, sequences, answers, greedy)


def draw_model(name, module, config, random):
    from_one = name.startswith("qwen")
    # Scores and gates should not be flat: a little more than what keeps the size of activations. A model may say less,
    # where float32 loops would not stay within 1e-5 of float64 otherwise.
    gain = getattr(module, "GAIN", 1.4)
    stored = {tensor: draw(tensor, shape, random, from_one, gain).astype(np.float32)
              for tensor, shape in sorted(module.shapes(config).items())}
    weights = {tensor: values.astype(np.float64) for tensor, values in stored.items()}
    vocabulary = config.get("vocab_size") or config["padded_vocab_size"]
    sequences = [random.integers(0, vocabulary, count).tolist() for count in (7, 1, 24)]
    answers = [logits(module, config, weights, ids) for ids in sequences]
    greedy, ids = [], list(sequences[0])
    while len(greedy) < 12:
        greedy.append(int(np.argmax(logits(module, config, weights, ids)[-1])))
        ids.append(greedy[-1])
    return stored, weights, sequences, answers, greedy


def write(target, name, module, config, stored, weights, sequences, answers, greedy):
    scale = np.max(np.abs(answers[2]))
    for tensor in weights:
        changed = dict(weights)
        changed[tensor] = getattr(module, "change", change)(tensor, weights[tensor])
        effect = np.max(np.abs(logits(module, config, changed, sequences[2]) - answers[2])) / scale
        if effect < 1e-3:
            print(f"warning: {name}: {tensor} hardly matters ({effect:.1e})")
    target.mkdir(parents=True, exist_ok=True)
    write_safetensors(target / "model.safetensors", stored)
    (target / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    rounded = [[[float(f"{v:.9g}") for v in row] for row in answer] for answer in answers]
    (target / "logits.json").write_text(json.dumps({"sequences": sequences, "logits": rounded,
                                                    "greedy_from_first": greedy}, separators=(",", ":")))
    print(f"{name}: {sum(v.size for v in stored.values())} parameters, largest logit {scale:.2f}")


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for part in MODULES:
        module = importlib.import_module(f"reference.{part}")
        for name, config in module.CONFIGS.items():
            if len(sys.argv) == 2 or name in sys.argv[2:]:
                make(Path(sys.argv[1]), name, module, config)


main()
