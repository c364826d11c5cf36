#!/usr/bin/env python3
"""A checkpoint with the published shapes of Falcon-H1-7B, in int4 and cut into shards, loads by mmap without a second copy
and decodes. Its files are holes: all weights are zero, and they take no room on the disk.

usage: large_model_test.py KRAIT
"""
import json
import resource
import struct
import subprocess
import sys
import tempfile

CONFIG = {"model_type": "falcon_h1", "vocab_size": 130048, "hidden_size": 3072, "intermediate_size": 12288,
          "num_hidden_layers": 44, "num_attention_heads": 12, "num_key_value_heads": 2, "head_dim": 128,
          "rms_norm_eps": 1e-5, "rope_theta": 1e11, "mamba_d_ssm": 3072, "mamba_n_heads": 24, "mamba_d_head": 128,
          "mamba_n_groups": 1, "mamba_d_state": 256, "mamba_d_conv": 4, "mamba_rms_norm": True,
          "mamba_norm_before_gate": False, "tie_word_embeddings": False, "torch_dtype": "bfloat16"}
SHARDS = 4


def run(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr}")
    return done.stdout


def is_matrix(tensor):
    return len(tensor["shape"]) == 2 and "conv1d" not in tensor["name"]


def write_shard(path, tensors):
    header, at = {}, 0
    for name, dtype, shape, size in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + at)


def main():
    krait = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/config.json", "w") as file:
            json.dump(CONFIG, file)
        about = json.loads(run(krait, "inspect", folder, "--json"))
        assert not about["weights_present"] and 7.0e9 < about["parameters"] < 8.0e9, about["parameters"]

        shards = [[] for _ in range(SHARDS)]
        for i, tensor in enumerate(about["tensors"]):
            name, shape = tensor["name"], tensor["shape"]
            shard = shards[i * SHARDS // len(about["tensors"])]
            count = 1
            for length in shape:
                count *= length
            if is_matrix(tensor):
                rows, columns = shape
                shard.append((name, "U8", [rows, columns // 2], count // 2))
                shard.append((name + ".scale", "F16", [rows, columns // 32], count // 32 * 2))
            else:
                shard.append((name, "F32", shape, 4 * count))
        index = {}
        for i, tensors in enumerate(shards):
            file_name = f"model-{i + 1:05}-of-{SHARDS:05}.safetensors"
            write_shard(f"{folder}/{file_name}", tensors)
            index |= {name: file_name for name, *_ in tensors}
        with open(f"{folder}/model.safetensors.index.json", "w") as file:
            json.dump({"weight_map": index}, file)
        with open(f"{folder}/config.json", "w") as file:
            json.dump(CONFIG | {"quantization_config": {"quant_method": "krait", "weights": "int4"}}, file)

        weights = json.loads(run(krait, "inspect", folder, "--json"))["memory"]["as stored"]
        # Two tokens read, one after the other.
        answer = json.loads(run(krait, "logits", "-m", folder, "--ids", "1,2", "--chunk", 1, "--json"))
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        print(f"weights {weights / 2**30:.2f} GiB, peak {peak / 2**30:.2f} GiB")
        assert 3.5e9 < weights < 5.5e9, weights
        assert peak < weights + 1e9, (peak, weights)
        assert answer["shape"] == [2, CONFIG["vocab_size"]], answer["shape"]


main()
