#!/usr/bin/env python3
"""krait train, killed with SIGKILL at random moments and told to go on: whenever a checkpoint had been committed the run
continues from it, and in the end its log is, to the last bit of every loss, that of a run which nobody stopped. Also: a
folder that cannot be written, a configuration that is wrong, and Ctrl-C.

usage: resume_test.py KRAIT_BINARY [KILLS]
"""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

CONFIG = """
[task]
name = "parity"
length = 32
[data]
batch = 8
[model]
mixers = ["mamba2", "attention"]
width = 32
layers = 2
states = 16
head_width = 16
[train]
steps = {steps}
rate = 3e-3
warm_up = 10
average = 0.9
[evaluate]
every = 50
batches = 2
[checkpoint]
every = 5
keep = 2
[output]
folder = "{folder}"
"""


class Run:
    def __init__(self, binary, root, name, steps, config=CONFIG, **values):
        self.binary, self.folder = binary, os.path.join(root, name)
        self.config = os.path.join(root, name + ".toml")
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(config.format(folder=name, steps=steps, **values))

    def start(self, *arguments, before=(), env=None):
        return subprocess.Popen([*before, self.binary, "train", self.config, "--json", *arguments],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)

    def finish(self, *arguments, **how):
        process = self.start(*arguments, **how)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err

    def said(self):
        """What the log has, as it spells it, but for how long it took."""
        with open(os.path.join(self.folder, "log.jsonl"), encoding="utf-8") as file:
            entries = [json.loads(line) for line in file]
        for entry in entries:
            entry.pop("seconds", None)
        return entries

    def committed(self):
        folder = os.path.join(self.folder, "checkpoints")
        return os.path.isdir(folder) and any(name.endswith(".json") for name in os.listdir(folder))


def killed_and_resumed(binary, root, kills, config=CONFIG):
    steps = 60 * kills
    unbroken = Run(binary, root, "unbroken", steps, config)
    begin = time.monotonic()
    status, out, err = unbroken.finish()
    assert status == 0, err
    # How long a run of these steps takes, less what it takes to start.
    seconds = time.monotonic() - begin
    broken = Run(binary, root, "broken", steps, config)
    chance = random.Random(7)
    resumed = 0
    for _ in range(kills):
        arguments = ["--resume"] if broken.committed() else []
        resumed += bool(arguments)
        process = broken.start(*arguments)
        # The first one has something to leave behind; the others die whenever it may be.
        deadline = time.monotonic() + 60
        while not broken.committed() and process.poll() is None:
            assert time.monotonic() < deadline, "no checkpoint within a minute"
            time.sleep(0.01)
        time.sleep(chance.random() * (0.5 + 2 * seconds / kills))
        if process.poll() is not None:
            break  # it came to its end
        process.kill()
        process.communicate()
    status, out, err = broken.finish(*(["--resume"] if broken.committed() else []))
    assert status == 0, err
    assert resumed > 0, "nothing was resumed"
    expected, actual = unbroken.said(), broken.said()
    taken = [entry["step"] for entry in actual if "loss" in entry]
    assert taken == list(range(steps)), "steps are missing or doubled in the log"
    wrong = [(one, other) for one, other in zip(expected, actual) if one != other]
    assert len(expected) == len(actual) and not wrong, f"the log says other things: {wrong[:2]}"
    for name in ("config.json", "model.safetensors"):
        contents = []
        for run in (unbroken, broken):
            with open(os.path.join(run.folder, "model", name), "rb") as file:
                contents.append(file.read())
        assert contents[0] == contents[1], f"the models differ in {name}"
    print(f"ok killed {kills} times, {resumed} resumed, {steps} steps to the bit")
    return unbroken, broken


def interrupted(binary, root):
    run = Run(binary, root, "interrupted", 100000)
    process = run.start()
    deadline = time.monotonic() + 60
    while not run.committed():
        assert process.poll() is None and time.monotonic() < deadline, "no checkpoint within a minute"
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, (process.returncode, err)
    assert json.loads(out)["stopped"] and "--resume" in err, (out, err)
    print("ok interrupted")


def wrong_configurations(binary, root):
    for text, words in (("steps = 10", "steps"), ("[train]\nsteps = 'ten'\n[output]\nfolder = 'x'", "steps"),
                        ("[train]\nsteps = 10\nrates = 1.0\n[output]\nfolder = 'x'", "rates"),
                        ("[train]\nsteps = 10\n[model]\nmixers = ['mamba9']\n[task]\nname = 'parity'\n"
                         "[output]\nfolder = 'x'", "mamba9")):
        path = os.path.join(root, "wrong.toml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        process = subprocess.run([binary, "train", path], capture_output=True, text=True, timeout=60, check=False)
        assert process.returncode == 1 and words in process.stderr, (text, process.stderr)
    process = subprocess.run([binary, "train", os.path.join(root, "absent.toml")], capture_output=True, text=True,
                             timeout=60, check=False)
    assert process.returncode == 1 and "absent.toml" in process.stderr, process.stderr
    run = Run(binary, root, "nothing", 10)
    status, _, err = run.finish("--resume")
    assert status == 1 and "nothing" in err, err
    print("ok wrong configurations")


def main(binary, kills="12"):
    root = tempfile.mkdtemp(prefix="krait_resume_")
    try:
        wrong_configurations(binary, root)
        interrupted(binary, root)
        killed_and_resumed(binary, root, int(kills))
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
