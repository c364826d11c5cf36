#!/usr/bin/env python3
"""What is computed again when people do with a prompt what they do: edit it, go back, ask elsewhere, go on tomorrow.

usage: bench/state_store/experiments.py KRAIT_BINARY [-m MODEL]

Each line is a process of its own over one folder of states (`krait run --cache`), with a prompt of 1,200 tokens. Prints
the tokens that were computed beside what llama.cpp's server computes for the same (docs/state_store.md).
"""
import argparse
import json
import random
import subprocess
import tempfile

WORDS = ("the king had three daughters and the youngest was so beautiful that even the sun wondered whenever it shone "
         "on her face near the castle lay a great dark forest and under an old lime tree was a well").split()


class Krait:
    def __init__(self, binary, model):
        self.binary, self.model = binary, (["-m", model] if model else [])

    def json(self, *arguments):
        result = subprocess.run([self.binary, *arguments, "--json"], capture_output=True, text=True, check=True)
        return json.loads(result.stdout)

    def tokens(self, text):
        return self.json("tokenize", *self.model, text)["ids"]

    def run(self, folder, text):
        return self.json("run", *self.model, "--greedy", "-n", "1", "--cache", folder, text)["cache"]


def words_for(krait, before, tokens, seed):
    """Words that, after those before, make exactly so many tokens."""
    chosen = random.Random(seed)
    words = list(before)

    def missing(more=()):
        return tokens - len(krait.tokens(" ".join([*words, *more])))

    while (short := missing()) > 0:
        words += [chosen.choice(WORDS) for _ in range(max(1, short // 3))]
        while missing() < 0:
            words.pop()
    return words


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("-m", "--model")
    options = parser.parse_args()
    krait = Krait(options.binary, options.model)
    words = words_for(krait, [], 1200, seed=1)
    prompt = " ".join(words)
    place = next(i for i in range(len(words)) if len(krait.tokens(" ".join(words[:i]))) >= 600)
    edited = " ".join([*words[:place], "dragon", *words[place + 1:]])
    same, other = krait.tokens(prompt), krait.tokens(edited)
    common = next(i for i, (a, b) in enumerate(zip(same, other)) if a != b)
    longer = " ".join(words_for(krait, words, 1250, seed=2))
    with tempfile.TemporaryDirectory() as folder:
        rows = [("first time", krait.run(folder, prompt), "1,200"),
                (f"edited at token {common}", krait.run(folder, edited), "1,200"),
                ("back to the old prompt", krait.run(folder, prompt), "1,066"),
                ("the same in another session", krait.run(folder, prompt), "1,200"),
                ("restored, and 50 tokens more", krait.run(folder, longer), "1,250")]
    print(f"| {'prompt of 1,200 tokens':<28} | krait computes | llama.cpp's server | what the store says |")
    print(f"|{'-' * 30}|---------------:|-------------------:|---|")
    for what, cache, peer in rows:
        print(f"| {what:<28} | {cache['computed_tokens']:>14,} | {peer:>18} | {cache['lookup']} |")


if __name__ == "__main__":
    main()
