#!/usr/bin/env python3
"""Phone books for examples/train/birdie.toml: lists of names with numbers to read, in which a name
seldom comes twice, and questions about such lists.

usage: birdie_data.py FOLDER [SEED]

  books.jsonl, held_out.jsonl   {"text": "QK:47 AX:90 …"}; one in ten has one of its entries again at its end
  train.jsonl, test.jsonl       {"prompt": "QK:47 AX:90 … ?AX:", "answer": "90"}
"""
import json
import random
import string
import sys
from pathlib import Path

ENTRIES, LETTERS, DIGITS = 10, 2, 2
REPEATED = 0.1  # share of the books with an entry that comes again


def book(chance):
    names = set()
    while len(names) < ENTRIES:
        names.add("".join(chance.choices(string.ascii_uppercase, k=LETTERS)))
    # A set's order is not the same in every run.
    names = sorted(names)
    chance.shuffle(names)
    return [(name, "".join(chance.choices(string.digits, k=DIGITS))) for name in names]


def spelled(entries):
    return " ".join(f"{name}:{number}" for name, number in entries)


def write_books(path, count, chance):
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(count):
            entries = book(chance)
            if chance.random() < REPEATED:
                entries.append(chance.choice(entries))
            file.write(json.dumps({"text": spelled(entries)}) + "\n")


def write_questions(path, count, chance):
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(count):
            entries = book(chance)
            name, number = chance.choice(entries)
            file.write(json.dumps({"prompt": f"{spelled(entries)} ?{name}:", "answer": number}) + "\n")


def main(folder, seed="1"):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_books(folder / "books.jsonl", 40000, random.Random(f"books {seed}"))
    write_books(folder / "held_out.jsonl", 200, random.Random(f"held out {seed}"))
    write_questions(folder / "train.jsonl", 20000, random.Random(f"train {seed}"))
    write_questions(folder / "test.jsonl", 1024, random.Random(f"test {seed}"))


if __name__ == "__main__":
    main(*sys.argv[1:])
