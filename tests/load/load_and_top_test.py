#!/usr/bin/env python3
"""krait load and krait top against a server of their own, and top in a terminal of its own.

usage: load_and_top_test.py KRAIT_BINARY [unittest arguments]
"""
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "server"))
from served import Served, key_file  # noqa: E402

BINARY = os.path.abspath(sys.argv.pop(1))
ALICE, BOB = "sk-alice-1", "sk-bob-12345"


class Shared(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.keys = key_file(f"alice {ALICE}\nbob {BOB} requests=1\n")
        cls.server = Served(BINARY, "--api-key-file", cls.keys)
        cls.url = f"http://127.0.0.1:{cls.server.port}"

    @classmethod
    def tearDownClass(cls):
        status = cls.server.stop()
        os.unlink(cls.keys)
        assert status == 0, status

    def krait(self, *arguments, status=0):
        run = subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(run.returncode, status, run.stderr + run.stdout)
        return run.stdout if status == 0 else run.stderr

    def load(self, *arguments):
        return json.loads(self.krait("load", self.url, "--json", *arguments))


class Load(Shared):
    def test_a_closed_loop_counts_what_the_server_counts(self):
        alice = {"authorization": f"Bearer {ALICE}"}
        sample = 'krait_key_tokens_total{key="alice",kind="generated"}'
        before = self.server.metric(sample, alice) or 0
        got = self.load("-c", "4", "--requests", "12", "-p", "20-60", "-n", "8", "--key", ALICE)
        self.assertEqual((got["requests"], got["answered"], got["failed"]), (12, 12, 0))
        self.assertEqual(got["generated_tokens"], 12 * 8)
        self.assertEqual(self.server.metric(sample, alice) - before, 12 * 8)
        for name in ("first_token_s", "token_s", "request_s"):
            times = got[name]
            self.assertTrue(0 < times["p50"] <= times["p90"] <= times["p99"] <= times["max"], (name, times))
        self.assertGreater(got["request_s"]["p50"], got["first_token_s"]["p50"])

    def test_prompts_have_the_length_that_was_asked_for(self):
        got = self.load("-c", "2", "--requests", "6", "-p", "200", "-n", "2", "--key", ALICE)
        self.assertAlmostEqual(got["prompt_tokens"] / 6, 200, delta=40)  # words are drawn, and differ in tokens

    def test_an_open_loop_has_its_rate_and_the_seed_decides(self):
        runs = [self.load("--rate", "10", "-d", "2", "-p", "8", "-n", "exp:4", "--key", ALICE, "--seed", "3")
                for _ in range(2)]
        self.assertEqual(runs[0]["requests"], runs[1]["requests"])
        self.assertEqual(runs[0]["generated_tokens"], runs[1]["generated_tokens"])
        fixed = self.load("--rate", "10", "--arrivals", "fixed", "-d", "2.01", "-p", "8", "-n", "2", "--key", ALICE)
        self.assertEqual(fixed["requests"], 20)

    def test_conversations_find_their_past_in_the_store(self):
        for api in ("completions", "chat"):
            got = self.load("-c", "2", "--requests", "6", "--turns", "3", "-p", "40", "-n", "6", "--key", ALICE,
                            "--api", api, "--think", "0.01")
            self.assertEqual(got["answered"], 6)
            self.assertGreater(got["cached_tokens"], 40, api)

    def test_a_trace_is_replayed(self):
        with tempfile.NamedTemporaryFile("w", suffix=".csv") as trace:
            trace.write("TIMESTAMP,ContextTokens,GeneratedTokens\n")
            for at, prompt, reply in ((5, 100, 10), (5.5, 200, 30), (9, 40, 20)):
                trace.write(f"2023-11-16 18:15:{at:010.7f},{prompt},{reply}\n")
            trace.flush()
            start = time.monotonic()
            got = self.load("--trace", trace.name, "--time-scale", "0.5", "--length-scale", "0.1", "--key", ALICE)
            self.assertGreaterEqual(time.monotonic() - start, 2)
        self.assertEqual((got["answered"], got["generated_tokens"]), (3, 1 + 3 + 2))

    def test_keys_take_turns_and_refusals_are_counted_by_kind(self):
        got = self.load("-c", "2", "--requests", "8", "-p", "8", "-n", "4", "--key", ALICE, "--key", ALICE)
        self.assertEqual(got["tokens_by_key"], [16, 16])
        self.assertEqual(got["jain_index"], 1)
        got = self.load("-c", "4", "--requests", "12", "-p", "8", "-n", "60", "--key", BOB)
        self.assertGreater(got["errors"].get("status 429", 0), 0)
        self.assertEqual(got["answered"] + got["failed"], 12)
        self.assertIn("none was answered", self.krait("load", self.url, "--requests", "2", "--key", "wrong-key", status=1))

    def test_objectives_divide_the_good_from_the_rest(self):
        loose = self.load("-c", "2", "--requests", "4", "-p", "8", "-n", "4", "--key", ALICE, "--slo-ttft", "100000")
        self.assertEqual(loose["good"], 4)
        tight = self.load("-c", "2", "--requests", "4", "-p", "8", "-n", "4", "--key", ALICE, "--slo-tpot", "0.0001")
        self.assertEqual(tight["good"], 0)

    def test_a_stalled_server_is_charged_for_those_who_wait(self):
        """Answers the first request after a second: whoever was due meanwhile waited too."""
        listener = socket.create_server(("127.0.0.1", 0))
        stalled = time.monotonic() + 1

        def answer(connection):
            with connection:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += connection.recv(65536)
                if b"/tokenize" not in head:
                    time.sleep(max(0, stalled - time.monotonic()))
                    body = b'data: {"choices":[{"text":"a"}]}\n\ndata: [DONE]\n\n'
                else:
                    body = b"{}"
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n"
                                   b"content-length: %d\r\n\r\n%s" % (len(body), body))

        def accept():
            try:
                while True:
                    threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()
            except OSError:
                pass

        threading.Thread(target=accept, daemon=True).start()
        try:
            got = json.loads(self.krait("load", f"http://127.0.0.1:{listener.getsockname()[1]}", "--json", "--rate", "20",
                                        "--arrivals", "fixed", "-d", "0.81", "-p", "4", "-n", "1"))
        finally:
            listener.close()
        self.assertEqual(got["answered"], 16)
        # Due at 0.05, 0.1, … 0.8 and answered at 1.
        self.assertGreater(got["first_token_s"]["p50"], 0.4)

    def test_wrong_command_lines(self):
        for arguments in (("-c", "2", "--rate", "3"), ("--prompt", "many"), ("--warmup", "50")):
            self.krait("load", self.url, *arguments, status=2)
        self.assertIn("TLS", self.krait("load", "https://127.0.0.1:1", status=1))
        self.assertIn("cannot connect", self.krait("load", "http://127.0.0.1:1", status=1))
        self.assertIn("TIMESTAMP", self.krait("load", self.url, "--trace", __file__, status=1))

    def test_ctrl_c_prints_what_was_measured(self):
        process = subprocess.Popen([BINARY, "load", self.url, "-c", "2", "-d", "600", "-p", "8", "-n", "4", "--json",
                                    "--key", ALICE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 130)
        got = json.loads(out)
        self.assertTrue(got["stopped"])
        self.assertGreater(got["answered"], 0)
        self.assertTrue(self.server.until(lambda: self.server.no_sequences({"authorization": f"Bearer {ALICE}"})))


class Terminal:
    """krait top on a pty."""

    def __init__(self, *arguments, rows=24, columns=80):
        self.master, self.slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen([BINARY, "top", *arguments], stdin=self.slave, stdout=self.slave,
                                        stderr=self.slave, start_new_session=True)
        self.shown = ""

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, pattern, seconds=20):
        """What was shown up to the pattern, which is taken away."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = re.search(pattern, self.shown, re.DOTALL)
            if found:
                before, self.shown = self.shown[:found.end()], self.shown[found.end():]
                return before
            if select.select([self.master], [], [], 0.1)[0]:
                self.shown += os.read(self.master, 65536).decode()
        raise AssertionError(f"{pattern} was not shown, but {self.shown[-500:]!r}")

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


class Top(Shared):
    def terminal(self, *arguments, **size):
        terminal = Terminal(self.url, "--key", ALICE, "-i", "0.2", *arguments, **size)
        self.addCleanup(terminal.close)
        return terminal

    def test_q_and_ctrl_c_give_the_terminal_back(self):
        for how, status in (("q", 0), ("ctrl-c", 130)):
            terminal = self.terminal()
            terminal.until(r"\x1b\[\?1049h\x1b\[\?25l")
            terminal.until(r"sequences.*each token.*states")
            self.assertNotEqual(termios.tcgetattr(terminal.slave), terminal.before)
            if how == "q":
                os.write(terminal.master, b"q")
            else:
                terminal.process.send_signal(signal.SIGINT)
            terminal.until(r"\x1b\[\?25h\x1b\[\?1049l")
            self.assertEqual(terminal.process.wait(20), status, how)
            self.assertEqual(termios.tcgetattr(terminal.slave), terminal.before, how)

    def test_lines_fit_the_window_and_follow_it(self):
        terminal = self.terminal(rows=8, columns=30)

        def frame():
            terminal.until(r"\x1b\[H")
            text = terminal.until(r"\x1b\[J")[:-3]
            return [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).rstrip("\r") for line in text.split("\n")]

        small = frame()
        self.assertLessEqual(len(small), 8)
        self.assertLessEqual(max(map(len, small)), 30)
        terminal.resize(40, 120)
        self.assertTrue(any(max(map(len, frame())) > 30 for _ in range(10)))

    def test_a_server_that_goes_away_is_shown_and_may_come_back(self):
        server = Served(BINARY)
        terminal = Terminal(f"http://127.0.0.1:{server.port}", "-i", "0.2")
        self.addCleanup(terminal.close)
        try:
            terminal.until("sequences")
        finally:
            self.assertEqual(server.stop(), 0)
        terminal.until("cannot connect|broke|ended")
        os.write(terminal.master, b"q")
        self.assertEqual(terminal.process.wait(20), 0)

    def test_once_and_json(self):
        worker = subprocess.Popen([BINARY, "load", self.url, "-c", "2", "-d", "4", "-p", "8", "-n", "16", "--key", ALICE],
                                  stdout=subprocess.DEVNULL)
        try:
            got = json.loads(self.krait("top", self.url, "--key", ALICE, "--once", "--json", "-i", "2"))
            text = self.krait("top", self.url, "--key", ALICE, "--once", "-i", "0.5")
        finally:
            worker.wait(60)
        self.assertGreater(got["generated_tokens_per_s"], 0)
        self.assertGreater(got["token_s"]["p50"], 0)
        self.assertGreater(got["key_tokens_per_s"]["alice"], 0)
        self.assertTrue(0 < got["engine_share"] <= 1, got)
        self.assertTrue(set(got["sequences"]) == {"waiting", "prefilling", "decoding", "parked"})
        self.assertIn("alice", text)
        self.assertNotIn("\x1b", text)

    def test_what_is_no_server(self):
        self.assertIn("key", self.krait("top", self.url, "--once", status=1))
        self.assertIn("cannot connect", self.krait("top", "http://127.0.0.1:1", "--once", status=1))


if __name__ == "__main__":
    unittest.main()
