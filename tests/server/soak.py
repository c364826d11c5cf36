#!/usr/bin/env python3
"""A crowd that misbehaves, for as long as is asked: clients that leave, that read slowly, that send halves, rubbish, too
much, or more than their key may, while prompts and replies have the cores now together, now apart. The server must live,
answer or refuse every one of them clearly, and be empty when they are gone.

usage: soak.py KRAIT_BINARY [SECONDS [STREAMS [SEED]]]   (600 s, 64 streams)

A binary built with a sanitizer is expected to say nothing. What each request came to is counted and printed; a fate that
its kind does not allow is an error. Exit status 1 with what was wrong.
"""
import collections
import json
import os
import pathlib
import random
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from served import Served, key_file  # noqa: E402
from soak_acts import ACTS, KEYS, Caller  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Growth of memory shows only once the states' memory, the sanitizer's quarantine and the threads' arenas are full.
LEAST_SECONDS_FOR_MEMORY = 240
MEMORY_GROWTH = 0.05
OPERATOR = "sk-operator-1"  # may change how the server works


def sanitizer_environment(folder):
    """Reports go to files in `folder`; freed memory is held back for a bounded while, so that it comes to a rest."""
    reports = os.path.join(folder, "report")
    for name, options in (
            ("ASAN_OPTIONS", f"log_path={reports}:quarantine_size_mb=16:thread_local_quarantine_size_kb=256"),
            ("UBSAN_OPTIONS", f"log_path={reports}:print_stacktrace=1"),
            ("LSAN_OPTIONS", "report_objects=1"),
            ("TSAN_OPTIONS", f"log_path={reports}:suppressions={ROOT / 'tools/thread_sanitizer_suppressions.txt'}")):
        os.environ[name] = os.environ.get(name, "") + ":" + options
    os.environ["PATH"] += ":/usr/lib/llvm-19/bin"


