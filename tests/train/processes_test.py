#!/usr/bin/env python3
"""krait train in several processes: the same curve as in one, for a task and for documents; killed at random moments and
started again, to the bit; stopped, orphaned, with ranks that hang and configurations that cannot be; under torchrun
where it is installed, and between network namespaces where they can be made.

How much curves may differ: a sum of n terms in f32 differs by at most n 2^-24 of the sum of their magnitudes when it is
taken in another order. The longest sums of a step are over the rows of the whole batch, n = batch x length. Each step's
sums begin with parameters that are as far off as all steps before have left them, so the loss of step k, counted from 0,
may be off by (k + 1) n 2^-24 of itself.

usage: processes_test.py KRAIT_BINARY [ONE_TEST]
"""
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import objectives_run_test
import resume_test

MODEL = """
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
every = 10
batches = 3
[checkpoint]
every = 5
keep = 2
[output]
folder = "{folder}"
"""
TASK = '[task]\nname = "parity"\nlength = 32\n[data]\nbatch = {batch}\n'
BATCH, TASK_LENGTH, TEXT_LENGTH = 8, 32, 64
LAUNCHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "OMPI_COMM_WORLD_RANK", "PMI_RANK",
             "SLURM_PROCID", "GLOO_SOCKET_IFNAME")


def environment(**more):
    clean = {name: value for name, value in os.environ.items() if name not in LAUNCHERS}
    return {**clean, **{name: str(value) for name, value in more.items()}}


class Run(resume_test.Run):
    def __init__(self, binary, root, name, steps, data=TASK, batch=BATCH, config=None):
        super().__init__(binary, root, name, steps, config or data + MODEL, batch=batch)

    def start(self, *arguments, before=(), **more):
        return super().start(*arguments, before=before, env=environment(**more))

    def entries(self, key):
        """What the log has under `key`, by step, as it spells it."""
        with open(os.path.join(self.folder, "log.jsonl"), encoding="utf-8") as file:
            entries = [json.loads(line) for line in file]
        return {entry["step"]: entry[key] for entry in entries if key in entry}

    def wait_for_checkpoint(self, process):
        deadline = time.monotonic() + 90
        while not self.committed():
            assert process.poll() is None and time.monotonic() < deadline, "no checkpoint in time"
            time.sleep(0.02)

    def ranks(self, variable="RANK"):
        """Training processes of this run that have a rank, by rank. `variable`: where their launcher says it."""
        found = {}
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
                with open(f"/proc/{entry}/environ", "rb") as file:
                    variables = dict(part.split(b"=", 1) for part in file.read().split(b"\0") if b"=" in part)
                with open(f"/proc/{entry}/stat", encoding="utf-8") as file:
                    state = file.read().rsplit(")", 1)[1].split()[0]
            except OSError:
                continue
            name, trains = variable.encode(), os.path.basename(words[0]).startswith(b"krait")
            if trains and self.config.encode() in words and name in variables and state != "Z":
                found[int(variables[name])] = int(entry)
        return found

    def wait_for_none(self):
        deadline = time.monotonic() + 10
        while self.ranks():
            assert time.monotonic() < deadline, f"left behind: {self.ranks()}"
            time.sleep(0.05)


def same_curve(one, other, rows):
    expected, actual = one.entries("loss"), other.entries("loss")
    assert sorted(expected) == sorted(actual), (len(expected), len(actual))
    worst = 0.0
    for step, loss in expected.items():
        bound = (step + 1) * rows * 2.0 ** -24
        difference = abs(actual[step] - loss) / loss
        assert difference <= bound, f"step {step}: {actual[step]} is not {loss}, bound {bound}"
        worst = max(worst, difference / bound)
    assert one.entries("tokens") == other.entries("tokens")
    return worst


