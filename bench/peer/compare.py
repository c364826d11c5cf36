#!/usr/bin/env python3
"""Compares krait with llama.cpp on this machine, in turns, on the same weights. bench/peer_llamacpp.md says how to come by
the models.

    bench/peer/compare.py --krait KRAIT --peer FOLDER --models FOLDER [--shapes …] [--weights …] [--tests …]

--peer holds llama-bench and llama-batched-bench, --models holds SHAPE-WEIGHTS.gguf (mamba2-130m-q8_0.gguf). For each case
the peer's knobs are tried once; the best one then takes turns with krait. Exit status 2 when something could not be
measured.
"""

import argparse
import json
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from interleaved import (MeasurementError, json_of, machine, markdown_table, ratios, run_program, say, speed_of,
                         summary, take_turns, warn_of_load, with_spread)

SHAPES = ("mamba-130m", "mamba2-130m", "mamba-370m", "mamba2-370m", "jamba-0.4b", "falcon-h1-0.5b",
          "qwen3-next-1b-a0.3b")


@dataclass(frozen=True)
class Weights:
    peer: str  # the file that the peer runs
    krait: str  # the file that krait runs
    flags: tuple = ()  # and how it keeps them


# The same file for both, or krait's own formats of as many bits.
WEIGHTS = {name: Weights(name, name) for name in ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_K_M")}
WEIGHTS["int8"] = Weights("q8_0", "f32", ("--weights", "int8"))
WEIGHTS["int4"] = Weights("q4_0", "f32", ("--weights", "int4"))
DEFAULT_WEIGHTS = ("f32", "f16", "q8_0", "q4_0", "q4_K_M")


@dataclass(frozen=True)
class Knob:
    name: str
    flags: tuple = ()
    environment: dict = field(default_factory=dict)


# Weights in huge pages rather than in a mapped file, which on some machines speeds up decode.
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
PREFILL_KNOBS = tuple(Knob(f"-ub {size}", ("-ub", str(size))) for size in (512, 256, 128))
DECODE_KNOBS = (Knob("mmap"), Knob("huge pages", ("-mmp", "0"), HUGE_PAGES))
BATCH_KNOBS = (Knob("mmap"), Knob("huge pages", ("--no-mmap",), HUGE_PAGES))


@dataclass(frozen=True)
class Test:
    name: str
    speed: str  # krait's key
    krait_flags: tuple
    peer_program: str
    peer_flags: tuple
    knobs: tuple


def prefill(tokens):
    return Test(f"prefill {tokens}", "prefill_tokens_per_s", ("-p", tokens, "-n", 0), "llama-bench",
                ("-p", tokens, "-n", 0), PREFILL_KNOBS)


def batched_decode(sequences):
    # The peer's context has to hold the prompts and what follows, of all sequences.
    return Test(f"decode, batch {sequences}", "decode_tokens_per_s", ("--batch", sequences, "-p", 32, "-n", 32),
                "llama-batched-bench",
                ("-c", 256 * sequences, "-b", 2048, "-ub", 512, "-npp", 32, "-ntg", 32, "-npl", sequences), BATCH_KNOBS)


TESTS = {
    "decode": Test("decode", "decode_tokens_per_s", ("-p", 0, "-n", 128), "llama-bench", ("-p", 0, "-n", 128),
                   DECODE_KNOBS),
    "prefill-512": prefill(512),
    "prefill-4096": prefill(4096),
    "batch-32": batched_decode(32),
}


def bench_speed(text, origin):
    """Tokens per second from `llama-bench -o json` of one test: the median of its samples."""
    entries = json_of(text, origin)
    if not isinstance(entries, list) or len(entries) != 1:
        raise MeasurementError(f"{origin} did not report exactly one test")
    samples = entries[0].get("samples_ts") if isinstance(entries[0], dict) else None
    if not samples:
        raise MeasurementError(f"{origin} reports no samples_ts")
    return statistics.median(speed_of({"samples_ts": sample}, "samples_ts", origin) for sample in samples)


def batched_bench_speed(text, origin):
    """Tokens per second over all sequences from `llama-batched-bench --output-format jsonl`."""
    lines = [line for line in text.splitlines() if line.startswith("{")]
    if len(lines) != 1:
        raise MeasurementError(f"{origin} did not report exactly one test")
    return speed_of(json_of(lines[0], origin), "speed_tg", origin)


class Case:
    def __init__(self, options, shape, weights, test):
        self.options, self.shape, self.weights, self.test = options, shape, weights, TESTS[test]
        self.pair = WEIGHTS[weights]

    def file(self, weights):
        return self.options.models / f"{self.shape}-{weights}.gguf"

    def files(self):
        return [self.file(self.pair.krait), self.file(self.pair.peer)]

    def krait(self):
        command = [self.options.krait, "bench", "-m", self.file(self.pair.krait), *self.pair.flags,
                   *self.test.krait_flags, "--threads", self.options.threads, "--repeats", self.options.repeats, "--json"]
        origin = " ".join(map(str, command))
        return speed_of(json_of(run_program(command), origin), self.test.speed, origin)

    def peer(self, knob):
        command = [self.options.peer / self.test.peer_program, "-m", self.file(self.pair.peer), *self.test.peer_flags,
                   *knob.flags, "-t", self.options.threads]
        origin = " ".join(map(str, command))
        if self.test.peer_program == "llama-bench":
            return bench_speed(run_program([*command, "-r", self.options.repeats, "-o", "json"], knob.environment),
                               origin)
        return batched_bench_speed(run_program([*command, "--output-format", "jsonl"], knob.environment), origin)

    def best_knob(self):
        """The fastest one; one that this build of the peer does not have is left out, with a note."""
        speeds = {}
        for knob in self.test.knobs:
            try:
                speeds[knob.name] = self.peer(knob)
            except MeasurementError as error:
                say(f"note: the peer without {knob.name}: {error}")
                failure = error
        if not speeds:
            raise failure
        name = max(speeds, key=speeds.get)
        return next(knob for knob in self.test.knobs if knob.name == name), speeds

    def measure(self):
        say(f"{self.shape}, {self.weights}, {self.test.name}")
        knob, tried = self.best_knob()
        krait, peer = take_turns(self.options.rounds, self.krait, lambda: self.peer(knob))
        return {"shape": self.shape, "weights": self.weights, "test": self.test.name, "peer_weights": self.pair.peer,
                "knob": knob.name, "knobs_tried": tried, "krait": summary(krait), "peer": summary(peer),
                "ratio": ratios(krait, peer)}


def words_of(known):
    def parse(text):
        words = text.split(",")
        for word in words:
            if word not in known:
                raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(known)}")
        return words
    return parse


