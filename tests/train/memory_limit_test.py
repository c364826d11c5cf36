#!/usr/bin/env python3
"""krait train under a limit of memory that is a quarter of the run's state (parameters, gradients, moments): the limit
holds, what was used is within a tenth of what was predicted before the run, and losses are those of the run in memory,
to the last bit. A limit that cannot be held is refused. A run that is killed goes on from its checkpoint, and what it
exports is the same file.

usage: memory_limit_test.py KRAIT_BINARY
"""
import filecmp
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

CONFIG = """
[task]
name = "parity"
length = 64
[data]
batch = 2
[model]
mixers = ["mamba2"]
width = {width}
layers = {layers}
head_width = 64
[train]
steps = {steps}
rate = 1e-3
warm_up = 2
average = {average}
[evaluate]
batches = 1
{more}
[output]
folder = "{folder}"
"""
MIB = 1 << 20


def run_config(root, folder, more="", width=768, layers=19, steps=3, average=0):
    path = os.path.join(root, folder + ".toml")
    with open(path, "w", encoding="utf-8") as file:
        file.write(CONFIG.format(folder=folder, more=more, width=width, layers=layers, steps=steps, average=average))
    return path


def train(binary, config, *arguments, status=0):
    process = subprocess.run([binary, "train", config, "--json", "--threads", "2", *arguments], capture_output=True,
                             text=True, timeout=600, check=False)
    assert process.returncode == status, (process.returncode, process.stderr)
    return json.loads(process.stdout) if status == 0 else process.stderr


def losses(root, folder):
    with open(os.path.join(root, folder, "log.jsonl"), encoding="utf-8") as file:
        entries = [json.loads(line) for line in file]
    return [(entry["step"], entry["loss"], entry["gradient_norm"]) for entry in entries if "loss" in entry]


def holds_a_quarter(binary, root):
    plain = train(binary, run_config(root, "plain"))
    state = 16 * plain["parameters"]
    limit = state // 4
    more = f'[memory]\nlimit = "{limit}"\n'
    config = run_config(root, "held", more)
    planned = train(binary, config, "--plan")
    held = train(binary, config)
    memory = held["memory"]
    peak, predicted = memory["peak"], memory["predicted"]
    print(f"state {state / MIB:.0f} MiB, limit {limit / MIB:.0f}, predicted {predicted / MIB:.0f}, "
          f"planned {planned['predicted'] / MIB:.0f}, peak {peak / MIB:.0f}: {memory}")
    assert memory["state"] == state, memory
    assert peak <= limit, f"{peak} of {limit}"
    assert abs(peak - predicted) <= 0.1 * predicted, f"peak {peak}, predicted {predicted}"
    assert abs(planned["predicted"] - predicted) <= 0.05 * predicted, (planned, memory)
    assert losses(root, "held") == losses(root, "plain"), "other losses"
    assert held["evaluation"] == plain["evaluation"], (held, plain)
    for file in ("config.json", "model.safetensors"):
        assert filecmp.cmp(os.path.join(root, "plain", "model", file), os.path.join(root, "held", "model", file),
                           shallow=False), f"{file} is another"
    assert not [name for name in os.listdir(os.path.join(root, "held")) if "offload" in name], "the file stays"
    shutil.rmtree(os.path.join(root, "plain"))
    print("ok a quarter of the state")


# Smaller ones: each part offloaded, and none of it without a limit.
def predicts_what_is_used(binary, root):
    plain = train(binary, run_config(root, "small", width=512, layers=8, average=0.9))
    for what in (["optimiser"], ["optimiser", "activations"], ["optimiser", "activations", "parameters"]):
        folder = "small_" + what[-1]
        done = train(binary, run_config(root, folder, f"[memory]\noffload = {what}\n", width=512, layers=8,
                                        average=0.9))
        peak, predicted = done["memory"]["peak"], done["memory"]["predicted"]
        print(f"{what[-1]}: predicted {predicted / MIB:.0f} MiB, peak {peak / MIB:.0f}: {done['memory']}")
        assert abs(peak - predicted) <= 0.1 * predicted, f"peak {peak}, predicted {predicted}"
        assert losses(root, folder) == losses(root, "small"), "other losses"
        assert done["evaluation"] == plain["evaluation"], (done, plain)
    print("ok predictions")


def refuses(binary, root):
    error = train(binary, run_config(root, "refused", '[memory]\nlimit = "50MiB"\n', width=256, layers=4), status=1)
    assert "50.0 MiB" in error and "cannot be held" in error and "would do" in error, error
    assert not os.path.exists(os.path.join(root, "refused", "log.jsonl"))
    print("ok refused:", error.strip())


# A run that is killed goes on in a file, is killed again, and goes on in memory.
def goes_on(binary, root):
    options = {"width": 128, "layers": 3, "average": 0.9, "steps": 60}
    in_file, in_memory = "[memory]\n[checkpoint]\nevery = 2\n", "[checkpoint]\nevery = 2\n"
    train(binary, run_config(root, "whole", in_memory, **options))
    begun = -1
    for arguments in ((), ("--resume",)):
        config = run_config(root, "parts", in_file, **options)
        process = subprocess.Popen([binary, "train", config, "-q", *arguments])
        folder = os.path.join(root, "parts", "checkpoints")
        deadline = time.monotonic() + 120
        while newest(folder) <= begun:
            assert process.poll() is None and time.monotonic() < deadline, "no checkpoint within two minutes"
            time.sleep(0.01)
        process.kill()
        process.wait()
        begun = newest(folder)
    assert begun < 60, "it came to its end before it was killed"
    train(binary, run_config(root, "parts", in_memory, **options), "--resume")
    assert losses(root, "parts") == losses(root, "whole"), "other losses"
    assert filecmp.cmp(os.path.join(root, "parts", "model", "model.safetensors"),
                       os.path.join(root, "whole", "model", "model.safetensors"), shallow=False), "another model"
    print(f"ok goes on (killed after step {begun})")


def newest(folder):
    """The step of the checkpoint committed last."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return max((int(name[:-5].rsplit("-", 1)[1]) for name in names if name.endswith(".json")), default=-1)


def main(binary):
    root = tempfile.mkdtemp(prefix="krait_memory_", dir=os.environ.get("KRAIT_TEST_FOLDER"))
    try:
        refuses(binary, root)
        goes_on(binary, root)
        predicts_what_is_used(binary, root)
        holds_a_quarter(binary, root)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
