#!/usr/bin/env python3
"""Compares krait's training steps with PyTorch's on this machine, in turns.

    bench/peer/compare_training.py build/release/bench/training_step_bench [--cases mamba mamba2 scan] [--threads 2]

The peer is bench/peer/training_step.py on Debian's python3-torch, with OpenBLAS (libopenblas0-pthread) told its core
type, which it does not know by itself on new processors. With the reference BLAS the peer is no peer; that is said. A
round runs each side's program once; a ratio is taken within each round, of the shortest step of each, by the clock
(with --processor by the processor time, where other programs use the machine).

The peer's Mamba-1 keeps some 0.85 GB a layer and takes long, so that case has --layers layers on both sides (the fewer
there are, the larger the share of the head, which both sides leave to a matrix product); Mamba-2 has all 24, or
--layers-mamba2. --shared: the peer's Mamba-2 at its best rather than as the paper has it. --bf16: krait's products with
operands rounded to bf16, the peer's in f32. Exit status 1 when a bar does not hold, 2 when something could not be
measured.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from interleaved import (MeasurementError, json_of, machine, markdown_table, ratios, run_program, say, speed_of,
                         summary, take_turns, warn_of_load, with_spread)

# The least that the peer takes for one second of krait's.
BARS = {"mamba": 3.0, "mamba2": 1.5, "scan": 20.0}
# The most that krait's memory is of the peer's; the scan alone has none, libtorch itself is most of it.
MEMORY_BARS = {"mamba": 0.5, "mamba2": 0.5}
UTILISATION_BAR = 0.5
PEER = Path(__file__).resolve().with_name("training_step.py")


def environment(threads):
    return {"OPENBLAS_CORETYPE": "SkylakeX", "OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}


def measured(command, threads):
    return json_of(run_program(command, environment(threads)), " ".join(map(str, command)))


def fastest_chunk(flags, options):
    """The peer's knob: the chunk of its Mamba-2, tried once at two layers."""
    times = {}
    for chunk in (64, 128, 256):
        said = measured([options.python, PEER, "mamba2", *flags, "--layers", 2, "--rounds", 1, "--chunk", chunk],
                        options.threads)
        times[chunk] = speed_of(said, options.key, "the peer")
    return min(times, key=times.get)


def compare(case, options):
    flags = ["--threads", options.threads, "--rounds", options.steps]
    peer_flags, krait_flags = [], ["--json", *(["--bf16"] if options.bf16 else [])]
    if case == "mamba2":
        peer_flags = ["--shared"] if options.shared else []
        peer_flags += ["--chunk", options.chunk or fastest_chunk(flags[:2] + peer_flags, options)]
        flags += ["--layers", options.layers_mamba2]
    elif case == "mamba":
        flags += ["--layers", options.layers]
    say(f"{case}: {options.rounds} rounds {' '.join(map(str, flags + peer_flags))}")
    krait, peer = take_turns(options.rounds,
                             lambda: measured([options.krait, case, *flags, *krait_flags], options.threads),
                             lambda: measured([options.python, PEER, case, *flags, *peer_flags], options.threads))
    slow = min(said["sgemm_gflops"] for said in peer)
    best = max(said["sgemm_gflops"] for said in krait)
    if slow < best / 10:
        say(f"note: the peer's BLAS runs at {slow:.0f} GFLOP/s, oneDNN at {best:.0f}: is it the reference BLAS?")
    seconds = [[speed_of(said, options.key, case) for said in side] for side in (krait, peer)]
    memory = [[speed_of(said, "peak_memory_mib", case) for said in side] for side in (krait, peer)]
    share = "processor_utilisation" if options.processor else "utilisation"
    row = {"case": case, "flags": flags + peer_flags, "krait_seconds": summary(seconds[0]),
           "peer_seconds": summary(seconds[1]), "faster": ratios(seconds[1], seconds[0]),
           "krait_mib": max(memory[0]), "peer_mib": max(memory[1]), "memory": max(memory[0]) / max(memory[1]),
           "utilisation": max(said[share] for said in krait)}
    row["holds"] = (row["faster"]["median"] >= BARS[case] and row["memory"] <= MEMORY_BARS.get(case, 1.0)
                    and (case == "scan" or row["utilisation"] >= UTILISATION_BAR))
    return row


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("krait", type=Path, help="the program training_step_bench")
    parser.add_argument("--python", default="/usr/bin/python3", help="that has torch")
    parser.add_argument("--cases", nargs="+", choices=tuple(BARS), default=tuple(BARS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layers", type=int, default=12, help="of Mamba-1, on both sides")
    parser.add_argument("--layers-mamba2", type=int, default=24)
    parser.add_argument("--shared", action="store_true", help="the peer's Mamba-2 shares B and C over heads")
    parser.add_argument("--bf16", action="store_true", help="krait's products in bf16")
    parser.add_argument("--chunk", type=int, help="of the peer's Mamba-2; else the fastest of three")
    parser.add_argument("--rounds", type=int, choices=range(1, 101), default=3, metavar="N", help="turns of each side")
    parser.add_argument("--steps", type=int, choices=range(1, 101), default=2, metavar="N", help="of a turn")
    parser.add_argument("--processor", action="store_true", help="compare processor time")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args(arguments)
    options.key = "processor_seconds" if options.processor else "seconds"
    here = machine()
    warn_of_load(here)
    try:
        rows = [compare(case, options) for case in options.cases]
    except MeasurementError as error:
        say(f"compare_training: {error}")
        return 2
    if options.json:
        print(json.dumps({"machine": here, "rows": rows}))
    else:
        print(markdown_table(
            ["case", "krait s", "peer s", "peer/krait", "bar", "krait MiB", "peer MiB", "of sgemm", ""],
            [[row["case"], with_spread(row["krait_seconds"], 3), with_spread(row["peer_seconds"], 3),
              with_spread(row["faster"], 2), f"{BARS[row['case']]:g}", f"{row['krait_mib']:.0f}",
              f"{row['peer_mib']:.0f}", f"{row['utilisation']:.0%}", "" if row["holds"] else "FAILS"]
             for row in rows]))
    return 0 if all(row["holds"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
