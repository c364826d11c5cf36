#!/usr/bin/env python3
"""krait train with [study]: two variants under two seeds, killed once and told to go on. Its table has the numbers of the
runs' own logs, those are what the runs have alone, and what is done is not run again. Also: a run that is done is asked
more when it is resumed.

usage: study_test.py KRAIT_BINARY
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

RUN = """
[task]
name = "parity"
length = 12
every_place = 1
[data]
batch = 8
{data}
[model]
width = 16
layers = 1
states = 8
head_width = 16
{model}
[train]
steps = {steps}
rate = 1e-2
[evaluate]
every = 50
batches = 4
[[evaluate.task]]
length = 48
examples = 40
{more}
[checkpoint]
every = 5
keep = 1
[output]
folder = "{folder}"
"""

STUDY = """
[study]
seeds = [1, 5]
[[study.variant]]
name = "mamba2"
model.mixers = ["mamba2"]
[[study.variant]]
name = "mamba3"
model.mixers = ["mamba3"]
train.rate = 3e-3
"""
STEPS = 300
RUNS = [("mamba2", 1), ("mamba3", 1), ("mamba2", 5), ("mamba3", 5)]


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def read_lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def train(binary, *arguments, status=0):
    process = subprocess.run([binary, "train", *arguments, "--threads", "1"], capture_output=True, text=True, timeout=300,
                             check=False)
    assert process.returncode == status, (arguments, process.returncode, process.stderr)
    return process


def scores_of_log(folder):
    """What the log says last of everything that was evaluated."""
    scores = {}
    for entry in read_lines(os.path.join(folder, "log.jsonl")):
        if "accuracy" in entry:
            scores[entry.get("task", "as trained")] = (entry["accuracy"], entry["exact_match"])
    return scores


def check_report(study, folder, stdout):
    runs = {(run["variant"], run["seed"]): run for run in study["runs"]}
    assert list(runs) == RUNS, list(runs)
    for (variant, seed), run in runs.items():
        own = os.path.join(folder, variant, f"seed-{seed}")
        scores = {score["name"]: (score["accuracy"], score["exact_match"]) for score in run["scores"]}
        assert scores == scores_of_log(own), (scores, scores_of_log(own))
        steps = [entry for entry in read_lines(os.path.join(own, "log.jsonl")) if "loss" in entry]
        assert [entry["step"] for entry in steps] == list(range(STEPS)), "steps are missing or doubled"
        assert run["steps"] == STEPS and run["tokens"] == sum(entry["tokens"] for entry in steps)
        assert abs(run["seconds"] - sum(entry["seconds"] for entry in steps)) < 1e-9
        assert run["parameters"] > 0
    lines = stdout.splitlines()
    for variant in study["variants"]:
        row = next(line for line in lines if line.startswith(variant["name"]))
        for name in ("as trained", "length 48"):
            of_seeds = [score["accuracy"] for run in study["runs"] if run["variant"] == variant["name"]
                        for score in run["scores"] if score["name"] == name]
            spread = variant["scores"][name]
            assert (spread["least"], spread["most"]) == (min(of_seeds), max(of_seeds)), spread
            assert abs(spread["accuracy"] - sum(of_seeds) / 2) < 1e-12
            words = f"{100 * spread['accuracy']:.2f} % ({100 * min(of_seeds):.2f} – {100 * max(of_seeds):.2f})"
            assert words in row, (words, row)
            with open(os.path.join(folder, "study.md"), encoding="utf-8") as file:
                assert words in file.read()
    with open(os.path.join(folder, "study.svg"), encoding="utf-8") as file:
        assert file.read().count("<circle") == 8


def studied(binary, root):
    config = write(os.path.join(root, "study.toml"),
                   RUN.format(steps=STEPS, folder="study", data="", model="", more="") + STUDY)
    folder = os.path.join(root, "study")
    process = subprocess.Popen([binary, "train", config, "--threads", "1", "-q"], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    # Killed in its second run, when that has something to go on from.
    second = os.path.join(folder, "mamba3", "seed-1", "checkpoints")
    deadline = time.monotonic() + 120
    while not (os.path.isdir(second) and any(name.endswith(".json") for name in os.listdir(second))):
        assert process.poll() is None and time.monotonic() < deadline, "no second run within two minutes"
        time.sleep(0.005)
    process.kill()
    process.wait()
    first = os.path.join(folder, "mamba2", "seed-1", "log.jsonl")
    before = os.stat(first).st_mtime_ns
    whole = train(binary, config, "--resume")
    assert os.stat(first).st_mtime_ns == before, "a run that was done was run again"
    assert "mamba2/seed-1 was done" in whole.stderr, whole.stderr
    with open(os.path.join(folder, "study.json"), encoding="utf-8") as file:
        study = json.load(file)
    check_report(study, folder, whole.stdout)
    again = json.loads(train(binary, config, "--resume", "--json", "-q").stdout)
    assert again == study
    # A run of the study is the run that it would have been alone.
    alone = write(os.path.join(root, "alone.toml"),
                  RUN.format(steps=STEPS, folder="alone", data="seed = 1", model="seed = 1\nmixers = ['mamba3']",
                             more="").replace("rate = 1e-2", "rate = 3e-3"))
    train(binary, alone)
    ours, theirs = (
        [(entry["step"], entry.get("loss"), entry.get("accuracy"))
         for entry in read_lines(os.path.join(root, path, "log.jsonl"))]
        for path in ("alone", "study/mamba3/seed-1"))
    assert ours == theirs, "a run of the study is not what it is alone"
    print("ok studied")


def settings_changed(binary, root):
    folder = os.path.join(root, "study")
    other = write(os.path.join(root, "study.toml"),
                  RUN.format(steps=STEPS, folder="study", data="", model="", more="").replace("width = 16", "width = 32", 1)
                  + STUDY)
    process = train(binary, other, "--resume", status=1)
    assert "model.width" in process.stderr, process.stderr
    # More questions need no more training.
    more = write(os.path.join(root, "study.toml"),
                 RUN.format(steps=STEPS, folder="study", data="", model="",
                            more="[[evaluate.task]]\nname = 'twice'\nlength = 24\nexamples = 16") + STUDY)
    first = os.path.join(folder, "mamba2", "seed-5", "log.jsonl")
    steps = [entry for entry in read_lines(first) if "loss" in entry]
    study = json.loads(train(binary, more, "--resume", "--json", "-q").stdout)
    assert all([score["name"] for score in run["scores"]] == ["as trained", "length 48", "twice"]
               for run in study["runs"]), study
    assert [entry for entry in read_lines(first) if "loss" in entry] == steps
    for variant, seed in RUNS:
        run = next(run for run in study["runs"] if (run["variant"], run["seed"]) == (variant, seed))
        scores = {score["name"]: (score["accuracy"], score["exact_match"]) for score in run["scores"]}
        assert scores == scores_of_log(os.path.join(folder, variant, f"seed-{seed}"))
    print("ok settings changed")


def evaluated_when_done(binary, root):
    parts = {"steps": 20, "folder": "once", "data": "seed = 2", "model": ""}
    config = write(os.path.join(root, "once.toml"), RUN.format(more="", **parts))
    first = json.loads(train(binary, config, "--json").stdout)
    assert [entry["name"] for entry in first["evaluations"]] == ["length 48"], first
    assert first["evaluations"][0]["examples"] == 40
    write(config, RUN.format(more="[[evaluate.task]]\nname = 'twice'\nlength = 24\nexamples = 16", **parts))
    again = json.loads(train(binary, config, "--json", "--resume").stdout)
    assert again["steps"] == 20 and again["evaluation"] == first["evaluation"], (first, again)
    assert again["evaluations"][0] == first["evaluations"][0], (first, again)
    assert again["evaluations"][1]["name"] == "twice"
    named = [entry["task"] for entry in read_lines(os.path.join(root, "once", "log.jsonl")) if "task" in entry]
    assert named == ["length 48", "twice"], named
    shown = train(binary, config, "--resume").stdout
    assert "twice: answers right" in shown, shown
    print("ok evaluated when done")


MIXERS = """
[study]
seeds = [1]
[[study.variant]]
name = "hashed"
model = { mixers = ["hax"], hashes = 3, recent_keys = 4, selected_keys = 0 }
[[study.variant]]
name = "scored"
model = { mixers = ["hax"], recent_keys = 0, selected_keys = 4, ranking_weight = 0.5 }
[[study.variant]]
name = "stored"
model = { mixers = ["bmojo"], window = 3, rotary = 8, eidetic = 5, fading = "gated_delta" }
[[study.variant]]
name = "faded"
model = { mixers = ["bmojo"], window = 3, eidetic = 0 }
[[study.variant]]
name = "window"
model = { mixers = ["attention"], window = 3, rotary = 8, feed_forward = 24 }
"""


def mixers_of_studies(binary, root):
    good = RUN.format(steps=3, folder="mixers", data="", model="", more="")
    path = write(os.path.join(root, "mixers.toml"), good + MIXERS)
    study = json.loads(train(binary, path, "--json", "-q").stdout)
    sizes = {run["variant"]: run["parameters"] for run in study["runs"]}
    # Width 16, inner 32, 8 states: what the mixer has beside Mamba's parameters.
    mamba = sizes["hashed"] - (2 * 8 * 32 + 32 + 3 * 8)
    assert sizes["scored"] == mamba + 2 * 8 * 32 + 32 + 2 * (16 * 16 + 16) + 16 + 1, sizes
    assert sizes["faded"] == mamba + 4 * 16 * 16, sizes
    assert sizes["window"] == 2 * 16 + 2 * 16 + 16 + 4 * 16 * 16 + 3 * 16 * 24, sizes
    # HAX of hashes alone has a published layout, B'MOJO has none.
    model = os.path.join(root, "mixers", "{}", "seed-1", "model", "config.json")
    with open(model.format("hashed"), encoding="utf-8") as file:
        config = json.load(file)
    assert (config["sparse_arch"], config["sparse_keys"], config["num_hash"]) == ("sign_bin_lsh", 4, 3), config
    assert not os.path.exists(model.format("stored"))
    process = train(binary, write(path, good + MIXERS.replace("gated_delta", "attention")), status=1)
    assert "fading" in process.stderr and "attention" in process.stderr, process.stderr
    print("ok mixers of studies")


def wrong_studies(binary, root):
    good = RUN.format(steps=5, folder="wrong", data="", model="", more="")
    for text, words in ((good + "[study]\nseeds = []", "seeds"),
                        (good + STUDY + "[[study.variant]]\nname = 'last'\nmodel.widths = 3", "widths"),
                        (good.replace("length = 48", "length = 2") + STUDY, "length")):
        path = write(os.path.join(root, "wrong.toml"), text)
        process = train(binary, path, status=1)
        assert words in process.stderr, (words, process.stderr)
        assert not os.path.exists(os.path.join(root, "wrong")), "something ran before the error was found"
    path = write(os.path.join(root, "wrong.toml"), good + STUDY)
    process = train(binary, path, "--export", "x", status=2)
    assert "study" in process.stderr, process.stderr
    print("ok wrong studies")


def main(binary):
    root = tempfile.mkdtemp(prefix="krait_study_")
    try:
        wrong_studies(binary, root)
        evaluated_when_done(binary, root)
        mixers_of_studies(binary, root)
        studied(binary, root)
        settings_changed(binary, root)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
