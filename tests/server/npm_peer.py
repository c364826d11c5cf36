"""Folders of tests that need packages from npm: copied into the build folder, and installed there once, by their lock
file."""
import fcntl
import os
import shutil
import subprocess


def read(path):
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def install(source, build):
    os.makedirs(build, exist_ok=True)
    stamp = os.path.join(build, "installed")
    wanted = read(os.path.join(source, "package-lock.json"))
    with open(os.path.join(build, "lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in os.listdir(source):
            wanted_file, file = os.path.join(source, name), os.path.join(build, name)
            # What is as it should be is left alone: another test may be reading it.
            if os.path.isfile(wanted_file) and read(wanted_file) != read(file):
                shutil.copy(wanted_file, file)
        if read(stamp) == wanted:
            return
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=build, check=True, stdout=subprocess.DEVNULL)
        with open(stamp, "w", encoding="utf-8") as stream:
            stream.write(wanted)