def make_documents(binary, root):
    """Shards of documents of very different lengths, so that ranks have different numbers of labels."""
    chance = random.Random(3)
    words = ["".join(chance.choice("abcdefghijklmnop") for _ in range(chance.randint(2, 7))) for _ in range(60)]
    for name, count in (("train", 150), ("held_out", 24)):
        with open(os.path.join(root, name + ".jsonl"), "w", encoding="utf-8") as file:
            for _ in range(count):
                length = chance.choice((3, 8, 20, 300))
                file.write(json.dumps({"text": " ".join(chance.choice(words) for _ in range(length)) + "."}) + "\n")
    texts = os.path.join(root, "texts.txt")
    with open(texts, "w", encoding="utf-8") as file:
        file.write(" ".join(chance.choice(words) for _ in range(3000)))
    tokenizer = os.path.join(root, "tokenizer")
    subprocess.run([binary, "train-tokenizer", texts, "-o", tokenizer, "--vocabulary", "300"], check=True,
                   capture_output=True, timeout=60)
    for name in ("train", "held_out"):
        subprocess.run([binary, "prepare", os.path.join(root, name + ".jsonl"), "-o", os.path.join(root, name),
                        "--tokenizer", tokenizer], check=True, capture_output=True, timeout=60)
    return ('[data]\nbatch = {batch}\nlength = ' + str(TEXT_LENGTH) + '\n[[data.source]]\ntokens = ["train"]\n'
            '[[data.validation]]\ntokens = ["held_out"]\n')


