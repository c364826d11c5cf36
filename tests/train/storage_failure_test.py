#!/usr/bin/env python3
"""krait train where its checkpoints cannot be written: a disk that is full (a small tmpfs), files that may not grow
(RLIMIT_FSIZE), a folder that is read-only. With stop_on_error = false training goes on to its end and says what was not
written; without it ends with a sentence that says why. What was committed before stays whole.

usage: storage_failure_test.py KRAIT_BINARY
"""
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile

CONFIG = """
[task]
name = "parity"
length = 16
[data]
batch = 2
[model]
mixers = ["mamba2"]
width = 64
layers = 2
states = 16
[train]
steps = {steps}
[checkpoint]
every = 2
keep = 0
stop_on_error = {stop}
[output]
folder = "{folder}"
"""


def start(binary, root, folder, stop, steps=12, before=None, arguments=()):
    config = os.path.join(root, "run.toml")
    with open(config, "w", encoding="utf-8") as file:
        file.write(CONFIG.format(folder=folder, stop=str(stop).lower(), steps=steps))
    return subprocess.run([binary, "train", config, "--json", *arguments], capture_output=True, text=True, timeout=300,
                          check=False, preexec_fn=before)


def check(what, binary, root, folder, words, before=None, prepare=None):
    for stop in (False, True):
        shutil.rmtree(os.path.join(folder, "checkpoints"), ignore_errors=True)
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                os.remove(path)
        undo = prepare() if prepare else None
        process = start(binary, root, folder, stop, before=before)
        if undo:
            undo()
        if stop:
            assert process.returncode == 1, (what, process.returncode, process.stderr)
            last = process.stderr.strip().splitlines()
            assert any("error:" in line and any(word in line for word in words) for line in last), (what, last)
        else:
            assert process.returncode == 0, (what, process.returncode, process.stderr)
            assert json.loads(process.stdout)["steps"] == 12, process.stdout
            assert any(word in process.stderr for word in words), (what, process.stderr)
        assert process.returncode >= 0, (what, process.returncode)
    print("ok", what)


# The first checkpoints fit, the others do not.
def full_disk(binary, root):
    folder = os.path.join(root, "small")
    os.mkdir(folder)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True,
                             check=False)
    if mounted.returncode != 0:
        print("skipped: no tmpfs can be mounted here")
        return
    try:
        check("a full disk", binary, root, folder, ("No space left",))
    finally:
        subprocess.run(["umount", folder], check=False)


# A limit on the size of files gives an error of the same kind as a full disk. Python's children ignore SIGXFSZ.
def files_that_may_not_grow(binary, root):
    folder = os.path.join(root, "limited")
    os.mkdir(folder)

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200 << 10, 200 << 10))

    check("files that may not grow", binary, root, folder, ("File too large",), before=limit)


# A tmpfs that becomes read-only between two runs; root may write into any other folder.
def read_only_disk(binary, root):
    folder = os.path.join(root, "read_only")
    os.mkdir(folder)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], capture_output=True,
                             check=False)
    if mounted.returncode != 0:
        print("skipped: no tmpfs can be mounted here")
        return
    try:
        checkpoints = os.path.join(folder, "checkpoints")

        def prepare():
            # The log can be written, checkpoints cannot.
            os.mkdir(checkpoints)
            subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", checkpoints], check=True)
            return lambda: subprocess.run(["umount", checkpoints], check=True)

        check("a read-only disk", binary, root, folder, ("Read-only file system",), prepare=prepare)
    finally:
        subprocess.run(["umount", folder], check=False)


def main(binary):
    root = tempfile.mkdtemp(prefix="krait_storage_")
    try:
        files_that_may_not_grow(binary, root)
        full_disk(binary, root)
        read_only_disk(binary, root)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
