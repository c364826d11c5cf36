#!/usr/bin/env python3
"""Compares two builds of krait on this machine, in turns, and fails when the new one lost speed.

    bench/compare.py OLD NEW                       # two paths to the program `krait`
    bench/compare.py OLD NEW --case 'decode at int8=--synthetic mamba2-130m --weights int8 -p 0 -n 128'

Each case is one call of `krait bench --json`; every speed that it reports (prefill_tokens_per_s,
decode_tokens_per_s) is a row. Exit status: 0 when no median ratio new/old is below 1 - threshold, 1 when one is, 2 when
something could not be measured.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path

from interleaved import (MeasurementError, json_of, machine, markdown_table, ratios, run_program, say, speed_of,
                         summary, take_turns, warn_of_load, with_spread)

SPEEDS = ("prefill_tokens_per_s", "decode_tokens_per_s")

# Flags that every build knows, so that any two can be compared.
CASES = {
    "mamba-130m f32": "--synthetic mamba-130m -p 512 -n 64",
    "mamba2-130m f32": "--synthetic mamba2-130m -p 512 -n 64",
    "mamba-130m bf16": "--synthetic mamba-130m --dtype bf16 -p 512 -n 64",
    "mamba2-130m bf16": "--synthetic mamba2-130m --dtype bf16 -p 512 -n 64",
}


def named_case(text):
    name, equals, flags = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FLAGS")
    return name, flags


def fraction(text):
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not within 0 … 1")
    return value


def speeds(program, flags, repeats):
    command = [program, "bench", *shlex.split(flags), "--repeats", repeats, "--json"]
    origin = " ".join(map(str, command))
    said = json_of(run_program(command), origin)
    if not isinstance(said, dict):
        raise MeasurementError(f"{origin} did not print a JSON object")
    measured = {key: speed_of(said, key, origin) for key in SPEEDS if said.get(key) is not None}
    if not measured:
        raise MeasurementError(f"{origin} reports no speed")
    return measured


def compare(options):
    """A row for each speed of each case."""
    rows = []
    for name, flags in options.case or CASES.items():
        say(f"{name}: {options.rounds} rounds")
        old, new = take_turns(options.rounds, lambda: speeds(options.old, flags, options.repeats),
                              lambda: speeds(options.new, flags, options.repeats))
        # A speed that only one side has would otherwise drop out of the verdict.
        if any(said.keys() != old[0].keys() for said in old + new):
            raise MeasurementError(f"the two builds report different speeds for {name}")
        for key in old[0]:
            old_values, new_values = [said[key] for said in old], [said[key] for said in new]
            ratio = ratios(new_values, old_values)
            rows.append({"case": name, "speed": key, "old": summary(old_values), "new": summary(new_values),
                         "ratio": ratio, "lost": ratio["median"] < 1 - options.threshold})
    return rows


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--case", action="append", type=named_case, metavar="NAME=FLAGS",
                        help="instead of the built-in cases; may be repeated")
    parser.add_argument("--rounds", type=int, choices=range(1, 101), default=5, metavar="N", help="turns of each side")
    parser.add_argument("--repeats", type=int, choices=range(1, 101), default=2, metavar="N",
                        help="rounds within one call of krait bench")
    parser.add_argument("--threshold", type=fraction, default=0.10, metavar="SHARE", help="loss that fails (0.10)")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args(arguments)
    here = machine()
    warn_of_load(here)
    try:
        rows = compare(options)
    except MeasurementError as error:
        say(f"compare: {error}")
        return 2
    lost = [row for row in rows if row["lost"]]
    if options.json:
        print(json.dumps({"machine": here, "threshold": options.threshold, "rows": rows, "lost": bool(lost)}))
    else:
        print(markdown_table(
            ["case", "tokens/s of", "old", "new", "new/old", ""],
            [[row["case"], row["speed"].split("_")[0], with_spread(row["old"], 1), with_spread(row["new"], 1),
              with_spread(row["ratio"], 3), "LOST" if row["lost"] else ""] for row in rows]))
        print(f"\n{len(lost)} of {len(rows)} lost more than {options.threshold:.0%}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
