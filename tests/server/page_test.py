#!/usr/bin/env python3
"""The page of krait serve in a real browser: headless Chromium, driven by npm's playwright-core. What was seen is kept
in BUILD_FOLDER/screenshots.

usage: page_test.py KRAIT_BINARY BUILD_FOLDER [test files]
Exit status 77 where there is no Chromium.
"""
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from npm_peer import install  # noqa: E402

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "page_peer")
TESTS = ["page_parts.test.mjs", "page.test.mjs", "page_states.test.mjs", "page_access.test.mjs"]


def main(binary, build, *tests):
    chromium = os.environ.get("KRAIT_CHROMIUM") or shutil.which("chromium")
    if not chromium:
        print("skipped: no chromium (./dev setup test installs it)")
        return 77
    install(SOURCE, build)
    screenshots = os.path.join(build, "screenshots")
    os.makedirs(screenshots, exist_ok=True)
    environment = {**os.environ, "KRAIT_BINARY": os.path.abspath(binary), "KRAIT_CHROMIUM": chromium,
                   "KRAIT_SCREENSHOTS": os.path.abspath(screenshots)}
    # One after another: a browser and a server each are enough for two cores.
    command = ["node", "--test", "--test-concurrency=1", "--test-reporter=spec", "--test-timeout=90000",
               *(tests or TESTS)]
    return subprocess.run(command, cwd=build, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
