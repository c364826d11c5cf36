#!/usr/bin/env python3
"""Phone books for examples/train/birdie.toml: lists of names with numbers to read, in which a name
seldom comes twice, and questions about such lists.

usage: birdie_data.py FOLDER [SEED]

  books.jsonl, held_out.jsonl   {"text": " Emil 33 Anna 19 …"}; one in ten has one of its entries again at its end
  train.jsonl, test.jsonl       {"prompt": " Emil 33 Anna 19 … ? Anna", "answer": " Anna 19"}
"""
import json
import random
import sys
from pathlib import Path

NAMES = """Anna Arthur Bella Bruno Carla Cecil Clara David Dora Edith Edwin Elsa Emil Erik Felix Flora Frank Georg
Greta Hanna Harald Hedda Henry Hugo Ida Ines Ivan Jakob Johan Julia Karin Klara""".split()
NUMBERS = range(10, 42)
FEWEST, MOST = 2, 12  # entries of a book
REPEATED = 0.1  # share of the books with an entry that comes again


def book(chance):
    names = chance.sample(NAMES, chance.randint(FEWEST, MOST))
    return [(name, chance.choice(NUMBERS)) for name in names]


def spelled(entries):
    return "".join(f" {name} {number}" for name, number in entries)


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
            file.write(json.dumps({"prompt": f"{spelled(entries)} ? {name}", "answer": f" {name} {number}"}) + "\n")


def main(folder, seed="1"):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_books(folder / "books.jsonl", 40000, random.Random(f"books {seed}"))
    write_books(folder / "held_out.jsonl", 200, random.Random(f"held out {seed}"))
    write_questions(folder / "train.jsonl", 20000, random.Random(f"train {seed}"))
    write_questions(folder / "test.jsonl", 1024, random.Random(f"test {seed}"))


if __name__ == "__main__":
    main(*sys.argv[1:])
