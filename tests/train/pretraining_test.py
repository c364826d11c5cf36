#!/usr/bin/env python3
"""krait train with [pretrain]: one run of two phases, told apart in its log; killed in either and told to go on, it ends,
to the last bit of every loss and every score, as a run that nobody stopped. And [model] from: a run that begins with the
parameters of another, and one that does not fit.

usage: pretraining_test.py KRAIT_BINARY
"""
import os
import shutil
import sys
import tempfile
import time

from resume_test import Run

PRETRAINED, STEPS = 60, 60

CONFIG = """
[task]
name = "parity"
length = 24
examples = 50
bidirectional = true
[data]
batch = 8
[model]
mixers = ["mamba2"]
width = 16
layers = 2
states = 16
head_width = 16
{model}
{pretrain}
[train]
steps = {{steps}}
rate = 3e-3
warm_up = 5
average = 0.9
[evaluate]
every = 10
batches = 4
test = 2
[checkpoint]
every = {every}
keep = 2
[output]
folder = "{{folder}}"
"""
PRETRAIN = f"[pretrain]\nobjective = 'masked'\nsteps = {PRETRAINED}"


def config(model="", pretrain=PRETRAIN, every=7):
    return CONFIG.format(model=model, pretrain=pretrain, every=every)


def weights(root, name):
    with open(os.path.join(root, name, "model", "model.safetensors"), "rb") as file:
        return file.read()


def kill_after(run, step, *arguments):
    """Ends the run with SIGKILL when a checkpoint of that step or a later one is there."""
    process = run.start(*arguments)
    folder = os.path.join(run.folder, "checkpoints")
    deadline = time.monotonic() + 120
    while True:
        names = os.listdir(folder) if os.path.isdir(folder) else []
        steps = [int(name[:-5].split("-")[-1]) for name in names if name.endswith(".json")]
        if steps and max(steps) >= step:
            break
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"no checkpoint of step {step} within two minutes"
        time.sleep(0.005)
    process.kill()
    process.communicate()


def both_phases(binary, root):
    unbroken = Run(binary, root, "unbroken", STEPS, config())
    status, out, err = unbroken.finish()
    assert status == 0, err
    assert "pretraining" in err, err
    log = unbroken.said()
    steps = [entry for entry in log if "loss" in entry]
    assert [entry["step"] for entry in steps] == list(range(PRETRAINED + STEPS))
    phases = [entry.get("phase") for entry in steps]
    assert phases == ["pretrain"] * PRETRAINED + [None] * STEPS, phases
    scores = [entry for entry in log if "accuracy" in entry]
    assert [entry["step"] for entry in scores] == list(range(PRETRAINED + 9, PRETRAINED + STEPS, 10)), scores
    # The test is looked at where the evaluation is the best so far, and there alone.
    best = -1.0
    for entry in scores:
        assert ("test_accuracy" in entry) == (entry["accuracy"] > best), scores
        best = max(best, entry["accuracy"])
    # Within a finite set the last step of pretraining has learned something, and each phase warms up.
    assert steps[0]["rate"] < steps[10]["rate"] and steps[PRETRAINED]["rate"] < steps[PRETRAINED + 10]["rate"]
    print("ok two phases in one log")

    broken = Run(binary, root, "broken", STEPS, config())
    resume = []
    # In pretraining, at its last step, in training.
    for step in (14, 35, PRETRAINED, PRETRAINED + 15, PRETRAINED + 40):
        kill_after(broken, step, *resume)
        resume = ["--resume"]
    status, resumed_out, err = broken.finish("--resume")
    assert status == 0, err
    assert broken.said() == log, "the log is another one"
    assert resumed_out.replace("broken", "unbroken") == out, (out, resumed_out)
    assert weights(root, "broken") == weights(root, "unbroken"), "other parameters"
    print("ok killed in both phases, to the bit")

    # Not one that was pretrained for another time.
    with open(broken.config, "w", encoding="utf-8") as file:
        file.write(config(pretrain=PRETRAIN.replace(str(PRETRAINED), "61")).format(folder="broken", steps=STEPS))
    status, _, err = broken.finish("--resume")
    assert status == 1 and "61" in err and str(PRETRAINED) in err, err
    print("ok another length of pretraining is refused")


