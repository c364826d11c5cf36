"""Measures two programs in turns and sums up what they said: what bench/compare.py and bench/peer/compare.py share.

The speed of a machine drifts while one measures. So the sides run A B A B …, a ratio is taken within each turn, and what
counts is the median of those ratios; the least and the greatest stand beside it.
"""

import json
import os
import statistics
import subprocess
import sys


class MeasurementError(Exception):
    """A program that failed, or said something else than numbers."""


def run_program(command, environment=None):
    """Standard output of a program that succeeded."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL,
                              env={**os.environ, **(environment or {})}, check=False)
    except OSError as error:
        raise MeasurementError(f"cannot run {words[0]}: {error.strerror}") from None
    if done.returncode != 0:
        last = "\n".join(done.stderr.strip().splitlines()[-3:])
        raise MeasurementError(f"{' '.join(words)} ended with status {done.returncode}: {last}")
    return done.stdout


def json_of(text, origin):
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise MeasurementError(f"{origin} did not print JSON: {error}") from None


def speed_of(entry, key, origin):
    """A positive number under `key`; anything else cannot be compared."""
    value = entry.get(key) if isinstance(entry, dict) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise MeasurementError(f"{origin} gave {value!r} as {key}")
    return float(value)


def take_turns(rounds, *sides):
    """Calls every side once a round, in order; a list of results for each side."""
    results = [[] for _ in sides]
    for _ in range(rounds):
        for side, result in zip(sides, results):
            result.append(side())
    return results


def summary(values):
    return {"median": statistics.median(values), "least": min(values), "greatest": max(values), "samples": values}


def ratios(numerators, denominators):
    return summary([a / b for a, b in zip(numerators, denominators, strict=True)])


def with_spread(numbers, digits):
    return f"{numbers['median']:.{digits}f} ({numbers['least']:.{digits}f}–{numbers['greatest']:.{digits}f})"


def markdown_table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def machine():
    """Processor, cores and load before anything is measured."""
    model = ""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
            model = next((line.split(":", 1)[1].strip() for line in cpuinfo if line.startswith("model name")), "")
    except OSError:
        pass
    return {"processor": model, "cores": os.cpu_count(), "load_before": round(os.getloadavg()[0], 2)}


def warn_of_load(machine_now):
    if machine_now["load_before"] > 0.5:
        say(f"note: load is {machine_now['load_before']} before anything is measured; what else runs here falsifies "
            "both sides, and the one whose threads wait in loops more than the other")


def say(text):
    """Progress and notes: standard output holds the result alone."""
    print(text, file=sys.stderr, flush=True)
