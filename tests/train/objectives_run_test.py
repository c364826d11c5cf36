#!/usr/bin/env python3
"""krait train over documents with a mixture of objectives and a curriculum that changes it: from texts to a tokenizer
with special tokens, shards, and a run that is killed at random moments and goes on to the bit, what it says of its
objectives and its mixture too. Also: what is missing is said, with the command that makes it.

usage: objectives_run_test.py KRAIT_BINARY [KILLS]
"""
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

from resume_test import Run, killed_and_resumed

CONFIG = """
[data]
length = 96
batch = 2
piece = 40
seed = 3
[[data.source]]
tokens = ["shards/a"]
weight = 2
[[data.source]]
tokens = ["shards/b"]
[[data.validation]]
tokens = ["shards/held_out"]
[tokenizer]
path = "tokenizer.json"
[[objective]]
name = "next_token"
[[objective]]
name = "copying"
[[objective]]
name = "infilling"
weight = 0.5
[[objective]]
name = "infilling"
weight = 0.5
corruption = 0.4
[[objective]]
name = "selective_copying"
shortest_delimiter = 2
longest_delimiter = 3
span = 2
[curriculum]
every = 20
exploration = 0.5
candidates = 64
best = 4
updates = 4
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
[evaluate]
every = 30
pieces = 6
[checkpoint]
every = 5
keep = 2
[output]
folder = "{folder}"
"""
NAMES = ["next_token", "copying", "infilling", "infilling 2", "selective_copying"]


