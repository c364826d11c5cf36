#!/usr/bin/env python3
"""States as a user meets them: krait read, run --state, --save and --cache, and krait state.

usage: state_test.py KRAIT_BINARY [unittest arguments]
"""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

BINARY = os.path.abspath(sys.argv.pop(1))
SOURCE = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
GOLDEN = os.path.join(SOURCE, "tests", "golden")
# Words of stories, so that any length of text can be had.
WORDS = ("the king had three daughters and the youngest was so beautiful that even the sun wondered whenever it shone "
         "on her face near the castle lay a great dark forest and under an old lime tree was a well").split()


def krait(*arguments, stdin=""):
    return subprocess.run([BINARY, *map(str, arguments)], input=stdin, capture_output=True, text=True, timeout=300)


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)

    def path(self, name, text=None):
        path = os.path.join(self.folder, name)
        if text is not None:
            with open(path, "w", encoding="utf-8") as stream:
                stream.write(text)
        return path

    def story(self, name, words, seed=1):
        chosen = random.Random(seed)
        return self.path(name, " ".join(chosen.choice(WORDS) for _ in range(words)) + ".")

    def succeed(self, *arguments):
        result = krait(*arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result

    def answer(self, *arguments):
        return json.loads(self.succeed(*arguments, "--json").stdout)

    def fail(self, status, *arguments):
        result = krait(*arguments)
        self.assertEqual(result.returncode, status, result.stdout + result.stderr)
        return result.stderr


class Read(Case):
    def test_a_state_stands_for_the_text_it_has_read(self):
        book, state = self.story("book.txt", 3000), self.path("book.state")
        read = self.answer("read", "-f", book, "-o", state)
        self.assertTrue(read["complete"])
        self.assertEqual(read["text_bytes"], os.path.getsize(book))
        prompt = " And then"
        with open(book, encoding="utf-8") as stream:
            whole = self.answer("run", "--greedy", "-n", 60, stream.read() + prompt)
        onward = self.answer("run", "--greedy", "-n", 60, "--state", state, prompt)
        self.assertEqual(onward["ids"], whole["ids"])
        self.assertLess(onward["prompt_tokens"], 5)

    def test_the_file_does_not_grow_with_the_text(self):
        sizes = set()
        for words in (100, 2000, 20000):
            state = self.path("book.state")
            self.succeed("read", "-f", self.story("book.txt", words), "-o", state)
            sizes.add(os.path.getsize(state) // 1000)  # the digits of numbers in the header may differ
        self.assertEqual(len(sizes), 1, sizes)

    def test_standard_input_is_read_too(self):
        book, left, right = self.story("book.txt", 500), self.path("left.state"), self.path("right.state")
        self.succeed("read", "-f", book, "-o", left)
        with open(book, encoding="utf-8") as stream:
            self.assertEqual(krait("read", "-f", "-", "-o", right, stdin=stream.read()).returncode, 0)
        self.assertEqual(self.succeed("state", "diff", left, right).stdout, "the same state\n")

    def test_ctrl_c_leaves_a_state_and_resume_goes_on(self):
        book, state, whole = self.story("book.txt", 60000), self.path("book.state"), self.path("whole.state")
        reading = subprocess.Popen([BINARY, "read", "-f", book, "-o", state, "--json", "--save-every", "0.2"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(600):  # until it has begun
            if os.path.exists(state):
                break
            time.sleep(0.05)
        reading.send_signal(signal.SIGINT)
        out, err = reading.communicate(timeout=120)
        self.assertEqual(reading.returncode, 130, err)
        first = json.loads(out)
        self.assertFalse(first["complete"])
        self.assertEqual(self.succeed("state", "verify", "--bundled", state).stdout, f"{state}: ok\n")
        second = self.answer("read", "-f", book, "-o", state, "--resume")
        self.assertTrue(second["complete"])
        self.assertEqual(second["position"], first["position"] + second["tokens_read"])
        self.succeed("read", "-f", book, "-o", whole)
        # Chunks end at the same positions, whenever it was stopped.
        self.assertEqual(self.succeed("state", "diff", state, whole).stdout, "the same state\n")

    def test_resume_refuses_another_text(self):
        state = self.path("book.state")
        self.succeed("read", "-f", self.story("book.txt", 500, seed=1), "-o", state)
        other = self.story("other.txt", 900, seed=2)
        self.assertIn("does not begin with the", self.fail(1, "read", "-f", other, "-o", state, "--resume"))

    def test_kill_leaves_the_last_saved_state(self):
        book, state = self.story("book.txt", 60000), self.path("book.state")
        reading = subprocess.Popen([BINARY, "read", "-f", book, "-o", state, "--save-every", "0.1"],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            if os.path.exists(state):
                break
            time.sleep(0.05)
        time.sleep(0.3)
        reading.kill()
        reading.wait()
        self.assertEqual(self.succeed("state", "verify", state).stdout, f"{state}: ok\n")

    def test_what_cannot_be_read_is_named(self):
        state = self.path("a.state")
        self.assertIn("nowhere.txt", self.fail(1, "read", "-f", self.path("nowhere.txt"), "-o", state))
        self.assertIn("no text", self.fail(1, "read", "-f", self.path("empty.txt", ""), "-o", state))
        self.assertFalse(os.path.exists(state))


class Run(Case):
    def test_saved_states_go_on_draw_for_draw(self):
        for more in ([], ["--state-dtype", "bf16"]):
            whole = self.answer("run", "-n", 60, "--seed", 5, *more, "The fox")
            state, again = self.path("fox.state"), self.path("again.state")
            ids = self.answer("run", "-n", 25, "--seed", 5, "--save", state, *more, "The fox")["ids"]
            ids += self.answer("run", "-n", 15, "--state", state, "--save", again, *more)["ids"]
            ids += self.answer("run", "-n", 20, "--state", again, *more)["ids"]
            self.assertEqual(ids, whole["ids"], more)

    def test_penalties_remember_what_was_written_before(self):
        options = ["--seed", 3, "--repetition-penalty", "1.3", "--frequency-penalty", "0.4"]
        whole = self.answer("run", "-n", 50, *options, "The fox")
        state = self.path("fox.state")
        ids = self.answer("run", "-n", 30, *options, "--save", state, "The fox")["ids"]
        ids += self.answer("run", "-n", 20, "--state", state)["ids"]
        self.assertEqual(ids, whole["ids"])

    def test_options_of_the_sampler_replace_those_of_the_state(self):
        state = self.path("fox.state")
        self.succeed("run", "-n", 5, "--seed", 5, "--save", state, "The fox")
        self.assertEqual(self.answer("run", "-n", 5, "--state", state)["seed"], 5)
        self.assertEqual(self.answer("run", "-n", 5, "--state", state, "--seed", 6)["seed"], 6)

    def test_int8_states_write_two_hundred_tokens(self):
        whole = self.answer("run", "--greedy", "-n", 200, "--ignore-eos", "--state-dtype", "int8", "Once upon a time")
        state = self.path("a.state")
        ids = self.answer("run", "--greedy", "-n", 90, "--ignore-eos", "--state-dtype", "int8", "--save", state,
                          "Once upon a time")["ids"]
        ids += self.answer("run", "--greedy", "-n", 110, "--ignore-eos", "--state-dtype", "int8", "--state", state)["ids"]
        self.assertEqual(ids, whole["ids"])

    def test_states_of_something_else_are_refused(self):
        state = self.path("a.state")
        self.succeed("run", "-n", 2, "--save", state, "The fox")
        for options, said in ((["--weights", "int8"], "format of weights"), (["--state-dtype", "bf16"], "dtype of"),
                              (["-m", os.path.join(GOLDEN, "mamba_tied"), "--tokenizer",
                                os.path.join(SOURCE, "models", "tales")], "another architecture")):
            message = self.fail(1, "run", "-n", 2, "--state", state, *options, "x")
            self.assertIn(said, message)
            self.assertIn("a.state", message)

    def test_damaged_files_are_refused(self):
        state = self.path("a.state")
        self.succeed("run", "-n", 2, "--save", state, "The fox")
        with open(state, "rb") as stream:
            good = stream.read()
        for name, bad in (("cut", good[:len(good) // 2]), ("flipped", good[:9000] + bytes([good[9000] ^ 4]) + good[9001:]),
                          ("empty", b""), ("other", b"x" * 4096)):
            path = self.path(name + ".state")
            with open(path, "wb") as stream:
                stream.write(bad)
            self.assertIn(name + ".state", self.fail(1, "run", "--state", path, "x"))
            self.assertRegex(self.fail(1, "state", "show", path), r"\[(state|file)\].*" + name)


class Cache(Case):
    def prompt(self, words, seed=1, change=None):
        chosen = random.Random(seed)
        text = [chosen.choice(WORDS) for _ in range(words)]
        if change is not None:
            text[change] = "dragon"
        return " ".join(text)

    def run_with(self, text, *options):
        return self.answer("run", "--greedy", "-n", 8, "--cache", self.path("cache"), *options, text)

    def test_each_prompt_is_read_once(self):
        first = self.run_with(self.prompt(900))
        self.assertEqual(first["cache"]["reused_tokens"], 0)
        again = self.run_with(self.prompt(900))
        self.assertEqual(again["cache"]["computed_tokens"], 0)
        self.assertIn("hit", again["cache"]["lookup"])
        self.assertEqual(again["ids"], first["ids"])
        longer = self.run_with(self.prompt(900) + " and the wolf")
        self.assertLess(longer["cache"]["computed_tokens"], 10)

    def test_an_edited_prompt_is_read_from_a_state_shortly_before_the_edit(self):
        whole = self.run_with(self.prompt(1200))
        tokens = whole["cache"]["computed_tokens"]
        edited = self.run_with(self.prompt(1200, change=600))
        same = json.loads(self.succeed("tokenize", "--json", self.prompt(1200)).stdout)["ids"]
        other = json.loads(self.succeed("tokenize", "--json", self.prompt(1200, change=600)).stdout)["ids"]
        common = next(i for i, (a, b) in enumerate(zip(same, other)) if a != b)
        self.assertGreaterEqual(edited["cache"]["reused_tokens"], common - 256)
        self.assertGreater(tokens, 1200)
        self.assertEqual(self.run_with(self.prompt(1200))["cache"]["computed_tokens"], 0)
        alone = self.answer("run", "--greedy", "-n", 8, self.prompt(1200, change=600))
        self.assertEqual(edited["ids"], alone["ids"])

    def test_another_model_does_not_meet_these_states(self):
        self.run_with(self.prompt(300))
        other = self.run_with(self.prompt(300), "--weights", "int8")
        self.assertEqual(other["cache"]["reused_tokens"], 0)

    def test_a_folder_that_is_in_use_is_done_without(self):
        cache = self.path("cache")
        holder = subprocess.Popen([BINARY, "run", "--cache", cache, "-n", "200000", "--ignore-eos", "Once"],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for _ in range(200):
                if os.path.exists(os.path.join(cache, "LOCK")):
                    break
                time.sleep(0.05)
            result = self.succeed("run", "--cache", cache, "-n", 4, "--greedy", "Once upon a time")
            self.assertIn("going on without --cache", result.stderr)
        finally:
            holder.kill()
            holder.wait()


class State(Case):
    def setUp(self):
        super().setUp()
        self.state = self.path("a.state")
        self.succeed("run", "-n", 4, "--greedy", "--save", self.state, "The fox was")

    def test_show_says_what_it_is(self):
        about = json.loads(self.succeed("state", "show", "--json", self.state).stdout)
        self.assertEqual(about["architecture"], "mamba2")
        self.assertIn({"recurrent", "conv_window", "logits", "tokens"}, [{s["role"] for s in about["sections"]}])
        self.assertIn("layers.0.ssm", self.succeed("state", "show", self.state).stdout)
        self.assertTrue(self.succeed("state", "show", "--text", self.state).stdout.startswith("The fox was"))

    def test_convert_there_and_back(self):
        small, back, packed = self.path("small.state"), self.path("back.state"), self.path("packed.state")
        self.succeed("state", "convert", "--state-dtype", "int8", self.state, small)
        self.assertLess(os.path.getsize(small), os.path.getsize(self.state) / 2.5)
        self.succeed("run", "--state-dtype", "int8", "--state", small, "-n", 4, " and")
        self.succeed("state", "convert", "--state-dtype", "f32", small, back)
        self.succeed("run", "--state", back, "-n", 4, " and")
        self.succeed("state", "convert", "--zstd", self.state, packed)
        self.assertEqual(self.succeed("state", "diff", self.state, packed).stdout, "the same state\n")
        self.assertIn("--force", self.fail(1, "state", "convert", self.state, packed))

    def test_diff_says_where(self):
        other = self.path("b.state")
        self.succeed("run", "-n", 5, "--greedy", "--save", other, "The fox was")
        result = krait("state", "diff", self.state, other)
        self.assertEqual(result.returncode, 1)
        self.assertIn("position", result.stdout)
        self.assertIn("layers.0.ssm", result.stdout)

    def test_verify_names_the_damaged_one(self):
        bad = self.path("bad.state")
        with open(self.state, "rb") as stream:
            content = bytearray(stream.read())
        content[-20] ^= 1
        with open(bad, "wb") as stream:
            stream.write(content)
        result = krait("state", "verify", self.state, bad)
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stdout.splitlines()[0], f"{self.state}: ok")
        self.assertIn("damaged", result.stdout.splitlines()[1])


if __name__ == "__main__":
    unittest.main()
