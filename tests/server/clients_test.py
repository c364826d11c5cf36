#!/usr/bin/env python3
"""krait serve with the clients that people have: npm's `openai`, `ollama` and `ai`, unmodified.

usage: clients_test.py KRAIT_BINARY BUILD_FOLDER [unittest arguments]
"""
import os
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from npm_peer import install  # noqa: E402
from served import Served, key_file, templated_model  # noqa: E402

BINARY = os.path.abspath(sys.argv.pop(1))
BUILD = os.path.abspath(sys.argv.pop(1))
SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "client_peer")


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        install(SOURCE, BUILD)

    def run_client(self, script, *arguments):
        path = key_file("alice sk-alice-key\n")
        self.addCleanup(os.unlink, path)
        server = Served(BINARY, "--api-key-file", path, *arguments)
        alice = {"authorization": "Bearer sk-alice-key"}
        try:
            run = subprocess.run(["node", "--test", script], cwd=BUILD, capture_output=True, text=True, timeout=600,
                                 env={**os.environ, "KRAIT_URL": f"http://127.0.0.1:{server.port}",
                                      "KRAIT_KEY": "sk-alice-key"})
            self.assertEqual(run.returncode, 0, run.stdout + run.stderr + "".join(server.log[-20:]))
            self.assertTrue(server.until(lambda: server.no_sequences(alice)))
        finally:
            self.assertEqual(server.stop(), 0)

    def test_openai(self):
        self.run_client("openai_client.test.mjs")

    def test_ollama(self):
        self.run_client("ollama_client.test.mjs")

    def test_openai_tools_and_schemas(self):
        self.run_client("openai_tools.test.mjs")

    def test_openai_tools_with_a_template(self):
        folder = templated_model()
        self.addCleanup(shutil.rmtree, folder)
        self.run_client("openai_tools.test.mjs", "-m", folder)

    def test_openai_responses(self):
        self.run_client("openai_responses.test.mjs")

    def test_ai_sdk(self):
        self.run_client("ai_sdk_client.test.mjs")


if __name__ == "__main__":
    unittest.main()
