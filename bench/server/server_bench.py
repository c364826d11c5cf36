#!/usr/bin/env python3
"""What `krait serve` costs and keeps, measured through real servers on loopback with `krait load` as the client:

  fairness     Jain's index of tokens served to a greedy key (32 requests at once) and seven modest ones (2 each), with
               --fairness on (bar: >= 0.95) and off (< 0.6)
  stall        99th percentile of the time between tokens of 16 streams while a prompt of 32,768 tokens is read, over
               that before it: in pieces (bar: <= 2), and with --stall-factor 1000
  throughput   tokens a second of 32 streams over those of `krait bench` at batch 32 (bar: >= 0.9), and the share of
               the loop's time outside the engine at 64 streams (bar: < 5 %)
  groups       the same long prompt beside 16 streams with --core-groups together, 1:1 and auto: how long it takes, and
               the 50th and 99th percentile of the time between tokens meanwhile. No bar: which is better is the
               machine's to say

usage: server_bench.py KRAIT_BINARY [--model PATH] [--tokenizer PATH] [--seconds S] [--json] [NAME ...]

The bundled model is tiny, so that all that is not the engine shows most. One of a realistic size:
  build/release/bench/synthetic_to_gguf mamba2-130m f32 /tmp/mamba2.gguf
  bench/server/server_bench.py BINARY --model /tmp/mamba2.gguf --tokenizer models/tales
Nothing else may run on the machine. Exit status 1 when a bar is missed.
"""
import argparse
import http.client
import json
import os
import selectors
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, os.pardir, "tests", "server"))
from served import Served, key_file  # noqa: E402


class Bench:
    def __init__(self, options):
        self.options = options
        self.binary = os.path.abspath(options.binary)
        self.model = ["-m", options.model] if options.model else []
        if options.tokenizer:
            self.model += ["--tokenizer", options.tokenizer]

    def serve(self, *arguments):
        return Served(self.binary, *self.model, "-q", "--max-requests", 1000, *arguments)

    def load(self, server, *arguments):
        return subprocess.Popen([self.binary, "load", f"http://127.0.0.1:{server.port}", "--json", *map(str, arguments)],
                                stdout=subprocess.PIPE, text=True)

    def result(self, process):
        out, _ = process.communicate()
        return json.loads(out)


def jain(values):
    return sum(values) ** 2 / (len(values) * sum(value * value for value in values))


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


def fairness_of(bench, fairness):
    """Eight slots, so that there is something to share."""
    secrets = {"greedy": "sk-greedy-key", **{f"modest{i}": f"sk-modest-{i}" for i in range(7)}}
    keys = key_file("".join(f"{name} {secret} requests=100\n" for name, secret in secrets.items()))
    server = bench.serve("--api-key-file", keys, "--slots", 8, "--fairness", fairness)
    seen = {"authorization": f"Bearer {secrets['greedy']}"}
    try:
        seconds = bench.options.seconds
        loads = [bench.load(server, "-c", 32 if name == "greedy" else 2, "-d", seconds + 4, "-p", 32, "-n", 64,
                            "--key", secret, "--timeout", 600) for name, secret in secrets.items()]

        def tokens():
            return [server.metric(f'krait_key_tokens_total{{key="{name}",kind="generated"}}', seen) or 0
                    for name in secrets]
        time.sleep(3)  # until all have come
        before = tokens()
        time.sleep(seconds)
        served = [now - then for now, then in zip(tokens(), before)]
        for load in loads:
            bench.result(load)
    finally:
        server.stop()
        os.unlink(keys)
    return jain(served), served


def fairness(bench):
    on, tokens_on = fairness_of(bench, "on")
    off, tokens_off = fairness_of(bench, "off")
    return {"jain_on": on, "jain_off": off, "tokens_on": tokens_on, "tokens_off": tokens_off,
            "met": on >= 0.95 and off < 0.6}


class Streams:
    """Streams whose pieces are timed as they come; nothing of them is read."""

    def __init__(self, port, count):
        self.selector = selectors.DefaultSelector()
        self.times = [[] for _ in range(count)]
        body = json.dumps({"prompt": "Once upon a time", "max_tokens": 1_000_000, "ignore_eos": True, "stream": True,
                           "temperature": 1}).encode()
        for i in range(count):
            stream = socket.create_connection(("127.0.0.1", port))
            stream.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
            stream.setblocking(False)
            self.selector.register(stream, selectors.EVENT_READ, i)

    def watch(self, until):
        """Until the time, or until it says so."""
        while not until():
            for key, _ in self.selector.select(0.05):
                if key.fileobj.recv(1 << 20):
                    self.times[key.data].append(time.monotonic())

    def gaps(self, begin, end):
        return [b - a for times in self.times for a, b in zip(times, times[1:]) if b >= begin and a < end]

    def close(self):
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()