def krait(binary, root, *arguments):
    done = subprocess.run([binary, *arguments], cwd=root, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, (arguments, done.stderr)
    return done.stdout


def make_shards(binary, root):
    chance = random.Random(5)
    words = ["king", "queen", "frog", "well", "ball", "golden", "deep", "was", "fell", "said"]
    for name, documents in (("a", 60), ("b", 30), ("held_out", 20)):
        with open(os.path.join(root, name + ".jsonl"), "w", encoding="utf-8") as file:
            for _ in range(documents):
                file.write(json.dumps({"text": " ".join(chance.choices(words, k=chance.randint(5, 40)))}) + "\n")
    for name, more in (("tokenizer.json", ["--objectives"]), ("plain.json", [])):
        krait(binary, root, "train-tokenizer", "a.jsonl", "-o", name, "--vocabulary", "300", *more)
    for name in ("a", "b", "held_out"):
        krait(binary, root, "prepare", name + ".jsonl", "-o", "shards/" + name, "--tokenizer", "tokenizer.json",
              "--likeness", "0")


def what_it_says(run, steps):
    said = run.said()
    mixtures = [entry for entry in said if "mixture" in entry]
    assert [entry["step"] for entry in mixtures] == [0] + list(range(19, steps - 1, 20)), mixtures
    for entry in mixtures:
        assert list(entry["mixture"]) == NAMES
        assert abs(sum(of["share"] for of in entry["mixture"].values()) - 1) < 1e-9
    assert abs(mixtures[0]["mixture"]["copying"]["share"] - 0.25) < 1e-12
    assert any(one["mixture"]["copying"]["share"] != other["mixture"]["copying"]["share"]
               for one, other in zip(mixtures, mixtures[1:])), "the mixture never changes"
    assert any(not entry["drawn"] for entry in mixtures[1:]), "the network was never asked"
    evaluations = [entry for entry in said if "evaluation_loss" in entry]
    assert len(evaluations) == (steps + 29) // 30
    for entry in evaluations:
        assert list(entry["objectives"]) == NAMES and all(of["loss"] > 0 for of in entry["objectives"].values())
    with open(os.path.join(run.folder, "mixture.svg"), encoding="utf-8") as file:
        chart = file.read()
    assert chart.startswith("<svg") and "selective_copying" in chart
    print("ok what it says")


def begins_later(binary, root):
    """A curriculum that begins later, and whose rewards are of the averaged parameters, as evaluations are."""
    config = CONFIG.replace("every = 20\n", "every = 20\nbegin = 40\n").replace("[evaluate]", "average = 0.9\n[evaluate]")
    run = Run(binary, root, "later", 100, config)
    status, _, err = run.finish()
    assert status == 0, err
    mixtures = [entry for entry in run.said() if "mixture" in entry]
    assert [entry["step"] for entry in mixtures] == [39, 59, 79], mixtures
    assert abs(mixtures[0]["mixture"]["copying"]["share"] - 0.25) < 1e-12, mixtures[0]
    evaluated = next(entry["objectives"] for entry in run.said() if "objectives" in entry and entry["step"] == 59)
    for name in NAMES:
        assert mixtures[1]["mixture"][name]["loss"] == evaluated[name]["loss"], (name, mixtures[1], evaluated)
    print("ok begins later")


def refused(binary, root):
    whole = CONFIG.format(steps=5, folder="refused")
    plain = whole[:whole.index("[[objective]]")] + whole[whole.index("[model]"):]
    cases = (
        (whole.replace('path = "tokenizer.json"', 'path = "plain.json"'), ["<|separator|>", "--objectives"]),
        (whole.replace('[tokenizer]\npath = "tokenizer.json"', ""), ["copying", "[tokenizer] path"]),
        (plain.replace('path = "tokenizer.json"', 'path = "nowhere.json"'), ["nowhere.json"]),
        (whole.replace("corruption = 0.4", "corruption = 4"), ["corruption"]),
        (whole.replace("exploration =", "explore ="), ["explore"]),
        (whole.replace('[[data.validation]]\ntokens = ["shards/held_out"]', ""), ["data.validation"]),
        (whole.replace("weight = 2", "weight = -2"), ["weight"]),
    )
    for text, words in cases:
        path = os.path.join(root, "refused.toml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        done = subprocess.run([binary, "train", path], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1 and all(word in done.stderr for word in words), (words, done.stderr)
    print("ok refused")


def other_objectives_do_not_go_on(binary, root):
    begun = Run(binary, root, "begun", 10, CONFIG)
    status, _, err = begun.finish()
    assert status == 0, err
    with open(begun.config, "w", encoding="utf-8") as file:
        file.write(CONFIG.format(folder="begun", steps=10).replace("corruption = 0.4", "corruption = 0.3"))
    status, _, err = begun.finish("--resume")
    assert status == 1 and "objectives" in err, err
    print("ok other objectives do not go on")


QUESTIONS = """
[questions]
train = ["questions.jsonl"]
test = ["questions.jsonl"]
[data]
batch = 4
[tokenizer]
path = "tokenizer.json"
[model]
mixers = ["mamba2"]
width = 32
layers = 2
states = 16
head_width = 16
[train]
steps = {steps}
rate = 1e-2
warm_up = 5
[evaluate]
batches = 1
[output]
folder = "{folder}"
"""


def questions(binary, root):
    answers = {"king": "well", "queen": "ball", "frog": "deep", "said": "golden"}
    with open(os.path.join(root, "questions.jsonl"), "w", encoding="utf-8") as file:
        for prompt, answer in answers.items():
            file.write(json.dumps({"prompt": prompt + "?", "answer": answer}) + "\n")
    run = Run(binary, root, "questions", 120, QUESTIONS)
    status, out, err = run.finish()
    assert status == 0, err
    # Learned by heart; four answers of several tokens are not guessed.
    assert json.loads(out)["evaluation"]["exact_match"] == 1.0, out
    with open(os.path.join(root, "questions.jsonl"), "a", encoding="utf-8") as file:
        file.write('{"prompt": "well?"}\n')
    status, _, err = run.finish()
    assert status == 1 and "questions.jsonl:5" in err, err
    print("ok questions")


def main(binary, kills="4"):
    binary = os.path.abspath(binary)
    root = tempfile.mkdtemp(prefix="krait_objectives_")
    try:
        make_shards(binary, root)
        refused(binary, root)
        begins_later(binary, root)
        questions(binary, root)
        other_objectives_do_not_go_on(binary, root)
        unbroken, broken = killed_and_resumed(binary, root, int(kills), CONFIG)
        what_it_says(unbroken, 60 * int(kills))
        with open(os.path.join(unbroken.folder, "mixture.svg"), encoding="utf-8") as one, \
                open(os.path.join(broken.folder, "mixture.svg"), encoding="utf-8") as other:
            assert one.read() == other.read(), "another mixture was drawn"
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