def resident_bytes(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as stream:
        return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def median(values):
    return sorted(values)[len(values) // 2]


class Soak:
    def __init__(self, binary, seconds, streams, seed):
        self.binary, self.seconds, self.streams, self.seed = binary, seconds, streams, seed
        self.fates = collections.defaultdict(collections.Counter)
        self.wrong = []
        self.lock = threading.Lock()
        self.memory = []  # (seconds since the start, bytes)

    def note(self, kind, fate, allowed):
        with self.lock:
            self.fates[kind][fate] += 1
            if fate not in allowed and len(self.wrong) < 50:
                self.wrong.append(f"{kind}: {fate}, and not one of {sorted(allowed)}")

    def client(self, number, server, end):
        chance = random.Random(self.seed * 1000 + number)
        caller = Caller(server.port, chance)
        kinds, weights = list(ACTS), [act.weight for act in ACTS.values()]
        while time.monotonic() < end:
            kind = chance.choices(kinds, weights)[0]
            try:
                for fate in ACTS[kind].act(caller):
                    self.note(kind, fate, ACTS[kind].allowed)
            except Exception as error:  # whatever it is, it is shown and fails the run
                self.note(kind, f"{type(error).__name__}: {error}", ())

    def watch(self, server, start, end):
        shown = start
        chance = random.Random(self.seed)
        while time.monotonic() < end and server.process.poll() is None:
            self.change_groups(server, chance)
            self.memory.append((time.monotonic() - start, resident_bytes(server.process.pid)))
            if time.monotonic() - shown > 30:
                shown = time.monotonic()
                with self.lock:
                    done = sum(sum(fates.values()) for fates in self.fates.values())
                print(f"{shown - start:.0f} s: {done} requests, {self.memory[-1][1] >> 20} MiB, {len(self.wrong)} wrong",
                      file=sys.stderr, flush=True)
            time.sleep(0.5)

    def change_groups(self, server, chance):
        """Under all that is going on; every reply has to stay what it is, which the acts look at."""
        # On one core there are no groups.
        groups = chance.choice(("together", "auto", "1:1") if len(os.sched_getaffinity(0)) > 1 else ("together",))
        headers = {"authorization": f"Bearer {OPERATOR}"}
        try:
            fate = str(server.ask("PUT", "/v1/admin/core-groups", {"core_groups": groups}, headers)[0])
        except Exception as error:  # as of clients
            fate = f"{type(error).__name__}: {error}"
        self.note("core groups", fate, {"200"})

    def check_memory(self):
        part = self.seconds / 4
        second = median([size for at, size in self.memory if part <= at < 2 * part])
        last = median([size for at, size in self.memory if at >= 3 * part])
        growth = last / second - 1
        print(f"memory: {second / 2**20:.1f} MiB in the second quarter, {last / 2**20:.1f} in the last ({growth:+.1%})")
        if self.seconds >= LEAST_SECONDS_FOR_MEMORY and growth > MEMORY_GROWTH:
            self.wrong.append(f"memory grew by {growth:.1%}")

    def check_empty(self, server):
        """Nothing may be left of anybody: no sequence, no connection, no state, no request counted against a key."""
        all_seen = {"authorization": f"Bearer {KEYS['alice'].secret}"}
        if not server.until(lambda: server.no_sequences(all_seen), 60):
            self.wrong.append("sequences are left: " + str({
                stage: server.metric(f'krait_sequences{{stage="{stage}"}}', all_seen)
                for stage in ("waiting", "prefilling", "decoding", "parked")}))
        for key in KEYS.values():
            headers = {"authorization": f"Bearer {key.secret}"}
            for state in server.json("GET", "/v1/states", headers=headers)["data"]:
                server.json("DELETE", f"/v1/states/{state['id']}", headers=headers)
        if not server.until(lambda: server.metric("krait_http_connections", all_seen) == 1, 30):
            self.wrong.append(f"{server.metric('krait_http_connections', all_seen)} connections are open")

        def states():
            stored = server.metric('krait_stored_state_bytes{tier="memory"}', all_seen)
            return (server.metric("krait_states_in_use", all_seen),
                    stored / server.metric("krait_state_bytes", all_seen))
        if not server.until(lambda: states()[0] <= states()[1] + 1e-9, 10):
            self.wrong.append("{} states in use where the store holds {}".format(*states()))
        for name, key in KEYS.items():
            held = [Caller(server.port, random.Random(1)).open_stream(key) for _ in range(key.requests)]
            statuses = {status for status, _ in held}
            for _, connection in held:
                connection.close()
            if statuses != {200}:
                self.wrong.append(f"of {key.requests} requests that {name} may have at once some got {statuses}")
            server.until(lambda: server.no_sequences(all_seen), 30)

    def run(self):
        with tempfile.TemporaryDirectory() as folder:
            sanitizer_environment(folder)
            keys = key_file("".join(key.line(name) for name, key in KEYS.items()) + f"operator {OPERATOR} admin=1\n")
            # Memory for a few dozen states of the bundled model: it runs out now and then.
            server = Served(self.binary, "--api-key-file", keys, "--max-body", 100000, "--stream-buffer", 65536,
                            "--state-memory", 48 << 20, "--state-ttl", 20, "--max-connections", 4 * self.streams)
            try:
                start = time.monotonic()
                end = start + self.seconds
                threads = [threading.Thread(target=self.client, args=(number, server, end), daemon=True)
                           for number in range(self.streams)]
                for thread in threads:
                    thread.start()
                self.watch(server, start, end)
                for thread in threads:
                    thread.join(400)
                    if thread.is_alive():
                        self.wrong.append("a request is still waiting after minutes")
                        break
                if server.process.poll() is None:
                    self.check_memory()
                    self.check_empty(server)
                    server.process.terminate()
                status = server.wait()
                if status != 0:
                    self.wrong.append(f"exit status {status}")
            finally:
                if server.process.poll() is None:
                    server.process.kill()
                    server.process.wait()
                os.unlink(keys)
            for report in sorted(pathlib.Path(folder).glob("report*")):
                self.wrong.append(f"a sanitizer's report:\n{report.read_text(encoding='utf-8', errors='replace')[:20000]}")
            for line in server.log:
                try:
                    json.loads(line)
                except ValueError:
                    self.wrong.append(f"on stderr: {line}")
        return self.report()

    def report(self):
        total = sum(sum(fates.values()) for fates in self.fates.values())
        print(f"{total} requests of {self.streams} streams in {self.seconds:.0f} s (seed {self.seed})")
        for kind in sorted(self.fates):
            print(f"  {kind:<16}", ", ".join(f"{fate} {count}" for fate, count in self.fates[kind].most_common()))
        for wrong in self.wrong[:50]:
            print(f"WRONG {wrong}")
        return 1 if self.wrong else 0


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[2:]]
    sys.exit(Soak(os.path.abspath(sys.argv[1]), *(numbers + [600, 64, 1][len(numbers):])).run())