def stall_of(bench, *arguments):
    server = bench.serve("--max-tokens", 1_000_000, *arguments)
    streams = None
    try:
        tokens = server.json("POST", "/tokenize", {"prompt": "the old fox went into the deep wood and there was a house. " * 4096})
        streams = Streams(server.port, 16)
        warm = time.monotonic() + 3
        streams.watch(lambda: time.monotonic() > warm)
        quiet = time.monotonic()
        streams.watch(lambda: time.monotonic() > quiet + bench.options.seconds / 2)
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=3600)
        begin = time.monotonic()
        connection.request("POST", "/v1/completions", json.dumps({"prompt": tokens["tokens"][:32768], "max_tokens": 1}))
        answered = selectors.DefaultSelector()
        answered.register(connection.sock, selectors.EVENT_READ)
        streams.watch(lambda: bool(answered.select(0)))
        end = time.monotonic()
        status = connection.getresponse().status
        if status != 200:
            raise RuntimeError(f"the long prompt got {status}")
    finally:
        if streams is not None:
            streams.close()
        server.stop()
    alone, meanwhile = percentile(streams.gaps(quiet, begin), 0.99), streams.gaps(begin, end)
    beside = percentile(meanwhile, 0.99)
    return {"alone_p99_s": alone, "beside_p50_s": percentile(meanwhile, 0.5), "beside_p99_s": beside,
            "ratio": beside / alone, "prompt_s": end - begin}


def stall(bench):
    pieces, whole = stall_of(bench), stall_of(bench, "--stall-factor", 1000)
    return {"pieces": pieces, "stall_factor_1000": whole, "met": pieces["ratio"] <= 2}


def groups(bench):
    return {**{mode: stall_of(bench, "--core-groups", mode) for mode in ("together", "1:1", "auto")}, "met": True}


def throughput(bench):
    """In turns, since the machine's speed changes by the minute."""
    shares, served, alone = [], [], []
    for _ in range(3):
        run = subprocess.run([bench.binary, "bench", *bench.model[:2], "--batch", "32", "-p", "0", "-n", "128", "-r", "3",
                              "--json"], stdout=subprocess.PIPE, text=True, check=True)
        alone.append(json.loads(run.stdout)["decode_tokens_per_s"])
        server = bench.serve("--slots", 32)
        try:
            load = bench.load(server, "-c", 32, "-p", 8, "-n", 512, "-d", bench.options.seconds + 4, "--timeout", 600)
            time.sleep(3)
            before = server.metric("krait_generated_tokens_total"), time.monotonic()
            time.sleep(bench.options.seconds)
            after = server.metric("krait_generated_tokens_total"), time.monotonic()
            served.append((after[0] - before[0]) / (after[1] - before[1]))
            load.kill()
            load.communicate()
        finally:
            server.stop()
        shares.append(served[-1] / alone[-1])
    server = bench.serve("--slots", 64)
    try:
        load = bench.load(server, "-c", 64, "-p", 8, "-n", 512, "-d", bench.options.seconds + 4, "--timeout", 600)
        time.sleep(3)
        names = "krait_step_seconds_sum", "krait_loop_awake_seconds_total", "krait_batch_sequences_sum", "krait_steps_total"
        before = [server.metric(name) for name in names]
        time.sleep(bench.options.seconds)
        steps, awake, sequences, count = [server.metric(name) - old for name, old in zip(names, before)]
        load.kill()
        load.communicate()
    finally:
        server.stop()
    share, outside = sorted(shares)[1], 1 - steps / awake
    return {"served_tokens_per_s": served, "bench_tokens_per_s": alone, "share": share,
            "outside_engine_at_64": outside, "batch_at_64": sequences / count, "met": share >= 0.9 and outside < 0.05}


BENCHES = {"fairness": fairness, "stall": stall, "throughput": throughput, "groups": groups}


def main():
    parser = argparse.ArgumentParser(description="Measures krait serve; see the head of this file.")
    parser.add_argument("binary")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHES) + " (default: all)")
    parser.add_argument("--model", help="instead of the bundled one")
    parser.add_argument("--tokenizer")
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement (20)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_intermixed_args()
    for name in options.names:
        if name not in BENCHES:
            parser.error(f"no benchmark '{name}': {', '.join(BENCHES)}")
    load = os.getloadavg()[0]
    if load > 1.5:
        print(f"the load of the machine is {load:.1f}: these numbers are worth little", file=sys.stderr)
    results = {name: BENCHES[name](Bench(options)) for name in options.names or BENCHES}
    if options.json:
        print(json.dumps(results, indent=1))
    else:
        for name, result in results.items():
            print(f"{name}: {'met' if result['met'] else 'MISSED'}")
            for key, value in result.items():
                print(f"  {key:<22} {value}")
    return 0 if all(result["met"] for result in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