def parse_options(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--krait", type=Path, required=True, metavar="PROGRAM")
    parser.add_argument("--peer", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--models", type=Path, required=True, metavar="FOLDER")
    for name, known, default in (("shapes", SHAPES, SHAPES), ("weights", tuple(WEIGHTS), DEFAULT_WEIGHTS),
                                 ("tests", tuple(TESTS), tuple(TESTS))):
        parser.add_argument(f"--{name}", type=words_of(known), default=list(default), metavar="A,B…",
                            help=f"of {', '.join(known)} (default: {', '.join(default)})")
    parser.add_argument("--rounds", type=int, choices=range(1, 101), default=5, metavar="N", help="turns of each side")
    parser.add_argument("--repeats", type=int, choices=range(1, 101), default=1, metavar="N",
                        help="measurements within one turn, behind a warm-up")
    parser.add_argument("--threads", type=int, choices=range(1, 1025), default=2, metavar="N")
    parser.add_argument("--json", action="store_true", help="for machines")
    return parser.parse_args(arguments)


def main(arguments):
    options = parse_options(arguments)
    cases = [Case(options, shape, weights, test)
             for shape in options.shapes for weights in options.weights for test in options.tests]
    missing = sorted({str(file) for case in cases for file in case.files() if not file.is_file()})
    if missing:
        say(f"compare: no {', '.join(missing)}")
        return 2
    here = machine()
    warn_of_load(here)
    try:
        rows = [case.measure() for case in cases]
    except MeasurementError as error:
        say(f"compare: {error}")
        return 2
    if options.json:
        print(json.dumps({"machine": here, "threads": options.threads, "rows": rows}))
        return 0
    print(f"{here['processor']}, {options.threads} threads, tokens/s: median (least–greatest) of {options.rounds}\n")
    print(markdown_table(
        ["model", "weights", "test", "krait", "llama.cpp", "its knob", "ratio"],
        [[row["shape"], row["weights"] if row["weights"] == row["peer_weights"]
          else f"{row['weights']} : {row['peer_weights']}", row["test"], with_spread(row["krait"], 1),
          with_spread(row["peer"], 1), row["knob"], with_spread(row["ratio"], 2)] for row in rows]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
