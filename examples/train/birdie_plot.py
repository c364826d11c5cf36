#!/usr/bin/env python3
"""What came of examples/train/birdie.toml and of fine-tuning after it ([questions]): a table on standard output, and a
picture of how many questions are answered right while the arms are fine-tuned.

usage: birdie_plot.py OUTPUT.svg NAME=RUN_FOLDER,RUN_FOLDER,… …

A folder is one of a fine-tuning run, with its log.jsonl; the folders of a name are its seeds. The first name is what the
others are compared with.
"""
import json
import sys
from pathlib import Path

COLOURS = ["#7f7f7f", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00"]
LEFT, TOP, WIDE, HIGH = 56, 20, 480, 280


def exact_matches(folder):
    """(step, share of questions that are right) of each evaluation."""
    with open(Path(folder) / "log.jsonl", encoding="utf-8") as file:
        entries = [json.loads(line) for line in file]
    return [(entry["step"] + 1, entry["exact_match"]) for entry in entries if "exact_match" in entry]


def chart(arms):
    steps = max(step for runs in arms.values() for run in runs for step, _ in run)

    def place(step, share):
        return f"{LEFT + WIDE * step / steps:.1f},{TOP + HIGH * (1 - share):.1f}"

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDE + 200}" height="{TOP + HIGH + 50}" '
             'font-family="sans-serif" font-size="12">', '<rect width="100%" height="100%" fill="white"/>']
    for percent in range(0, 101, 20):
        y = TOP + HIGH * (1 - percent / 100)
        parts.append(f'<line x1="{LEFT}" x2="{LEFT + WIDE}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>'
                     f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{percent} %</text>')
    for number, (name, runs) in enumerate(arms.items()):
        colour = COLOURS[number % len(COLOURS)]
        for run in runs:
            parts.append(f'<polyline points="{" ".join(place(*point) for point in run)}" fill="none" '
                         f'stroke="{colour}" stroke-width="1.5"/>')
        y = TOP + 20 * number
        parts.append(f'<rect x="{LEFT + WIDE + 12}" y="{y}" width="12" height="12" fill="{colour}"/>'
                     f'<text x="{LEFT + WIDE + 30}" y="{y + 10}">{name}</text>')
    parts.append(f'<text x="{LEFT + WIDE / 2}" y="{TOP + HIGH + 34}" text-anchor="middle">'
                 f'steps of fine-tuning, up to {steps}; a line a seed</text></svg>')
    return "\n".join(parts) + "\n"


def main(output, *named):
    arms = {}
    for argument in named:
        name, _, folders = argument.partition("=")
        arms[name] = [exact_matches(folder) for folder in folders.split(",")]
    first = None
    print("| arm | exact match of each seed | mean | against the first |")
    print("|---|---|---|---|")
    for name, runs in arms.items():
        last = [100 * run[-1][1] for run in runs]
        mean = sum(last) / len(last)
        first = mean if first is None else first
        each = ", ".join(f"{value:.1f} %" for value in last)
        print(f"| {name} | {each} | {mean:.1f} % | {mean - first:+.1f} points |")
    Path(output).write_text(chart(arms), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
