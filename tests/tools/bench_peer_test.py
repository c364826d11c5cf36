"""bench/peer/compare.py reads llama.cpp's output rightly and pairs weights and tests as it says."""

import json
import unittest

from bench_case import BENCH, BenchCase


def bench(*samples):
    """`llama-bench -o json`, cut down to what stands round the samples."""
    return json.dumps([{"model_type": "mamba2 0.1B Q8_0", "n_ubatch": 512, "n_threads": 2, "n_prompt": 512, "n_gen": 0,
                        "avg_ts": sum(samples) / len(samples), "samples_ns": [1] * len(samples),
                        "samples_ts": list(samples)}], indent=2)


def batched(speed):
    """`llama-batched-bench --output-format jsonl`, which logs empty lines round its result."""
    return ("\n" + json.dumps({"n_kv_max": 8192, "n_batch": 2048, "pp": 32, "tg": 32, "pl": 32, "n_kv": 2048,
                               "speed_pp": 999.0, "t_tg": 5.9, "speed_tg": speed, "speed": 300.0}) + "\n\n")


def krait(prefill=None, decode=None):
    return json.dumps({"prefill_tokens_per_s": prefill, "decode_tokens_per_s": decode})


class ComparePeer(BenchCase):
    def setUp(self):
        super().setUp()
        for weights in ("f32", "q8_0"):
            self.write(f"models/mamba2-130m-{weights}.gguf", "GGUF")
        self.program("krait", ("bench", [krait(1000, 200)]))
        self.program("llama-bench", ("-n 0", [bench(250)]), ("-n 128", [bench(50)]))
        self.program("llama-batched-bench", ("-npl 32", [batched(173)]))

    def compare(self, *arguments):
        return self.run_tool(BENCH / "peer/compare.py", "--krait", self.root / "krait", "--peer", self.root, "--models",
                             self.root / "models", "--shapes", "mamba2-130m", "--weights", "q8_0", "--rounds", "2",
                             *arguments)

    def row(self, *arguments):
        status, output = self.compare("--json", *arguments)
        self.assertEqual(status, 0, output)
        rows = json.loads(next(line for line in output.splitlines() if line.startswith("{")))["rows"]
        self.assertEqual(len(rows), 1)
        return rows[0]

    def calls_of(self, name):
        return [" ".join(arguments) for called, arguments, _ in self.calls() if called == name]

    def test_decode_is_compared_on_the_same_file(self):
        row = self.row("--tests", "decode")
        self.assertEqual(row["ratio"]["median"], 4)
        self.assertEqual((row["krait"]["median"], row["peer"]["median"]), (200, 50))
        model = f"-m {self.root}/models/mamba2-130m-q8_0.gguf"
        self.assertIn(f"bench {model} -p 0 -n 128 --threads 2", self.calls_of("krait")[0])
        self.assertIn(f"{model} -p 0 -n 128", self.calls_of("llama-bench")[0])
        self.assertIn("-t 2 -r 1 -o json", self.calls_of("llama-bench")[0])

    def test_median_of_a_runs_samples_counts(self):
        self.program("llama-bench", ("-n 128", [bench(50, 40, 5)]))
        self.assertEqual(self.row("--tests", "decode", "--repeats", "3")["peer"]["median"], 40)
        self.assertIn("-r 3", self.calls_of("llama-bench")[0])
        self.assertIn("--repeats 3", self.calls_of("krait")[0])

    def test_best_knob_takes_turns_with_krait(self):
        self.program("llama-bench", ("-ub 512", [bench(250)]), ("-ub 256", [bench(400)]), ("-ub 128", [bench(300)]))
        row = self.row("--tests", "prefill-512")
        self.assertEqual(row["knob"], "-ub 256")
        self.assertEqual(row["knobs_tried"], {"-ub 512": 250, "-ub 256": 400, "-ub 128": 300})
        self.assertEqual(row["ratio"]["median"], 2.5)
        self.assertEqual([name for name, _, _ in self.calls()], ["llama-bench"] * 3 + ["krait", "llama-bench"] * 2)

    def test_huge_pages_are_asked_for_in_the_environment(self):
        self.program("llama-bench", ("-mmp 0", [bench(60)]), ("-n 128", [bench(50)]))
        self.assertEqual(self.row("--tests", "decode")["knob"], "huge pages")
        tunables = [environment for name, _, environment in self.calls() if name == "llama-bench"]
        self.assertEqual(tunables, ["", *["glibc.malloc.hugetlb=1"] * 3])
        self.assertEqual({environment for name, _, environment in self.calls() if name == "krait"}, {""})

    def test_a_knob_that_the_peer_does_not_have_is_left_out(self):
        self.program("llama-bench", ("-mmp", [1]), ("-n 128", [bench(50)]))
        status, output = self.compare("--tests", "decode")
        self.assertEqual(status, 0, output)
        self.assertIn("note: the peer without huge pages", output)
        self.assertIn("invalid parameter", output)
        self.assertIn("| mmap | 4.00 (4.00–4.00) |", output)

    def test_batched_decode_counts_all_sequences(self):
        row = self.row("--tests", "batch-32")
        self.assertEqual((row["peer"]["median"], row["test"]), (173, "decode, batch 32"))
        self.assertIn("--batch 32 -p 32 -n 32", self.calls_of("krait")[0])
        self.assertIn("-npp 32 -ntg 32 -npl 32 -t 2 --output-format jsonl", self.calls_of("llama-batched-bench")[0])

    def test_kraits_own_formats_stand_against_the_peers_of_as_many_bits(self):
        row = self.row("--tests", "decode", "--weights", "int8")
        self.assertEqual((row["weights"], row["peer_weights"]), ("int8", "q8_0"))
        self.assertIn("mamba2-130m-f32.gguf --weights int8", self.calls_of("krait")[0])
        self.assertIn("mamba2-130m-q8_0.gguf", self.calls_of("llama-bench")[0])

    def test_table_has_a_row_for_each_case(self):
        status, output = self.compare("--weights", "f32,q8_0", "--tests", "decode,prefill-512")
        self.assertEqual(status, 0, output)
        rows = [line for line in output.splitlines() if line.startswith("| mamba2-130m")]
        self.assertEqual(len(rows), 4, output)
        self.assertIn("| mamba2-130m | q8_0 | prefill 512 | 1000.0 (1000.0–1000.0) | 250.0 (250.0–250.0) | -ub 512 |",
                      rows[3])

    def test_missing_models_are_named_before_anything_runs(self):
        status, output = self.compare("--weights", "q8_0,q4_0")
        self.assertEqual(status, 2, output)
        self.assertIn("mamba2-130m-q4_0.gguf", output)
        self.assertFalse((self.root / "calls.log").exists())

    def test_unreadable_output_is_an_error(self):
        for text in ("", "{}", "[]", "[{}]", bench(0), json.dumps([json.loads(bench(1))[0]] * 2)):
            with self.subTest(text=text):
                self.program("llama-bench", ("-n 128", [text]))
                status, output = self.compare("--tests", "decode")
                self.assertEqual(status, 2, output)
                self.assertIn("llama-bench", output)

    def test_a_failing_krait_is_an_error(self):
        self.program("krait", ("bench", [1]))
        status, output = self.compare("--tests", "decode")
        self.assertEqual(status, 2, output)
        self.assertIn("ended with status 1", output)

    def test_unknown_words_are_refused(self):
        status, output = self.compare("--tests", "decoding")
        self.assertEqual(status, 2)
        self.assertIn("'decoding' is none of decode, prefill-512", output)


if __name__ == "__main__":
    unittest.main()
