#!/usr/bin/env python3
"""The program as a user meets it: what it prints, where, and with which exit status.

usage: cli_test.py KRAIT_BINARY [unittest arguments]
"""
import json
import math
import os
import pty
import re
import resource
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

BINARY = os.path.abspath(sys.argv.pop(1))
SOURCE = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUNDLED = os.path.join(SOURCE, "models", "tales")
GOLDEN = os.path.join(SOURCE, "tests", "golden")


def krait(*arguments, stdin="", timeout=300, env=None, folder=None):
    return subprocess.run([BINARY, *arguments], input=stdin, capture_output=True, text=True, timeout=timeout,
                          env={**os.environ, **(env or {})}, cwd=folder)


def simd_targets():
    """What --help says that KRAIT_TARGET may be on this machine, best first."""
    targets = re.findall(r"\b[A-Z][A-Z0-9_]+\b", krait("--help").stdout.split("KRAIT_TARGET")[1])
    assert targets, "--help names no SIMD target"
    return targets


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)

    def path(self, name, content=None):
        path = os.path.join(self.folder, name)
        if content is not None:
            with open(path, "wb") as stream:
                stream.write(content)
        return path

    def succeed(self, *arguments, **options):
        result = krait(*arguments, **options)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def fail_with(self, status, *arguments, **options):
        result = krait(*arguments, **options)
        self.assertEqual(result.returncode, status, result.stdout + result.stderr)
        self.assertNotEqual(result.stderr.strip(), "")
        return result.stderr


