"""bench/compare.py calls a loss a loss and nothing else, with programs that say known numbers."""

import json
import unittest

from bench_case import BENCH, BenchCase

CASE = ("--case", "one=--synthetic tiny -p 8")


def answer(prefill, decode=None):
    return json.dumps({"architecture": "mamba", "prefill_tokens_per_s": prefill, "decode_tokens_per_s": decode})


class CompareBuilds(BenchCase):
    def compare(self, old, new, *arguments):
        old_path, new_path = self.program("old", ("bench", old)), self.program("new", ("bench", new))
        return self.run_tool(BENCH / "compare.py", old_path, new_path, *(arguments or CASE))

    def test_equal_speed_passes(self):
        status, output = self.compare([answer(100, 10)], [answer(100, 10)])
        self.assertEqual(status, 0, output)
        self.assertIn("0 of 2 lost more than 10%", output)
        self.assertIn("| one | prefill | 100.0 (100.0–100.0) | 100.0 (100.0–100.0) | 1.000 (1.000–1.000) |", output)

    def test_gain_passes(self):
        self.assertEqual(self.compare([answer(100, 10)], [answer(300, 10)])[0], 0)

    def test_loss_within_the_threshold_passes(self):
        self.assertEqual(self.compare([answer(100, 10)], [answer(91, 9.1)])[0], 0)

    def test_loss_beyond_the_threshold_fails(self):
        status, output = self.compare([answer(100, 10)], [answer(100, 8.9)])
        self.assertEqual(status, 1, output)
        self.assertIn("0.890 (0.890–0.890) | LOST |", output)
        self.assertIn("1 of 2 lost more than 10%", output)

    def test_threshold_is_an_option(self):
        self.assertEqual(self.compare([answer(100)], [answer(85)], *CASE, "--threshold", "0.2")[0], 0)
        self.assertEqual(self.compare([answer(100)], [answer(97)], *CASE, "--threshold", "0.02")[0], 1)
        self.assertEqual(self.compare([answer(100)], [answer(97)], *CASE, "--threshold", "1.5")[0], 2)

    def test_sides_take_turns(self):
        self.compare([answer(100)], [answer(100)], *CASE, "--rounds", "3", "--repeats", "4")
        calls = self.calls()
        self.assertEqual([name for name, _, _ in calls], ["old", "new"] * 3)
        self.assertEqual(calls[0][1], ["bench", "--synthetic", "tiny", "-p", "8", "--repeats", "4", "--json"])

    def test_ratios_are_of_the_same_round(self):
        # The machine slows down to a third: no round shows a loss, though the medians of each side would.
        drift = [300, 200, 100]
        status, output = self.compare([answer(speed) for speed in drift], [answer(0.95 * speed) for speed in drift],
                                      *CASE, "--rounds", "3", "--json")
        self.assertEqual(status, 0, output)
        row = self.result(output)["rows"][0]
        self.assertAlmostEqual(row["ratio"]["median"], 0.95)
        self.assertAlmostEqual(row["ratio"]["least"], 0.95)
        self.assertEqual(row["old"], {"median": 200, "least": 100, "greatest": 300, "samples": [300, 200, 100]})

    def test_one_bad_round_is_no_loss(self):
        new = [answer(speed) for speed in (100, 10, 100, 100, 10)]
        self.assertEqual(self.compare([answer(100)], new, *CASE, "--rounds", "5")[0], 0)
        new = [answer(speed) for speed in (100, 10, 10, 100, 10)]
        self.assertEqual(self.compare([answer(100)], new, *CASE, "--rounds", "5")[0], 1)

    def test_json_holds_the_verdict(self):
        status, output = self.compare([answer(100)], [answer(50)], *CASE, "--json")
        result = self.result(output)
        self.assertEqual((status, result["lost"], result["rows"][0]["lost"]), (1, True, True))
        self.assertEqual(result["threshold"], 0.1)
        self.assertEqual(len(result["rows"]), 1, "a speed that was not measured is no row")

    def test_built_in_cases_cover_both_architectures(self):
        status, output = self.compare([answer(100, 10)], [answer(100, 10)], "--rounds", "1")
        self.assertEqual(status, 0, output)
        flags = [" ".join(arguments) for _, arguments, _ in self.calls()]
        for shape in ("mamba-130m", "mamba2-130m"):
            self.assertTrue(any(f"--synthetic {shape} " in line for line in flags), flags)

    def test_what_cannot_be_measured_is_neither_verdict(self):
        for new in (3, "no numbers", "[1]", answer(None), answer(0), answer("fast")):
            with self.subTest(new=new):
                status, output = self.compare([answer(100)], [new])
                self.assertEqual(status, 2, output)
        status, output = self.run_tool(BENCH / "compare.py", self.root / "absent", self.root / "absent", *CASE)
        self.assertEqual(status, 2, output)
        self.assertIn("cannot run", output)

    def test_a_speed_that_only_one_side_reports_does_not_drop_out(self):
        status, output = self.compare([answer(100, 10)], [answer(100)])
        self.assertEqual(status, 2, output)
        self.assertIn("different speeds for one", output)

    def result(self, output):
        return json.loads(next(line for line in output.splitlines() if line.startswith("{")))


if __name__ == "__main__":
    unittest.main()
