"""bench/peer/compare_training.py holds the bars that it names, with programs that say known numbers."""

import json
import unittest

from bench_case import BENCH, BenchCase


def answer(seconds, mib=1000, share=0.8, gflops=200):
    return json.dumps({"seconds": seconds, "processor_seconds": 2 * seconds, "peak_memory_mib": mib,
                       "utilisation": share, "processor_utilisation": share, "sgemm_gflops": gflops})


class CompareTraining(BenchCase):
    def compare(self, krait, peer, *arguments):
        """Of these answers each; the peer stands where Python would."""
        krait_path, peer_path = self.program("krait", ("", krait)), self.program("peer", ("", peer))
        return self.run_tool(BENCH / "peer/compare_training.py", krait_path, "--python", peer_path, "--rounds", "2",
                             *arguments)

    def test_bars_hold(self):
        for case, bar in (("mamba", 3.0), ("mamba2", 1.5), ("scan", 20.0)):
            with self.subTest(case=case):
                flags = ("--cases", case, "--chunk", "64")
                self.assertEqual(self.compare([answer(1)], [answer(bar, 2000)], *flags)[0], 0)
                status, output = self.compare([answer(1)], [answer(0.98 * bar, 2000)], *flags)
                self.assertEqual(status, 1, output)
                self.assertIn("FAILS", output)

    def test_memory_and_utilisation_have_bars_too(self):
        flags = ("--cases", "mamba")
        self.assertEqual(self.compare([answer(1, 1010)], [answer(9, 2000)], *flags)[0], 1)
        self.assertEqual(self.compare([answer(1, 1000, 0.49)], [answer(9, 2000)], *flags)[0], 1)

    def test_both_sides_have_the_same_shape_and_take_turns(self):
        self.compare([answer(1)], [answer(9, 2000)], "--cases", "mamba", "--layers", "3", "--threads", "1")
        calls = self.calls()
        self.assertEqual([name for name, _, _ in calls], ["krait", "peer"] * 2)
        flags = ["mamba", "--threads", "1", "--rounds", "2", "--layers", "3"]
        self.assertEqual(calls[0][1], [*flags, "--json"])
        self.assertEqual(calls[1][1][1:], flags)

    def test_the_peer_has_its_best_chunk(self):
        self.compare([answer(1)], [answer(5), answer(2), answer(9), answer(9)], "--cases", "mamba2")
        self.assertEqual(self.calls()[-1][1][-2:], ["--chunk", "128"])

    def test_a_slow_blas_is_said(self):
        _, output = self.compare([answer(1)], [answer(9, 2000, 0, 2)], "--cases", "mamba")
        self.assertIn("2 GFLOP/s", output)

    def test_what_cannot_be_measured_is_no_verdict(self):
        for peer in (3, "no numbers", answer(0)):
            with self.subTest(peer=peer):
                self.assertEqual(self.compare([answer(1)], [peer], "--cases", "mamba")[0], 2)


if __name__ == "__main__":
    unittest.main()
