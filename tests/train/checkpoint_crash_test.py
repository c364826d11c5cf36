#!/usr/bin/env python3
"""Kills a process that saves checkpoints, at random moments, and looks at what it left: the newest checkpoint must
load, hold what its step holds, and be one that was said to be committed or that was being saved. Then full and
read-only disks, where this user may mount any.

    checkpoint_crash_test.py CHILD [ROUNDS [SEED]]

SIGKILL takes the process and not the machine: that the disk itself has what was flushed is the system's promise.
"""

import pathlib
import random
import re
import shlex
import subprocess
import sys
import tempfile
import time
import unittest

CHILD = ""
ROUNDS = 120
SEED = 20261126
LATEST = 0.25  # seconds between the child's being ready and its end


def lines_of(output):
    """Complete lines as (word, rest)."""
    return [tuple(line.split(" ", 1)) for line in output.decode().split("\n")[:-1]]


def run(*arguments):
    return lines_of(subprocess.run([CHILD, *map(str, arguments)], stdout=subprocess.PIPE, check=True).stdout)


def steps(lines, word):
    return [int(rest) for first, rest in lines if first == word]


def engines():
    with tempfile.TemporaryDirectory() as folder:
        able = run("once", folder, "uring", 1, 0)[0][0] == "ready"
    return ["uring", "threads"] if able else ["threads"]


class Crash(unittest.TestCase):
    def kill_after_ready(self, seconds, *arguments):
        with subprocess.Popen([CHILD, *map(str, arguments)], stdout=subprocess.PIPE) as child:
            first = child.stdout.readline()
            time.sleep(seconds)
            ended = child.poll()
            child.kill()
            lines = lines_of(first + child.stdout.read())
        self.assertIsNone(ended, f"it ended by itself: {lines}")
        return lines

    def run_rounds(self, engine, rounds):
        moments = random.Random(f"{SEED} {engine}")
        newest, in_all, unfinished = None, 0, 0
        with tempfile.TemporaryDirectory() as folder:
            for round_ in range(rounds):
                # From some kilobytes to ten megabytes, so that the kill finds it in every stage.
                elements = int(10 ** moments.uniform(2, 6))
                begin = 0 if newest is None else newest + 1
                lines = self.kill_after_ready(moments.uniform(0, LATEST), "fill", folder, engine, elements, begin)
                self.assertEqual([line for line in lines if line[0] == "failed"], [], f"round {round_}")
                committed, saving = steps(lines, "committed"), steps(lines, "saving")
                in_all += len(committed)
                least = committed[-1] if committed else newest
                most = saving[-1] if saving else newest
                unfinished += any(path.suffix == ".safetensors" and not path.with_suffix(".json").exists()
                                  for path in pathlib.Path(folder).iterdir())

                lines = run("check", folder)
                self.assertNotIn("passed", [line[0] for line in lines], f"round {round_}")
                if least is None and lines[0][0] == "failed":
                    self.assertIn("there is none", lines[0][1])
                    continue
                self.assertEqual(lines[0][0], "held", f"round {round_}: {lines}")
                newest = int(lines[0][1].split()[0])
                self.assertGreaterEqual(newest, least if least is not None else 0, f"round {round_}")
                self.assertLessEqual(newest, most, f"round {round_}")
                # One snapshot may be on its way while the next is taken: more cannot be unannounced.
                self.assertLessEqual(newest, (committed[-1] if committed else begin) + 2, f"round {round_}")
        print(f"{engine}: {rounds} kills, {in_all} checkpoints committed, {unfinished} data files cut off", flush=True)
        self.assertGreater(in_all, rounds // 4)
        self.assertGreater(unfinished, 0, "no kill came in the middle of a write")

    def test_killed_at_any_moment_the_last_committed_checkpoint_is_whole(self):
        for engine in engines():
            with self.subTest(engine):
                self.run_rounds(engine, ROUNDS // len(engines()))


class Disks(unittest.TestCase):
    """A small file system of memory, mounted where nobody else sees it."""

    def inside(self, script):
        """Runs a shell script with $folder on a file system of 4 megabytes; its lines."""
        with tempfile.TemporaryDirectory() as folder:
            mount = f"folder={shlex.quote(folder)}; mount -t tmpfs -o size=4m tmpfs $folder && echo mounted && "
            for unshare in (["unshare", "--mount"], ["unshare", "--mount", "--user", "--map-root-user"]):
                try:
                    done = subprocess.run([*unshare, "sh", "-c", mount + script.replace("CHILD", shlex.quote(CHILD))],
                                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, timeout=200)
                except FileNotFoundError:
                    break
                if done.stdout.startswith(b"mounted"):
                    self.assertEqual(done.returncode, 0, done.stderr)
                    return lines_of(done.stdout.split(b"\n", 1)[1])
        self.skipTest("this user may mount nothing")

    def test_full(self):
        for engine in engines():
            # 10 bytes an element: 1.5 MB, then 6 MB that do not fit, then 1.5 MB again.
            lines = self.inside(f"CHILD once $folder {engine} 150000 1; CHILD once $folder {engine} 600000 2; "
                                f"CHILD check $folder; CHILD once $folder {engine} 150000 3; CHILD check $folder; "
                                "for file in $folder/*; do echo file $file; done")
            self.assertEqual(steps(lines, "committed"), [1, 3])
            failures = [rest for word, rest in lines if word == "failed"]
            self.assertEqual(len(failures), 1, lines)
            self.assertRegex(failures[0], r"^resource exhausted: .*No space left on device .*step-2\.safetensors")
            self.assertEqual([rest for word, rest in lines if word == "held"], ["1 150000", "3 150000"])
            files = [re.search("step-.*", rest)[0] for word, rest in lines if word == "file"]
            self.assertEqual(files, ["step-1.json", "step-1.safetensors", "step-3.json", "step-3.safetensors"])

    def test_full_while_it_goes_on(self):
        """A writer that lives on saves again when there is room."""
        for engine in engines():
            lines = self.inside(
                "log=$(mktemp); dd if=/dev/zero of=$folder/ballast bs=1k count=3600 2>/dev/null; "
                f"CHILD fill $folder {engine} 60000 1 >$log & until grep -q failed $log; do sleep 0.05; done; "
                "rm $folder/ballast; until grep -q committed $log; do sleep 0.05; done; "
                "kill -9 $!; wait $!; cat $log; rm $log; CHILD check $folder")
            failures = [number for number, (word, _) in enumerate(lines) if word == "failed"]
            committed = [number for number, (word, _) in enumerate(lines) if word == "committed"]
            self.assertTrue(failures and committed and failures[0] < committed[0], lines[:10])
            self.assertLess(failures[-1], committed[-1])
            self.assertEqual(lines[-1][0], "held")

    def test_read_only(self):
        for engine in engines():
            lines = self.inside(f"CHILD once $folder {engine} 1000 1; mount -o remount,ro $folder; "
                                f"CHILD once $folder {engine} 1000 2; CHILD check $folder")
            self.assertEqual(steps(lines, "committed"), [1])
            failures = [rest for word, rest in lines if word == "failed"]
            self.assertEqual(len(failures), 1, lines)
            self.assertRegex(failures[0], r"^input/output: .*Read-only file system .*step-2\.safetensors")
            self.assertEqual(lines[-1], ("held", "1 1000"))


if __name__ == "__main__":
    CHILD = sys.argv[1]
    ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else ROUNDS
    SEED = int(sys.argv[3]) if len(sys.argv) > 3 else SEED
    unittest.main(argv=sys.argv[:1])