class Run(Case):
    def test_a_prompt_becomes_a_story_on_stdout_and_notes_on_stderr(self):
        result = krait("run", "-n", "40", "--seed", "3", "Once upon a time")
        self.assertEqual(result.returncode, 0)
        self.assertGreater(len(result.stdout.split()), 10)
        self.assertNotIn("Once upon a time", result.stdout)
        self.assertRegex(result.stderr, r"prompt \d+ tokens, [\d.]+ tokens/s · text 40 tokens, [\d.]+ tokens/s · "
                                        r"peak memory [\d.]+ MiB · seed 3")
        self.assertNotIn("\x1b", result.stdout + result.stderr)

    def test_a_seed_gives_the_same_text_on_any_number_of_threads(self):
        texts = {self.succeed("run", "-n", "120", "--seed", "11", "--threads", threads, "The king")
                 for threads in ("1", "2", "3")}
        self.assertEqual(len(texts), 1)
        self.assertNotIn(self.succeed("run", "-n", "120", "--seed", "12", "The king"), texts)

    def test_the_seed_of_the_closing_line_repeats_the_text(self):
        first = krait("run", "-n", "30", "A fox")
        seed = re.search(r"seed (\d+)", first.stderr).group(1)
        self.assertEqual(first.stdout, self.succeed("run", "-n", "30", "--seed", seed, "A fox"))

    def test_prompt_from_argument_file_and_stdin_are_the_same(self):
        expected = self.succeed("run", "-n", "20", "--greedy", "--echo", "The sea")
        self.assertTrue(expected.startswith("The sea"))
        file = self.path("prompt.txt", b"The sea")
        self.assertEqual(expected, self.succeed("run", "-n", "20", "--greedy", "--echo", "-f", file))
        self.assertEqual(expected, self.succeed("run", "-n", "20", "--greedy", "--echo", stdin="The sea"))

    def test_an_empty_prompt_starts_a_text(self):
        self.assertNotEqual(self.succeed("run", "-n", "5", "--seed", "1", stdin="").strip(), "")

    def test_json_holds_text_ids_and_rates(self):
        answer = json.loads(self.succeed("run", "-n", "9", "--seed", "5", "--json", "Then"))
        self.assertEqual(len(answer["ids"]), 9)
        self.assertEqual(answer["finish_reason"], "length")
        self.assertEqual(answer["seed"], 5)
        self.assertGreater(answer["decode_tokens_per_s"], 0)
        decoded = self.succeed("tokenize", "--decode", " ".join(map(str, answer["ids"])))
        self.assertEqual(decoded, answer["text"])

    def test_a_stop_string_ends_the_text_before_it(self):
        whole = self.succeed("run", "-n", "60", "--greedy", "Once upon a time there was a king")
        stop = whole.split()[6]
        cut = self.succeed("run", "-n", "60", "--greedy", "--stop", stop, "Once upon a time there was a king")
        self.assertEqual(cut.rstrip("\n"), whole[:whole.index(stop)])

    def test_no_tokens_wanted_gives_an_empty_text(self):
        self.assertEqual(self.succeed("run", "-n", "0", "Hi"), "\n")

    def test_a_model_without_a_tokenizer_is_refused(self):
        self.assertIn("--tokenizer", self.fail_with(1, "run", "-m", os.path.join(GOLDEN, "mamba_tied"), "Hi"))

    def test_a_tokenizer_can_come_from_elsewhere(self):
        whole = self.succeed("tokenize", "-m", os.path.join(GOLDEN, "mamba_tied"), "--tokenizer", BUNDLED, "The king")
        self.assertEqual(whole, self.succeed("tokenize", "The king"))
        # This model knows 97 of the tokenizer's 2,048 tokens: what it writes is nonsense, but it writes.
        text = self.succeed("run", "-m", os.path.join(GOLDEN, "mamba_tied"), "--tokenizer", BUNDLED, "-n", "30",
                            "--ignore-eos", "--json", "A")
        self.assertEqual(len(json.loads(text)["ids"]), 30)

    def test_a_terminal_without_a_prompt_gets_a_conversation(self):
        pid, terminal = pty.fork()
        if pid == 0:
            os.execv(BINARY, [BINARY, "run", "-n", "12", "--seed", "1"])
        def read_until(pattern, seconds=60):
            seen = ""
            end = time.time() + seconds
            while time.time() < end:
                if select.select([terminal], [], [], 0.2)[0]:
                    try:
                        seen += os.read(terminal, 4096).decode("utf-8", "replace")
                    except OSError:
                        break
                if re.search(pattern, seen):
                    return seen
            self.fail(f"waited for {pattern!r}, saw {seen!r}")
        read_until(r">(\x1b\[0m)? $")
        os.write(terminal, b"Once upon a time\n")
        first = read_until(r"\n[^\n]*>(\x1b\[0m)? $")
        self.assertGreater(len(first), 60)
        os.write(terminal, b"/reset\n")
        read_until("forgotten")
        os.write(terminal, b"\x04")
        read_until("seed 1")
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)

    def test_ctrl_c_ends_in_order(self):
        process = subprocess.Popen([BINARY, "run", "-n", "1000000", "--ignore-eos", "--seed", "1", "The"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.read(40)
        process.send_signal(signal.SIGINT)
        _, notes = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130)
        self.assertIn(b"peak memory", notes)


class Inspect(Case):
    def test_tells_architecture_parameters_and_state(self):
        about = json.loads(self.succeed("inspect", "--json"))
        self.assertEqual(about["architecture"], "mamba2")
        self.assertEqual(about["parameters"], 3129120)
        # 6 layers of [16, 64, 32] states and [3, 640] windows in f32.
        self.assertEqual(about["state_bytes_per_sequence"], 6 * 4 * (16 * 64 * 32 + 3 * 640))
        self.assertEqual({t["name"] for t in about["tensors"]} >= {"backbone.norm_f.weight"}, True)
        text = self.succeed("inspect", BUNDLED)
        self.assertIn("mamba2", text)
        self.assertIn("3,129,120", text)

    def test_models_that_come_with_krait_go_by_their_names(self):
        by_name = json.loads(self.succeed("inspect", "tales-m3", "--json"))
        self.assertEqual(by_name["architecture"], "mamba3")
        self.assertEqual(by_name, json.loads(self.succeed("inspect", BUNDLED + "-m3", "--json")))
        self.assertIn("tales-m4", self.fail_with(1, "inspect", "tales-m4"))
        # A folder of that name comes first.
        shutil.copytree(os.path.join(GOLDEN, "mamba_tied"), os.path.join(self.folder, "tales-m3"))
        inside = krait("inspect", "tales-m3", "--json", folder=self.folder)
        self.assertEqual(json.loads(inside.stdout)["architecture"], "mamba")

    def test_shows_models_that_cannot_run(self):
        folder = os.path.join(self.folder, "other")
        shutil.copytree(os.path.join(GOLDEN, "mamba_tied"), folder)
        with open(os.path.join(folder, "config.json")) as stream:
            config = json.load(stream)
        config["model_type"] = "llama"
        with open(os.path.join(folder, "config.json"), "w") as stream:
            json.dump(config, stream)
        about = json.loads(self.succeed("inspect", folder, "--json"))
        self.assertFalse(about["supported"])
        self.assertIn("llama", about["problem"])
        self.assertIn("llama", self.fail_with(1, "logits", "-m", folder, "--ids", "1"))


    def test_describes_a_model_whose_weights_are_not_there(self):
        folder = os.path.join(self.folder, "outline")
        os.mkdir(folder)
        shutil.copy(os.path.join(GOLDEN, "bamba", "config.json"), folder)
        about = json.loads(self.succeed("inspect", folder, "--json"))
        whole = json.loads(self.succeed("inspect", os.path.join(GOLDEN, "bamba"), "--json"))
        self.assertFalse(about["weights_present"])
        self.assertEqual(about["parameters"], whole["parameters"])
        self.assertEqual(about["state"], whole["state"])
        self.assertEqual({t["name"] for t in about["tensors"]}, {t["name"] for t in whole["tensors"]})
        self.assertLess(about["memory"]["int4"], about["memory"]["int8"])
        self.assertIn("for every 64 tokens", self.succeed("inspect", folder))
        # An index names tensors that a configuration leaves open.
        names = {t["name"]: "model-1.safetensors" for t in whole["tensors"]}
        with open(os.path.join(folder, "model.safetensors.index.json"), "w") as stream:
            json.dump({"weight_map": names}, stream)
        indexed = json.loads(self.succeed("inspect", folder, "--json"))
        self.assertEqual(indexed["parameters"], whole["parameters"])
        self.assertIn("model-1.safetensors", self.fail_with(1, "logits", "-m", folder, "--ids", "1"))

    def test_a_model_that_does_not_fit_says_what_would(self):
        folder = os.path.join(self.folder, "huge")
        os.mkdir(folder)
        config = {"model_type": "mamba2", "hidden_size": 8192, "num_hidden_layers": 1, "num_heads": 256,
                  "head_dim": 64, "state_size": 16, "n_groups": 1, "vocab_size": 16000000,
                  "tie_word_embeddings": True, "torch_dtype": "bfloat16"}
        with open(os.path.join(folder, "config.json"), "w") as stream:
            json.dump(config, stream)
        header, at = {}, 0
        for tensor in json.loads(self.succeed("inspect", folder, "--json"))["tensors"]:
            header[tensor["name"]] = {"dtype": "BF16", "shape": tensor["shape"],
                                      "data_offsets": [at, at + tensor["bytes"]]}
            at += tensor["bytes"]
        text = json.dumps(header).encode()
        with open(os.path.join(folder, "model.safetensors"), "wb") as stream:  # holes: nothing is on the disk
            stream.write(struct.pack("<Q", len(text)) + text)
            stream.truncate(8 + len(text) + at)
        message = self.fail_with(1, "logits", "-m", folder, "--ids", "1")
        self.assertRegex(message, r"need 24\d\.\d GiB of memory and .* are left; with --weights int4 .* 6\d\.\d GiB")


class Convert(Case):
    def test_a_hybrid_as_gguf_has_the_same_logits(self):
        out = os.path.join(self.folder, "bamba.gguf")
        self.assertIn("granitehybrid", self.succeed("convert", os.path.join(GOLDEN, "bamba"), out))
        self.assertIn("--force", self.fail_with(1, "convert", os.path.join(GOLDEN, "bamba"), out))
        answers = [json.loads(self.succeed("logits", "-m", model, "--ids", "3,1,4,1,5", "--json"))["logits"]
                   for model in (os.path.join(GOLDEN, "bamba"), out)]
        scale = max(abs(x) for row in answers[0] for x in row)
        error = max(abs(a - b) for r, q in zip(*answers) for a, b in zip(r, q))
        self.assertLess(error / scale, 1e-5)

    def test_there_and_back_with_the_vocabulary(self):
        gguf, back = os.path.join(self.folder, "tales.gguf"), os.path.join(self.folder, "tales")
        self.assertIn("gpt2", self.succeed("convert", BUNDLED, gguf))
        said = self.succeed("convert", gguf, back)
        self.assertIn("tokenizer.json", said)
        self.assertEqual(sorted(os.listdir(back)),
                         ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
        text = "Once upon a time, Tim's cat  said 42 things."
        ids = {self.succeed("tokenize", "-m", model, text) for model in (BUNDLED, gguf, back)}
        self.assertEqual(len(ids), 1)
        answers = {self.succeed("logits", "-m", model, "--ids", "80,1360,738,259", "--json", "--exact-activations",
                                "--weights", "f32") for model in (gguf, back)}
        rows = [json.loads(answer)["logits"] for answer in answers]
        scale = max(abs(x) for x in rows[0][0])
        for other in rows[1:]:
            self.assertLess(max(abs(a - b) for r, q in zip(rows[0], other) for a, b in zip(r, q)) / scale, 2e-5)
        self.assertIn("--force", self.fail_with(1, "convert", gguf, back))
        wide = self.succeed("convert", gguf, back, "--force", "--dtype", "f32")
        self.assertIn("mamba2", wide)
        with open(os.path.join(back, "config.json"), encoding="utf-8") as file:
            self.assertEqual(json.load(file)["torch_dtype"], "float32")

    def test_says_which_side_is_wrong(self):
        gguf = os.path.join(self.folder, "m.gguf")
        self.succeed("convert", os.path.join(GOLDEN, "mamba_tied"), gguf)
        self.assertIn("already", self.fail_with(1, "convert", gguf, os.path.join(self.folder, "n.gguf")))
        self.assertIn("--dtype f32", self.fail_with(1, "convert", os.path.join(GOLDEN, "mamba_tied"), gguf, "--force",
                                                    "--dtype", "f32"))
        self.assertIn("q4", self.fail_with(2, "convert", gguf, self.folder, "--dtype", "q4"))
        self.assertIn("not a folder", self.fail_with(1, "convert", gguf, __file__, "--force"))

    def test_refuses_what_has_no_place_there(self):
        out = os.path.join(self.folder, "z.gguf")
        self.assertIn("zamba2", self.fail_with(1, "convert", os.path.join(GOLDEN, "zamba2"), out))
        self.assertIn(".gguf", self.fail_with(1, "convert", os.path.join(GOLDEN, "bamba"), self.folder))


class Logits(Case):
    def test_json_has_ids_shape_and_logits_whatever_the_chunk(self):
        whole = json.loads(self.succeed("logits", "--ids", "80,1360,738,259", "--json"))
        self.assertEqual(whole["ids"], [80, 1360, 738, 259])
        self.assertEqual(whole["shape"], [4, 2048])
        self.assertEqual([len(row) for row in whole["logits"]], [2048] * 4)
        cut = json.loads(self.succeed("logits", "--ids", "80,1360,738,259", "--json", "--chunk", "1"))
        scale = max(abs(x) for row in whole["logits"] for x in row)
        error = max(abs(a - b) for r, q in zip(whole["logits"], cut["logits"]) for a, b in zip(r, q))
        self.assertLess(error / scale, 2e-5)

    def test_every_simd_target_gives_the_same_up_to_rounding(self):
        answers = []
        for target in simd_targets():
            answer = self.succeed("logits", "--ids", "80,1360,738,259", "--json", env={"KRAIT_TARGET": target})
            answers.append([x for row in json.loads(answer)["logits"] for x in row])
        scale = max(abs(x) for x in answers[0])
        for other in answers[1:]:
            self.assertLess(max(abs(a - b) for a, b in zip(answers[0], other)) / scale, 2e-5)

    def test_a_token_outside_the_vocabulary_is_a_usage_error(self):
        message = self.fail_with(2, "logits", "--ids", "1,2048")
        self.assertIn("2048", message)
        self.assertIn("2047", message)


class Tokenize(Case):
    def test_there_and_back(self):
        text = "Once upon a time — a café, 日本語 and\n\ttabs."
        ids = self.succeed("tokenize", text)
        self.assertEqual(self.succeed("tokenize", "--decode", ids), text)
        answer = json.loads(self.succeed("tokenize", "--json", text))
        self.assertEqual(answer["ids"], [int(i) for i in ids.split()])

    def test_ids_that_are_none_are_a_usage_error(self):
        self.assertIn("seven", self.fail_with(2, "tokenize", "--decode", "1 seven"))


class TrainTokenizer(Case):
    TEXT = b"Once upon a time there was a king, and the king had three daughters.\n" * 20

    def test_a_text_makes_a_tokenizer_that_brings_texts_back(self):
        text = self.path("text.txt", self.TEXT)
        out = self.path("tokenizer.json")
        self.assertRegex(self.succeed("train-tokenizer", text, "-o", out, "--vocabulary", "280"),
                         r"tokenizer.json: 280 tokens; 1.3 KiB of text are \d+ tokens of \d\.\d\d bytes")
        odd = "The king — a café, 日本語 and\n\ttabs."
        ids = self.succeed("tokenize", "--tokenizer", out, odd)
        self.assertEqual(self.succeed("tokenize", "--tokenizer", out, "--decode", ids), odd)
        self.assertLess(max(int(i) for i in ids.split()), 280)

    def test_json_counts_what_the_tokenizer_makes_of_the_texts(self):
        texts = [self.path(name, self.TEXT) for name in ("a.txt", "b.txt")]
        folder = self.path("model")
        answer = json.loads(self.succeed("train-tokenizer", *texts, "-o", folder, "--json", "--special", "<a>", "<b>"))
        self.assertEqual(answer["tokenizer"], os.path.join(folder, "tokenizer.json"))
        self.assertEqual(answer["bytes"], 2 * len(self.TEXT))
        ids = self.succeed("tokenize", "--tokenizer", folder, "-f", texts[0]).split()
        self.assertEqual(answer["tokens"], 2 * len(ids))
        self.assertEqual(answer["vocabulary"], 2 + 256 + answer["merges"])
        self.assertEqual(self.succeed("tokenize", "--tokenizer", folder, "<b>").split(), ["1"])

    def test_says_what_is_wrong(self):
        text = self.path("text.txt", self.TEXT)
        out = self.path("tokenizer.json")
        self.assertIn("256 bytes", self.fail_with(2, "train-tokenizer", text, "-o", out, "--vocabulary", "100"))
        self.assertIn("'words'", self.fail_with(2, "train-tokenizer", text, "-o", out, "--split", "words"))
        self.assertIn("nowhere.txt", self.fail_with(1, "train-tokenizer", "nowhere.txt", "-o", out))
        self.assertIn("standard input", self.fail_with(2, "train-tokenizer", "-", "-o", out))
        self.assertFalse(os.path.exists(out))
        note = krait("train-tokenizer", text, "-o", out).stderr
        self.assertRegex(note, r"note: no pair stands 2 times any more: \d+ tokens instead of 2,048")


class Prepare(Case):
    def test_texts_become_shards_and_every_rule_says_what_it_left_out(self):
        king = "Once upon a time there was a king, and the king had three daughters who went to the sea.\n"
        fox = "A fox looked at the moon and thought that it was a cheese, which it was not by any means.\n"
        texts = self.path("texts.jsonl", "".join(
            json.dumps({"body": body}) + "\n" for body in
            [king, fox, king.replace("sea", "hill"), "$$$ ###", "x", fox + fox]).encode())
        folder = self.path("shards")
        answer = json.loads(self.succeed("prepare", texts, "-o", folder, "--tokenizer", BUNDLED, "--field", "body",
                                         "--shortest", "5", "--json"))
        self.assertEqual(answer["documents"], 6)
        self.assertEqual(answer["kept"], 2)
        self.assertEqual({name: count for name, count in answer["dropped"].items() if count},
                         {"shortest": 1, "most_symbols": 1, "most_repeated_lines": 1, "near_duplicate": 1})
        ids = [self.succeed("tokenize", "--tokenizer", BUNDLED, text).split() for text in (king, fox)]
        self.assertEqual(answer["tokens"], sum(map(len, ids)) + 2)
        self.assertEqual([os.path.basename(shard) for shard in answer["shards"]], ["00000.ktok"])
        with open(answer["shards"][0], "rb") as shard:
            head = shard.read(8)
        self.assertEqual(head, b"KRAITTK\n")
        # Shards that are there are not mixed with.
        self.assertIn("00000.ktok", self.fail_with(1, "prepare", texts, "-o", folder, "--tokenizer", BUNDLED))
        self.assertIn('"text" is no text', self.fail_with(1, "prepare", texts, "-o", folder + "2", "--tokenizer", BUNDLED))

    def test_progress_and_report_for_people(self):
        text = self.path("text.txt", b"One short line.\n\nAnother short line.\n")
        self.assertRegex(self.succeed("prepare", text, "-o", self.path("out"), "--tokenizer", BUNDLED,
                                      "--blank-lines", "1"),
                         r"out: \d+ tokens of 2 documents in 1 shard; 36 bytes of text, \d\.\d\d bytes a token")


class Eval(Case):
    def test_reports_bits_per_byte(self):
        file = self.path("text.txt", b"Once upon a time there was a king who had three sons.\n" * 20)
        answer = json.loads(self.succeed("eval", "-f", file, "--json"))
        self.assertEqual(answer["bytes"], 1080)
        self.assertEqual(answer["scored"], answer["tokens"] - 1)
        self.assertAlmostEqual(answer["bits_per_byte"], answer["nll"] / 0.6931471805599453 / 1080, places=9)
        self.assertLess(answer["bits_per_byte"], 2)

    def test_models_score_what_their_cards_say(self):
        held_out = os.path.join(SOURCE, "..", "shared", "data", "tales", "valid.txt")
        if not os.path.exists(held_out):
            self.skipTest("no shared data")
        for card in Path(SOURCE, "models").glob("*/README.md"):
            with self.subTest(model=card.parent.name):
                said = re.search(r"(\d\.\d{4}) bits per byte", card.read_text(encoding="utf-8"))
                self.assertIsNotNone(said, "the card says no bits per byte")
                answer = json.loads(self.succeed("eval", "-m", str(card.parent), "-f", held_out, "--json"))
                self.assertEqual(f"{answer['bits_per_byte']:.4f}", said[1])

    def test_memory_does_not_grow_with_the_text(self):
        sentence = b"The old woman looked at the wolf, and the wolf looked at the moon. "
        short = self.path("short.txt", sentence * 150)       # 10 kB
        long = self.path("long.txt", sentence * 7500)        # 500 kB
        peak = [json.loads(self.succeed("eval", "-f", file, "--json"))["peak_rss_bytes"] for file in (short, long)]
        self.assertLess(peak[1] - peak[0], 10e6)

    def test_a_missing_file_and_an_empty_one_are_errors(self):
        self.assertIn("nowhere.txt", self.fail_with(1, "eval", "-f", "nowhere.txt"))
        self.assertIn("at least two", self.fail_with(1, "eval", "-f", self.path("empty.txt", b"")))


class Bench(Case):
    def test_json_has_the_promised_keys(self):
        answer = json.loads(self.succeed("bench", "-m", BUNDLED, "-p", "32", "-n", "4", "-r", "1", "--json"))
        for key in ("prefill_tokens_per_s", "decode_tokens_per_s", "weight_bytes", "state_bytes_per_sequence",
                    "peak_rss_bytes", "threads", "dtype"):
            self.assertIn(key, answer)
        self.assertGreater(answer["decode_share_of_read_bandwidth"], 0)
        self.assertEqual((answer["batch"], answer["position"], answer["weights"]), (1, 32, "bf16"))
        operators = {row["operator"]: row for row in answer["decode_operators"]}
        for name in ("in_proj", "conv1d", "scan", "out_proj", "head"):
            self.assertGreater(operators[name]["seconds"], 0)
        # Six layers, four tokens: every weight of in_proj is read for every token.
        self.assertEqual(operators["in_proj"]["calls"], 24)
        self.assertGreater(operators["in_proj"]["bytes"], 24 * 256 * (2 * 512 + 2 * 64 + 16) * 2)

    def test_lists_of_values_make_a_sweep(self):
        answer = json.loads(self.succeed("bench", "-m", BUNDLED, "-p", "8,16", "-n", "4", "-r", "1", "--batch", "1,3",
                                         "--weights", "int8,int4", "--state-dtype", "bf16", "--mixed", "2", "--json"))
        cases = answer["cases"]
        self.assertEqual(len(cases), 8)
        self.assertEqual({(case["weights"], case["batch"], case["prompt_tokens"]) for case in cases},
                         {(w, b, p) for w in ("int8", "int4") for b in (1, 3) for p in (8, 16)})
        for case in cases:
            self.assertEqual(case["state_dtype"], "bf16")
            self.assertGreater(case["decode_tokens_per_s"], 0)
        self.assertIn("of read", self.succeed("bench", "-m", BUNDLED, "-p", "0", "-n", "2", "-r", "1", "--at", "1,5"))

    def test_memory_is_weights_states_and_little_more(self):
        answer = json.loads(self.succeed("bench", "--synthetic", "mamba2-130m", "--weights", "int4", "-p", "512",
                                         "-n", "2", "-r", "1", "--json"))
        # Two states: that of the position and that of the sequence that starts from it.
        allowed = answer["weight_bytes"] + 2 * answer["state_bytes_per_sequence"] + 64 * 2**20
        self.assertLess(answer["peak_rss_bytes"], allowed)

    def test_peak_measures_the_machine(self):
        answer = json.loads(self.succeed("bench", "--peak", "--json"))
        self.assertGreater(answer["read_gb_per_s"], 0)
        self.assertGreater(answer["gemm_f32_gflops"], 0)
        self.assertGreaterEqual(answer["gemm_bf16_gflops"], 0)
        self.assertGreaterEqual(answer["gemm_int8_gops"], 0)


class Quantize(Case):
    def test_a_small_checkpoint_scores_as_rounding_at_load_does(self):
        text = os.path.join(SOURCE, "tests", "cli", "the_real_princess.txt")  # Andersen, public domain
        for weights, allowed in (("int8", 0.005), ("int4-group128", 0.1)):
            out = self.path(weights)
            self.assertIn("matrices as " + weights, self.succeed("quantize", "-o", out, "--weights", weights))
            small = json.loads(self.succeed("eval", "-m", out, "-f", text, "--against", BUNDLED, "--json"))
            rounded = json.loads(self.succeed("eval", "--weights", weights, "-f", text, "--against", "f32", "--json"))
            exact = json.loads(self.succeed("eval", "-f", text, "--weights", "f32", "--json"))
            self.assertEqual(small["nll"], rounded["nll"])
            self.assertEqual(small["kl_nats"], rounded["kl_nats"])
            self.assertGreater(small["kl_nats"], 0)
            self.assertLess(abs(small["bits_per_byte"] - exact["bits_per_byte"]), allowed)
            self.assertGreater(small["same_top_share"], 0.8)
            self.assertLess(sum(f.stat().st_size for f in Path(out).iterdir() if f.suffix == ".safetensors"),
                            0.6 * (Path(BUNDLED) / "model.safetensors").stat().st_size)

    def test_what_cannot_be_quantized_is_said_and_nothing_is_left(self):
        out = self.path("again")
        self.succeed("quantize", "-o", out)
        self.assertIn("not an empty folder", self.fail_with(1, "quantize", "-o", out))
        other = self.path("other")
        self.assertIn("int8 already", self.fail_with(1, "quantize", "-m", out, "-o", other))
        self.assertFalse(Path(other).exists())
        self.fail_with(2, "quantize", "-o", other, "--weights", "int3")


class Usage(Case):
    def test_help_has_examples_and_mistakes_are_status_2(self):
        self.assertIn("Examples", self.succeed("--help"))
        for command in ("run", "inspect", "logits", "tokenize", "eval", "quantize", "bench"):
            self.assertIn("Examples", self.succeed(command, "--help"), command)
        self.fail_with(2)
        self.fail_with(2, "fly")
        self.fail_with(2, "run", "--temp", "hot", "Hi")
        self.assertIn("temperature", self.fail_with(2, "run", "--temp", "-1", "Hi"))
        self.fail_with(2, "run", "--threads", "0", "Hi")

    def test_the_environment_forces_a_simd_target(self):
        targets = simd_targets()
        for target in targets:
            answer = json.loads(self.succeed("bench", "--peak", "--json", env={"KRAIT_TARGET": target.lower()}))
            self.assertEqual(answer["simd_target"], target)
        for name in ("avx1024", "Unknown", "a\tb"):
            message = self.fail_with(2, "tokenize", "Hi", env={"KRAIT_TARGET": name})
            self.assertIn("KRAIT_TARGET", message)
            for target in targets:
                self.assertIn(target, message)
        self.assertIn("KRAIT_TARGET", self.succeed("--help", env={"KRAIT_TARGET": "avx1024"}))
        self.assertEqual(self.succeed("tokenize", "Hi", env={"KRAIT_TARGET": ""}), self.succeed("tokenize", "Hi"))

    def test_a_missing_model_is_named(self):
        self.assertIn("no-such-model", self.fail_with(1, "run", "-m", "no-such-model", "Hi"))


def gguf_of_mamba():
    """The golden Mamba as a GGUF file with f32 tensors, written from the format's specification."""
    with open(os.path.join(GOLDEN, "mamba_tied", "model.safetensors"), "rb") as stream:
        content = stream.read()
    size, = struct.unpack("<Q", content[:8])
    header = json.loads(content[8:8 + size])
    header.pop("__metadata__", None)
    names = {"in_proj.weight": "ssm_in.weight", "conv1d.weight": "ssm_conv1d.weight", "conv1d.bias": "ssm_conv1d.bias",
             "x_proj.weight": "ssm_x.weight", "dt_proj.weight": "ssm_dt.weight", "dt_proj.bias": "ssm_dt.bias",
             "A_log": "ssm_a", "D": "ssm_d", "out_proj.weight": "ssm_out.weight"}
    tensors = []
    for name, info in sorted(header.items()):
        if name == "lm_head.weight":
            continue  # tied
        begin, end = info["data_offsets"]
        data = content[8 + size + begin:8 + size + end]
        shape = [n for n in info["shape"] if n != 1]
        if name == "backbone.embeddings.weight":
            name = "token_embd.weight"
        elif name == "backbone.norm_f.weight":
            name = "output_norm.weight"
        else:
            _, _, layer, rest = name.split(".", 3)
            rest = "attn_norm.weight" if rest == "norm.weight" else names[rest.removeprefix("mixer.")]
            name = f"blk.{layer}.{rest}"
        if name.endswith("ssm_a"):  # stored as -exp(A_log)
            values = struct.unpack(f"<{len(data) // 4}f", data)
            data = struct.pack(f"<{len(values)}f", *(-math.exp(value) for value in values))
        tensors.append((name, shape, data))

    def text(value):
        return struct.pack("<Q", len(value)) + value.encode()
    keys = {"embedding_length": 24, "block_count": 3, "ssm.inner_size": 48, "ssm.state_size": 16, "ssm.conv_kernel": 4,
            "ssm.time_step_rank": 2}
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys) + 1)
    out += text("general.architecture") + struct.pack("<I", 8) + text("mamba")
    for key, value in keys.items():
        out += text("mamba." + key) + struct.pack("<II", 4, value)
    offset = 0
    for name, shape, data in tensors:
        out += text(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", n) for n in reversed(shape))
        out += struct.pack("<IQ", 0, offset)
        offset += (len(data) + 31) // 32 * 32
    out += b"\0" * (-len(out) % 32)
    for _, _, data in tensors:
        out += data + b"\0" * (-len(data) % 32)
    return out


class Corrupt(Case):
    """A damaged copy of each kind of file is refused with a message that names it, and status 1."""

    def damaged(self, golden, name, damage):
        folder = os.path.join(self.folder, f"{golden}-{len(os.listdir(self.folder))}")
        shutil.copytree(os.path.join(GOLDEN, golden), folder)
        path = os.path.join(folder, name)
        with open(path, "rb") as stream:
            content = bytearray(stream.read())
        with open(path, "wb") as stream:
            stream.write(damage(content))
        message = self.fail_with(1, "logits", "-m", folder, "--ids", "1,2")
        self.assertIn(name, message)
        return message

    def edit_header(self, change):
        def damage(content):
            size, = struct.unpack("<Q", content[:8])
            header = json.loads(content[8:8 + size])
            change(header)
            text = json.dumps(header).encode()
            return struct.pack("<Q", len(text)) + text + content[8 + size:]
        return damage

    def test_safetensors(self):
        damaged = lambda damage: self.damaged("mamba_tied", "model.safetensors", damage)
        tensor = "backbone.layers.0.mixer.in_proj.weight"
        damaged(lambda content: content[:len(content) // 2])
        damaged(lambda content: content[:9] + bytes([content[9] ^ 0x80]) + content[10:])

        def past_the_end(header):
            begin, end = header[tensor]["data_offsets"]
            header[tensor]["data_offsets"] = [begin + (1 << 40), end + (1 << 40)]
        self.assertIn(tensor, damaged(self.edit_header(past_the_end)))

        def overflow(header):
            header[tensor]["shape"] = [1 << 40, 1 << 40]
        self.assertIn(tensor, damaged(self.edit_header(overflow)))

    def test_gguf(self):
        tensor = "blk.0.ssm_in.weight"
        good = self.path("good.gguf", gguf_of_mamba())
        with open(os.path.join(GOLDEN, "mamba_tied", "logits.json")) as stream:
            golden = json.load(stream)
        ids, expected = golden["sequences"][0], golden["logits"][0]
        got = json.loads(self.succeed("logits", "-m", good, "--ids", ",".join(map(str, ids)), "--json"))["logits"]
        scale = max(abs(x) for row in expected for x in row)
        error = max(abs(a - b) for r, q in zip(got, expected) for a, b in zip(r, q))
        self.assertLess(error / scale, 2e-5)

        whole = gguf_of_mamba()
        name = tensor.encode()
        at = whole.index(name) + len(name)  # dimensions' count, two dimensions, type, offset
        count, columns, rows, kind, offset = struct.unpack("<IQQIQ", whole[at:at + 32])
        def with_info(*info):
            return whole[:at] + struct.pack("<IQQIQ", *info) + whole[at + 32:]
        cases = {
            "half.gguf": (whole[:len(whole) // 2], ""),
            "magic.gguf": (bytes([whole[0] ^ 1]) + whole[1:], ""),
            "version.gguf": (whole[:4] + bytes([whole[4] ^ 0x40]) + whole[5:], ""),
            "offset.gguf": (with_info(count, columns, rows, kind, offset + (1 << 40)), tensor),
            "overflow.gguf": (with_info(count, 1 << 40, 1 << 40, kind, offset), tensor),
            "type.gguf": (with_info(count, columns, rows, 99, offset), tensor),
        }
        for file, (content, names) in cases.items():
            message = self.fail_with(1, "logits", "-m", self.path(file, content), "--ids", "1")
            self.assertIn(file, message)
            self.assertIn(names, message)

    def test_torch_pickle(self):
        damaged = lambda damage: self.damaged("mamba2_original_g2_mlp", "pytorch_model.bin", damage)
        damaged(lambda content: content[:len(content) // 2])
        damaged(lambda content: content[:-10] + bytes([content[-10] ^ 0xff]) + content[-9:])
        message = damaged(lambda content: content.replace(b"_rebuild_tensor_v2", b"_rebuild_tensor_v9"))
        self.assertIn("_rebuild_tensor_v9", message)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    unittest.main(verbosity=2)
