#!/usr/bin/env python3
"""openapi.json before OpenAPI's own schema, and real answers of krait serve before openapi.json, with validators of npm.

usage: openapi_test.py KRAIT_BINARY BUILD_FOLDER
"""
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from npm_peer import install  # noqa: E402

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "page_peer")


def main(binary, build):
    install(SOURCE, build)
    return subprocess.run(["node", "--test", "--test-reporter=spec", "openapi.test.mjs"], cwd=build, check=False,
                          env={**os.environ, "KRAIT_BINARY": os.path.abspath(binary)}).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
