#!/usr/bin/env python3
"""Kills a process that keeps states, at random moments, and looks at what it left: the store must open, hold only
states that are whole, and miss none that it had said to be on the disk.

    state_store_crash_test.py CHILD [ROUNDS [SEED]]

SIGKILL takes the process and not the machine: that the disk itself has what was flushed is the system's promise.
"""

import random
import subprocess
import sys
import tempfile
import time
import unittest

CHILD = ""
ROUNDS = 50
SEED = 20261125
KEPT = 5  # states that go on from one round to the next
LATEST = {"small": 0.4, "large": 0.8}  # seconds after the start


def lines_of(output):
    """Complete lines as (word, rest)."""
    return [tuple(line.split(" ", 1)) for line in output.decode().split("\n")[:-1]]


def those(lines, word):
    return {rest for first, rest in lines if first == word}


class Crash(unittest.TestCase):
    def kill_after(self, seconds, *arguments):
        with subprocess.Popen([CHILD, *arguments], stdout=subprocess.PIPE) as child:
            time.sleep(seconds)
            self.assertIsNone(child.poll(), "it ended by itself")
            child.kill()
            return lines_of(child.stdout.read())

    def run_rounds(self, model, rounds):
        moments = random.Random(f"{SEED} {model}")
        expected, acknowledged_in_all, killed_while_opening = set(), 0, 0
        with tempfile.TemporaryDirectory() as folder:
            for round_ in range(rounds):
                lines = self.kill_after(moments.uniform(0, LATEST[model]), "fill", folder, model, str(SEED + round_))
                self.assertEqual(those(lines, "error"), set(), f"round {round_}")
                acknowledged = those(lines, "acknowledged")
                acknowledged_in_all += len(acknowledged)
                killed_while_opening += not any(first == "ready" for first, _ in lines)
                expected |= acknowledged

                check = subprocess.run([CHILD, "check", folder, model, str(KEPT)], stdout=subprocess.PIPE, check=False)
                lines = lines_of(check.stdout)
                self.assertEqual(check.returncode, 0, f"round {round_}: {lines}")
                self.assertEqual(those(lines, "error"), set(), f"round {round_}")
                self.assertEqual(those(lines, "damaged"), set(), f"round {round_}")
                held = those(lines, "held")
                self.assertEqual(expected - held, set(), f"round {round_}: acknowledged, and not there")
                expected = held - those(lines, "removed")
        print(f"{model}: {rounds} kills, {killed_while_opening} of them before the store was open, "
              f"{acknowledged_in_all} states acknowledged", flush=True)
        self.assertGreater(acknowledged_in_all, rounds)
        self.assertLess(killed_while_opening, rounds)

    def test_small_states(self):
        self.run_rounds("small", ROUNDS // 2)

    def test_states_in_several_parts(self):
        self.run_rounds("large", ROUNDS - ROUNDS // 2)


if __name__ == "__main__":
    CHILD = sys.argv[1]
    ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else ROUNDS
    SEED = int(sys.argv[3]) if len(sys.argv) > 3 else SEED
    unittest.main(argv=sys.argv[:1])
