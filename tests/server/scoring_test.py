#!/usr/bin/env python3
"""krait serve asked for what is no reply: logprobs of prompts, as evaluation harnesses ask, and vectors of texts.

usage: scoring_test.py KRAIT_BINARY [unittest arguments]
"""
import base64
import json
import math
import os
import struct
import subprocess
import sys
import tempfile
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from served import Served, events  # noqa: E402

BINARY = os.path.abspath(sys.argv.pop(1))
PROMPT = "Once upon a time there was a fox who lived in a wood"


def logits_of(ids):
    run = subprocess.run([BINARY, "logits", "--json", "--ids", ",".join(map(str, ids))], capture_output=True, text=True,
                         check=True)
    return json.loads(run.stdout)["logits"]


def log_softmax(row):
    largest = max(row)
    total = math.log(sum(math.exp(value - largest) for value in row)) + largest
    return [value - total for value in row]


class Scoring(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Served(BINARY)

    @classmethod
    def tearDownClass(cls):
        status = cls.server.stop()
        assert status == 0, (status, cls.server.log[-5:])

    def tearDown(self):
        self.assertTrue(self.server.until(self.server.no_sequences), "sequences are left over")

    def ids(self, text):
        return self.server.json("POST", "/tokenize", {"prompt": text, "add_special_tokens": False})["tokens"]

    def complete(self, **body):
        return self.server.json("POST", "/v1/completions", {"temperature": 0, **body})

    def embed(self, status=200, **body):
        return self.server.json("POST", "/v1/embeddings", body, status=status)

    def test_logprobs_of_a_prompt_are_those_of_krait_logits(self):
        ids = self.ids(PROMPT)
        choice = self.complete(prompt=ids, echo=True, logprobs=3, max_tokens=4)["choices"][0]
        logprobs = choice["logprobs"]
        # 1 + 1e-6 relative of sums of 1e3 terms in double; floats are printed with all their digits.
        rows = [log_softmax(row) for row in logits_of(ids)]
        self.assertEqual(len(logprobs["tokens"]), len(ids) + 4)
        self.assertIsNone(logprobs["token_logprobs"][0])
        self.assertIsNone(logprobs["top_logprobs"][0])
        for i in range(1, len(ids)):
            # Token by token and in one piece: equal within the rounding of the model's own arithmetic.
            self.assertAlmostEqual(logprobs["token_logprobs"][i], rows[i - 1][ids[i]], delta=2e-3)
            top = logprobs["top_logprobs"][i]
            self.assertEqual(len(top), 3)
            for value, expected in zip(sorted(top.values(), reverse=True), sorted(rows[i - 1], reverse=True)):
                self.assertAlmostEqual(value, expected, delta=2e-3)
        self.assertEqual("".join(logprobs["tokens"]), choice["text"])
        self.assertEqual(logprobs["text_offset"],
                         [len("".join(logprobs["tokens"][:i])) for i in range(len(logprobs["tokens"]))])
        # What follows is what follows without all that.
        plain = self.complete(prompt=ids, max_tokens=4)["choices"][0]["text"]
        self.assertTrue(choice["text"].endswith(plain))

    def test_the_prompt_alone_streamed_and_several_at_once(self):
        ids = self.ids(PROMPT)
        alone = self.complete(prompt=ids, echo=True, logprobs=1, max_tokens=0)["choices"][0]
        self.assertEqual(len(alone["logprobs"]["tokens"]), len(ids))
        self.assertEqual(alone["finish_reason"], "length")
        parts = events(self.server.ask("POST", "/v1/completions", {"prompt": ids, "echo": True, "logprobs": 1,
                                                                   "max_tokens": 0, "stream": True})[2])
        streamed = [part["choices"][0]["logprobs"] for part in parts[:-1] if part["choices"]]
        self.assertEqual([value for one in streamed if one for value in one["token_logprobs"]],
                         alone["logprobs"]["token_logprobs"])
        # A harness asks for many texts at once, some of which begin alike.
        many = self.complete(prompt=[ids[:n] for n in range(2, len(ids) + 1)], echo=True, logprobs=1, max_tokens=1)
        for n, choice in zip(range(2, len(ids) + 1), many["choices"]):
            self.assertEqual(len(choice["logprobs"]["tokens"]), n + 1)
            for value, expected in zip(choice["logprobs"]["token_logprobs"][1:n],
                                       alone["logprobs"]["token_logprobs"][1:n]):
                self.assertAlmostEqual(value, expected, delta=2e-3)

    def test_vectors_have_the_length_one_and_do_not_depend_on_the_batch(self):
        texts = [PROMPT, "The king had three daughters.", PROMPT, "a"]
        answer = self.embed(input=texts)
        vectors = [one["embedding"] for one in answer["data"]]
        self.assertEqual([one["index"] for one in answer["data"]], [0, 1, 2, 3])
        self.assertEqual(vectors[0], vectors[2])
        for vector in vectors:
            self.assertAlmostEqual(sum(value * value for value in vector), 1, places=5)
        self.assertLess(sum(a * b for a, b in zip(vectors[0], vectors[1])), 0.9999)
        for text, vector in zip(texts, vectors):
            self.assertEqual(self.embed(input=text)["data"][0]["embedding"], vector)
        self.assertEqual(answer["usage"]["prompt_tokens"],
                         sum(self.embed(input=text)["usage"]["prompt_tokens"] for text in texts))
        # Beside others who write.
        stop = threading.Event()

        def write():
            while not stop.is_set():
                self.complete(prompt=PROMPT, max_tokens=30)
        writers = [threading.Thread(target=write) for _ in range(3)]
        for writer in writers:
            writer.start()
        try:
            for _ in range(5):
                self.assertEqual(self.embed(input=texts[1])["data"][0]["embedding"], vectors[1])
        finally:
            stop.set()
            for writer in writers:
                writer.join()

    def test_forms_of_vectors(self):
        floats = self.embed(input=PROMPT)["data"][0]["embedding"]
        coded = self.embed(input=PROMPT, encoding_format="base64")["data"][0]["embedding"]
        self.assertEqual(list(struct.unpack(f"<{len(floats)}f", base64.b64decode(coded, validate=True))),
                         [struct.unpack("<f", struct.pack("<f", value))[0] for value in floats])
        self.assertEqual(self.embed(input=PROMPT, dimensions=len(floats))["data"][0]["embedding"], floats)
        self.assertEqual(self.embed(400, input=PROMPT, dimensions=8)["error"]["param"], "dimensions")
        last = self.embed(input=PROMPT, pooling="last")["data"][0]["embedding"]
        self.assertEqual(len(last), len(floats))
        self.assertNotEqual(last, floats)
        state = self.embed(input=PROMPT, pooling="state")["data"][0]["embedding"]
        self.assertAlmostEqual(sum(value * value for value in state), 1, places=5)
        self.assertEqual(self.embed(400, input=[])["error"]["param"], "input")
        self.assertEqual(self.embed(404, input="a", model="other")["error"]["code"], "model_not_found")
        self.assertEqual(self.embed(400, input=[10**8])["error"]["type"], "invalid_request_error")

    def test_a_long_list_is_read_in_turns(self):
        texts = [f"text {i}" for i in range(700)]
        answer = self.embed(input=texts)
        self.assertEqual(len(answer["data"]), 700)
        self.assertEqual(answer["data"][699]["embedding"], self.embed(input="text 699")["data"][0]["embedding"])

    def test_ollamas_routes(self):
        vector = self.embed(input=PROMPT)["data"][0]["embedding"]
        answer = self.server.json("POST", "/api/embed", {"input": ["a", PROMPT]})
        self.assertEqual(answer["embeddings"][1], vector)
        self.assertGreater(answer["prompt_eval_count"], 0)
        self.assertEqual(self.server.json("POST", "/api/embeddings", {"prompt": PROMPT})["embedding"], vector)
        self.assertIn("error", self.server.json("POST", "/api/embed", {"input": []}, status=400))


class AtTheStart(unittest.TestCase):
    def line_of(self, *arguments):
        server = Served(BINARY, *arguments)
        line = server.process.stdout.readline()
        self.assertEqual(server.stop(), 0)
        return line.strip()

    def test_it_says_whether_others_change_what_one_gets(self):
        self.assertEqual(self.line_of(), "same bits whoever else is served: yes")
        self.assertEqual(self.line_of("--state-dtype", "bf16"),
                         "same bits whoever else is served: no (states in bf16); --batch-invariant gives it, slower")
        self.assertEqual(self.line_of("--state-dtype", "bf16", "--batch-invariant"),
                         "same bits whoever else is served: yes, by --batch-invariant (states in bf16)")

    def test_with_a_folder_states_can_be_parked_there(self):
        with tempfile.TemporaryDirectory() as folder:
            server = Served(BINARY, "--cache", folder)
            try:
                self.assertTrue(os.path.isdir(os.path.join(folder, "parked")))
                self.assertEqual(server.metric("krait_spills_total"), 0)
            finally:
                self.assertEqual(server.stop(), 0)
            # And again, over what is there.
            server = Served(BINARY, "--cache", folder)
            self.assertEqual(server.stop(), 0)
            self.assertFalse([line for line in server.log if "going on without" in line], server.log)


if __name__ == "__main__":
    unittest.main()