def one_curve(binary, root):
    one, four = Run(binary, root, "task_one", 40), Run(binary, root, "task_four", 40)
    for run, arguments in ((one, ["--threads", "1"]), (four, ["--processes", "4", "--threads", "1"])):
        status, _, err = run.finish(*arguments)
        assert status == 0, err
    worst = same_curve(one, four, BATCH * TASK_LENGTH)
    # Predictions that are counted: the same ones, unless two are as likely to the last bit.
    assert one.entries("accuracy") == four.entries("accuracy")
    print(f"ok a task in four processes as in one: {worst:.2g} of the bound at most")
    data = make_documents(binary, root)
    one, four = Run(binary, root, "text_one", 40, data), Run(binary, root, "text_four", 40, data)
    for run, arguments in ((one, ["--threads", "1"]), (four, ["--processes", "4", "--threads", "1"])):
        status, _, err = run.finish(*arguments)
        assert status == 0, err
    worst = same_curve(one, four, BATCH * TEXT_LENGTH)
    held_out, shared = one.entries("evaluation_loss"), four.entries("evaluation_loss")
    assert sorted(held_out) == sorted(shared) and len(shared) == 4, (held_out, shared)
    for step, loss in held_out.items():
        assert abs(shared[step] - loss) <= (step + 1) * BATCH * TEXT_LENGTH * 2.0 ** -24 * loss, (step, loss, shared)
    print(f"ok documents in four processes as in one: {worst:.2g} of the bound at most")
    # Half of it in four processes, the rest in two: the same places in the data.
    mixed = Run(binary, root, "text_mixed", 40, data)
    process = mixed.start("--processes", "4", "--threads", "1")
    mixed.wait_for_checkpoint(process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130, process.returncode
    assert 0 < len(mixed.entries("loss")) < 40, "it was stopped too late"
    status, _, err = mixed.finish("--processes", "2", "--threads", "1", "--resume")
    assert status == 0, err
    same_curve(one, mixed, BATCH * TEXT_LENGTH)
    print("ok from four processes to two")


def killed(binary, root, kills=3):
    steps = 60 * kills
    unbroken = Run(binary, root, "unbroken", steps)
    status, _, err = unbroken.finish("--processes", "4", "--threads", "1")
    assert status == 0, err
    broken = Run(binary, root, "broken", steps)
    chance = random.Random(11)
    process = broken.start("--processes", "4", "--threads", "1", "--restarts", str(kills + 2))
    broken.wait_for_checkpoint(process)
    done = 0
    for _ in range(kills):
        time.sleep(chance.random() * 2.0)
        deadline = time.monotonic() + 60
        while process.poll() is None and len(broken.ranks()) < 4 and time.monotonic() < deadline:
            time.sleep(0.02)
        ranks = broken.ranks()
        if process.poll() is not None or len(ranks) < 4:
            break
        victim = chance.choice(sorted(ranks))
        os.kill(ranks[victim], signal.SIGKILL)
        done += 1
        # All others go with it, before all are started again.
        gone = set(ranks.values())
        while process.poll() is None and gone & set(broken.ranks().values()):
            assert time.monotonic() < deadline, "the others stay when one is killed"
            time.sleep(0.02)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert done > 0, "it was over before anything could be killed"
    assert len(re.findall(r"was ended by signal 9 .*: all are started again", err)) == done, err
    expected, actual = unbroken.entries("loss"), broken.entries("loss")
    assert sorted(actual) == list(range(steps)), "steps are missing or doubled in the log"
    wrong = [step for step in expected if expected[step] != actual[step]]
    assert not wrong, f"steps {wrong[:5]} have other losses"
    assert unbroken.entries("accuracy") == broken.entries("accuracy")
    broken.wait_for_none()
    print(f"ok killed {done} times, started again, {steps} steps to the bit")


def mixtures(binary, root):
    """Objectives that a curriculum changes: rank 0 decides, and what it has decided survives."""
    objectives_run_test.make_shards(binary, root)
    steps, rows = 60, 2 * 96
    data = objectives_run_test.CONFIG
    one, two, broken = (Run(binary, root, name, steps, config=data) for name in ("one", "two", "broken"))
    for run, arguments in ((one, ["--threads", "1"]), (two, ["--processes", "2", "--threads", "1"])):
        status, _, err = run.finish(*arguments)
        assert status == 0, err
    expected, actual = one.entries("loss"), two.entries("loss")
    # Until the second decision; of later ones a rounding may change which candidates are best.
    for step in range(20):
        assert abs(actual[step] - expected[step]) <= (step + 1) * rows * 2.0 ** -24 * expected[step], step
    assert one.entries("tokens")[0] == two.entries("tokens")[0]
    process = broken.start("--processes", "2", "--threads", "1", "--restarts", "3")
    deadline = time.monotonic() + 90
    while len(broken.entries("loss") if broken.committed() else ()) < 25:
        assert process.poll() is None and time.monotonic() < deadline, "it does not come to step 25"
        time.sleep(0.02)
    os.kill(broken.ranks()[1], signal.SIGKILL)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0 and "all are started again" in err, err
    for key in ("loss", "mixture", "evaluation_loss", "objectives"):
        assert two.entries(key) == broken.entries(key), key
    assert len(two.entries("mixture")) == 3, two.entries("mixture")
    print("ok mixtures of objectives with a curriculum, killed and started again to the bit")


def named_and_ended(binary, root):
    """Without restarts: who is gone is named by those who miss it; Ctrl-C; the launcher's own end; a rank that hangs."""
    run = Run(binary, root, "killed_once", 100000)
    process = run.start("--processes", "4", "--threads", "1")
    run.wait_for_checkpoint(process)
    victim = run.ranks()[2]
    os.kill(victim, signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and f"rank 2 (process {victim}) was ended by signal 9" in err, err
    for rank in (0, 1, 3):
        line = next((line for line in err.splitlines() if f"rank {rank} of 4 could not add up" in line), "")
        assert f"rank 2 (process {victim} on" in line and "127.0.0.1" in line, err
        assert not re.search(r"rank [013] \(process", line), line
    run.wait_for_none()

    run = Run(binary, root, "interrupted", 100000)
    process = run.start("--processes", "4", "--threads", "1")
    run.wait_for_checkpoint(process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "--resume" in err, (process.returncode, err)
    stopped = json.loads(out)
    assert stopped["stopped"], out
    run.wait_for_none()
    # A signal to one rank alone stops all, at the same step.
    process = run.start("--processes", "4", "--threads", "1", "--resume")
    deadline = time.monotonic() + 60
    while len(run.ranks()) < 4 or len(run.entries("loss")) < stopped["steps"] + 5:
        assert process.poll() is None and time.monotonic() < deadline, "it does not go on"
        time.sleep(0.05)
    os.kill(run.ranks()[3], signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and json.loads(out)["steps"] > stopped["steps"], (process.returncode, out, err)
    run.wait_for_none()

    run = Run(binary, root, "orphans", 100000)
    process = run.start("--processes", "4", "--threads", "1")
    run.wait_for_checkpoint(process)
    assert len(run.ranks()) == 4, run.ranks()
    process.kill()
    process.communicate(timeout=60)
    run.wait_for_none()

    run = Run(binary, root, "hanging", 100000)
    process = run.start("--processes", "4", "--threads", "1", "--timeout", "5")
    run.wait_for_checkpoint(process)
    victim = run.ranks()[1]
    os.kill(victim, signal.SIGSTOP)
    begin = time.monotonic()
    _, err = process.communicate(timeout=90)
    assert process.returncode == 1 and f"rank 1 (process {victim} on" in err, err
    assert "hangs" in err, err
    run.wait_for_none()
    print(f"ok who is gone is named; Ctrl-C, orphans; a rank that hangs ends after {time.monotonic() - begin:.0f} s")


def refused(binary, root):
    run = Run(binary, root, "refused", 10, batch=6)
    for arguments, variables, status, words in (
            (["--processes", "4"], {}, 2, "batch = 6"),
            (["--processes", "0"], {}, 2, "--processes"),
            (["--restarts", "2"], {}, 2, "--processes"),
            (["--timeout", "0"], {}, 2, "--timeout"),
            (["--processes", "2"], {"RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": "localhost", "MASTER_PORT": 29500}, 2,
             "rank 0 of 2"),
            ([], {"RANK": 0}, 1, "WORLD_SIZE"),
            ([], {"RANK": 2, "WORLD_SIZE": 2}, 1, "RANK is 2"),
            ([], {"RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": "localhost"}, 1, "MASTER_PORT"),
            ([], {"OMPI_COMM_WORLD_RANK": 0, "OMPI_COMM_WORLD_SIZE": 2}, 1, "MASTER_ADDR"),
            ([], {"SLURM_PROCID": 0, "SLURM_NTASKS": 2, "SLURM_JOB_NODELIST": "a[b"}, 1, "a[b"),
            (["--timeout", "1"], {"RANK": 1, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}, 1,
             "127.0.0.1:1"),
            (["--timeout", "1"], {"RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 29511,
                                  "GLOO_SOCKET_IFNAME": "nosuch0"}, 1, "nosuch0")):
        got, _, err = run.finish(*arguments, **variables)
        assert got == status and words in err, (arguments, variables, got, err)
    # Two ranks with different configurations.
    other = Run(binary, root, "refused_too", 11)
    both = [of.start(RANK=rank, WORLD_SIZE=2, MASTER_ADDR="127.0.0.1", MASTER_PORT=29512)
            for rank, of in enumerate((run, other))]
    for process in both:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 1 and "the hash of the configuration is" in err, err
    print("ok refused settings")


def alone_under_a_launcher(binary, root):
    """A launcher gives the same words every time: --resume begins where there is nothing to go on from."""
    run = Run(binary, root, "alone", 10)
    status, _, err = run.finish("--resume", RANK=0, WORLD_SIZE=1)
    assert status == 0 and len(run.entries("loss")) == 10 and "no checkpoint yet" in err, err
    status, out, err = run.finish("--resume", RANK=0, WORLD_SIZE=1)
    assert status == 0 and json.loads(out)["steps"] == 10, err
    print("ok --resume without a checkpoint, under a launcher")


def under_torchrun(binary, root):
    torchrun = shutil.which("torchrun")
    if torchrun is None:
        print("skipped: torchrun is not installed")
        return
    run, expected = Run(binary, root, "torchrun", 60), Run(binary, root, "torchrun_alone", 60)
    status, _, err = expected.finish("--processes", "2", "--threads", "1")
    assert status == 0, err
    process = run.start("--resume", "--threads", "1",
                        before=[torchrun, "--standalone", "--no_python", "--nproc_per_node=2", "--max_restarts=2",
                                # PyTorch 1.13 under Python 3.11 does not read its own defaults of these.
                                "--redirects=9:1", "--tee=9:1"])
    run.wait_for_checkpoint(process)
    os.kill(run.ranks()[1], signal.SIGKILL)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert run.entries("loss") == expected.entries("loss"), "another curve than without torchrun"
    print("ok under torchrun, killed and started again by it")


def between_namespaces(binary, root):
    """Two ranks in two network namespaces, with addresses of their own and nothing between them but a cable."""
    names = [f"krait{os.getpid()}{side}" for side in "ab"]
    ip = shutil.which("ip")
    if ip is None or os.geteuid() != 0:
        print("skipped: network namespaces need root and the command ip")
        return
    try:
        made = subprocess.run([ip, "netns", "add", names[0]], capture_output=True, text=True, check=False)
        if made.returncode != 0:
            print(f"skipped: no network namespaces here: {made.stderr.strip()}")
            return
        commands = [["netns", "add", names[1]], ["link", "add", "kraitcable", "netns", names[0], "type", "veth", "peer",
                                                 "name", "kraitcable", "netns", names[1]]]
        for side, name in enumerate(names):
            commands += [["-n", name, "address", "add", f"10.213.7.{side + 1}/24", "dev", "kraitcable"],
                         ["-n", name, "link", "set", "kraitcable", "up"], ["-n", name, "link", "set", "lo", "up"]]
        for command in commands:
            made = subprocess.run([ip, *command], capture_output=True, text=True, check=False)
            if made.returncode != 0:
                print(f"skipped: no network between namespaces here: {' '.join(command)}: {made.stderr.strip()}")
                return
        local, apart = Run(binary, root, "local", 30), Run(binary, root, "apart", 30)
        status, _, err = local.finish("--processes", "2", "--threads", "1")
        assert status == 0, err
        place = {"WORLD_SIZE": 2, "MASTER_ADDR": "10.213.7.1", "MASTER_PORT": 29513}
        for interface in ({}, {"GLOO_SOCKET_IFNAME": "kraitcable"}):
            shutil.rmtree(apart.folder, ignore_errors=True)
            both = [apart.start("--threads", "1", before=[ip, "netns", "exec", name], RANK=rank, **place, **interface)
                    for rank, name in enumerate(names)]
            for process in both:
                _, err = process.communicate(timeout=120)
                assert process.returncode == 0, err
            assert apart.entries("loss") == local.entries("loss"), "another curve than on one machine"
        # The cable is cut: both say who is missed, under its address.
        cut = Run(binary, root, "cut", 100000)
        both = [cut.start("--threads", "1", "--timeout", "5", before=[ip, "netns", "exec", name], RANK=rank, **place)
                for rank, name in enumerate(names)]
        cut.wait_for_checkpoint(both[0])
        subprocess.run([ip, "-n", names[1], "link", "set", "kraitcable", "down"], check=True)
        for rank, process in enumerate(both):
            _, err = process.communicate(timeout=120)
            assert process.returncode == 1, err
            assert f"rank {rank} of 2 could not" in err and f"10.213.7.{2 - rank}" in err, err
        print("ok between network namespaces, and with the cable cut")
    finally:
        for name in names:
            subprocess.run([ip, "netns", "delete", name], capture_output=True, check=False)


TESTS = (refused, alone_under_a_launcher, one_curve, killed, mixtures, named_and_ended, under_torchrun, between_namespaces)


def main(binary, only=None):
    for test in TESTS:
        if only not in (None, test.__name__):
            continue
        root = tempfile.mkdtemp(prefix="krait_processes_")
        try:
            test(os.path.abspath(binary), root)
        finally:
            shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
