#!/usr/bin/env python3
"""How the runs of a study learned, as a picture: for each variant the mean over its seeds, from the least to the most of
them shaded. Steps are counted from where the task begins, so that self-pretraining lies before 0.

usage: learning_curves.py STUDY_FOLDER OUT.svg [accuracy|loss]

A run that is not done is drawn as far as all seeds of its variant have come.
"""
import json
import pathlib
import statistics
import sys

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 360, 60, 40, 44, 16
COLOURS = ("#1f6fb4", "#d9661f", "#3a923a", "#8a5bb5", "#888888")
SMOOTHED = 20  # losses are means over so many steps


def read_run(folder, key):
    """Points (step, value) of a log; steps of pretraining are below 0, and have losses of their own."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    begin = sum(1 for line in lines if line.get("phase") == "pretrain")
    points = [(line["step"] + 1 - begin, line[key]) for line in lines if key in line and "phase" not in line]
    if key != "loss":
        return points
    blocks = [points[i:i + SMOOTHED] for i in range(0, len(points) - SMOOTHED + 1, SMOOTHED)]
    return [(block[-1][0], statistics.fmean(value for _, value in block)) for block in blocks]


def read_study(folder, key):
    """For each variant: steps, and for each step the values of its seeds."""
    variants = {}
    for log in sorted(folder.glob("*/seed-*/log.jsonl")):
        points = read_run(log.parent, key)
        if points:
            variants.setdefault(log.parent.parent.name, []).append(dict(points))
    curves = {}
    for name, runs in variants.items():
        steps = sorted(set.intersection(*(set(run) for run in runs)))
        curves[name] = [(step, [run[step] for run in runs]) for step in steps]
    return curves


def draw(curves, title, key):
    steps = [step for curve in curves.values() for step, _ in curve]
    values = [value for curve in curves.values() for _, some in curve for value in some]
    first, last, low, high = min(steps), max(steps), min(values), max(values)
    span, rise = max(1, last - first), max(1e-9, high - low)

    def x(step):
        return LEFT + (step - first) / span * (WIDTH - LEFT - RIGHT)

    def y(value):
        return TOP + (high - value) / rise * (HEIGHT - TOP - BOTTOM)

    def spell(value):
        return f"{value:.3f}" if key == "loss" else f"{100 * value:.1f} %"

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
           f'font-size="12"><rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
           f'<text x="{LEFT}" y="18" font-size="14">{title}</text>']
    for i in range(5):
        value = low + rise * i / 4
        out.append(f'<path d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>'
                   f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{spell(value)}</text>')
        step = first + span * i // 4
        out.append(f'<text x="{x(step):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{step}</text>')
    out.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">steps of the task</text>')
    for i, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[i % len(COLOURS)]
        upper = [f"{x(step):.1f} {y(max(some)):.1f}" for step, some in curve]
        lower = [f"{x(step):.1f} {y(min(some)):.1f}" for step, some in reversed(curve)]
        mean = [f"{x(step):.1f} {y(statistics.fmean(some)):.1f}" for step, some in curve]
        seeds = len(curve[0][1]) if curve else 0
        out.append(f'<path d="M{"L".join(upper + lower)}Z" fill="{colour}" opacity="0.18"/>'
                   f'<path d="M{"L".join(mean)}" fill="none" stroke="{colour}" stroke-width="2"/>'
                   f'<text x="{LEFT + 190 * i}" y="36" fill="{colour}">{name} ({seeds} seeds)</text>')
    return "\n".join(out) + "\n</svg>\n"


def main(folder, picture, key="accuracy"):
    folder = pathlib.Path(folder)
    curves = read_study(folder, key)
    if not curves:
        sys.exit(f"{folder}: no run has a line with '{key}' in its log.jsonl yet")
    meaning = {"accuracy": "validation answers that are right", "loss": "loss of training"}.get(key, key)
    pathlib.Path(picture).write_text(draw(curves, f"{folder.name}: {meaning}", key), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(*sys.argv[1:])