def in_two_processes(binary, root):
    """After test both_phases: a run that one process began and two go on with, from either phase."""
    expected = {entry["step"]: entry["loss"] for entry in Run(binary, root, "unbroken", STEPS, config()).said()
                if "loss" in entry}
    for name, step in (("two_pretraining", 35), ("two_training", PRETRAINED + 15)):
        run = Run(binary, root, name, STEPS, config())
        kill_after(run, step)
        status, _, err = run.finish("--resume", "--processes", "2")
        assert status == 0, err
        losses = {entry["step"]: entry["loss"] for entry in run.said() if "loss" in entry}
        assert losses.keys() == expected.keys()
        for k, loss in expected.items():
            # Sums in another order, as processes_test.py has it: n terms of a batch, and parameters that drift by step.
            assert abs(losses[k] - loss) <= (k + 1) * 8 * 24 * 2.0**-24 * loss, (name, k, losses[k], loss)
    print("ok two processes go on with either phase")


def begins_with_another(binary, root):
    """After test both_phases: the model of `unbroken` has one token more than the task, which hides places."""
    status, _, err = Run(binary, root, "narrow", 5, config("from = 'unbroken'", "")).finish()
    assert status == 1 and "backbone.embedding.weight is [3, 16] there, [2, 16] here" in err, err
    model = "from = 'unbroken'\nfresh = ['backbone.embedding']"
    status, _, err = Run(binary, root, "fresh", 5, config(model, "")).finish()
    assert status == 0 and "1 anew" in err, err
    begun = Run(binary, root, "begun", 40, config("from = 'unbroken'"))
    kill_after(begun, 7)
    # What it began with is not needed to go on.
    os.rename(os.path.join(root, "unbroken"), os.path.join(root, "away"))
    status, _, err = begun.finish("--resume")
    assert status == 0, err
    os.rename(os.path.join(root, "away"), os.path.join(root, "unbroken"))
    again = Run(binary, root, "again", 40, config("from = 'unbroken/model'"))
    status, _, err = again.finish()
    assert status == 0, err
    assert again.said() == begun.said(), "checkpoint and exported model differ"
    # Steps that change nothing: what comes out is what went in, to the bit.
    still = config("from = 'unbroken'", PRETRAIN.replace(str(PRETRAINED), "2"))
    still = still.replace("rate = 3e-3", "rate = 0.0").replace("average = 0.9", "average = 0.0")
    status, _, err = Run(binary, root, "still", 2, still).finish()
    assert status == 0, err
    assert weights(root, "still") == weights(root, "unbroken"), "other parameters than those of the run before"
    print("ok begins with another run's parameters")


def wrong_configurations(binary, root):
    for text, words in ((config().replace("parity", "phone_book").replace("length = 24\n", ""), "backwards"),
                        (config(pretrain="[pretrain]\nobjective = 'masked'"), "'steps' in [pretrain]"),
                        (config().replace("parity", "phone_book").replace("length = 24\n", "").replace(
                            "bidirectional = true\n", ""), "answers in them"),
                        (config("fresh = ['lm_head']"), "fresh"),
                        (config("from = 'nowhere'"), "nowhere")):
        status, _, err = Run(binary, root, "wrong", 5, text).finish()
        assert status == 1 and words in err, (words, err)
    text = "[pretrain]\nsteps = 3\n[train]\nsteps = {steps}\n[output]\nfolder = '{folder}'\n"
    status, _, err = Run(binary, root, "wrong", 5, text).finish()
    assert status == 1 and "[pretrain] is for a [task]" in err, err
    print("ok wrong configurations")


def main(binary):
    root = tempfile.mkdtemp(prefix="krait_pretraining_")
    try:
        wrong_configurations(binary, root)
        both_phases(binary, root)
        in_two_processes(binary, root)
        begins_with_another(binary, root)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
