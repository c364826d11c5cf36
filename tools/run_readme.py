#!/usr/bin/env python3
"""Runs the commands that README.md shows, so that they stay true. Blocks whose fence says `sh run` are run in order,
each in a bash of its own at the root of the project, in an environment that holds nothing of the caller's but where
compiled files are cached. The first command that fails ends it.

    tools/run_readme.py [--file README.md] [--skip COMMAND]…

--skip leaves out lines that are exactly this command, for what another stage has just run.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BLOCK = re.compile(r"^```sh run\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KEPT = ("CCACHE_DIR", "CMAKE_BUILD_PARALLEL_LEVEL", "TMPDIR")
SECONDS_PER_BLOCK = 1800


def runnable_blocks(text, skipped=()):
    blocks = []
    for match in BLOCK.finditer(text):
        lines = [line for line in match.group(1).splitlines() if line.strip() not in skipped]
        if any(line.strip() for line in lines):
            blocks.append("\n".join(lines) + "\n")
    return blocks


def clean_environment(home):
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    environment.update(HOME=home, LANG="C.UTF-8", PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    return environment


def run_block(block, directory, home):
    """bash prints each line as it reads it (-v), stops at the first failure (-e, pipefail), and has no stdin."""
    with tempfile.NamedTemporaryFile("w", suffix=".sh", encoding="utf-8") as script:
        script.write(block)
        script.flush()
        command = ["bash", "--norc", "-euv", "-o", "pipefail", script.name]
        return subprocess.run(command, cwd=directory, env=clean_environment(home), stdin=subprocess.DEVNULL,
                              stderr=subprocess.STDOUT, timeout=SECONDS_PER_BLOCK, check=False).returncode


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--file", type=Path, default=root / "README.md")
    parser.add_argument("--skip", action="append", default=[], metavar="COMMAND")
    options = parser.parse_args(arguments)
    blocks = runnable_blocks(options.file.read_text(encoding="utf-8"), options.skip)
    if not blocks:
        print(f"{options.file} has no block to run")
        return 1
    with tempfile.TemporaryDirectory() as home:
        for number, block in enumerate(blocks, 1):
            start = time.monotonic()
            print(f"---- block {number} of {len(blocks)}", flush=True)
            try:
                status = run_block(block, options.file.resolve().parent, home)
            except subprocess.TimeoutExpired:
                status = f"nothing, it was still running after {SECONDS_PER_BLOCK} s"
            if status != 0:
                print(f"---- block {number} of {len(blocks)} ended with {status}")
                return 1
            print(f"---- block {number} of {len(blocks)}: ok, {time.monotonic() - start:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
