#!/usr/bin/env python3
"""Looks over the files under version control for what a compiler does not see: sizes, names, forgotten sources, and
traces of one machine. Prints each with its place; exit status 1 when there is one. Notes do not fail.

    tools/check_tree.py [ROOT]
"""

import re
import subprocess
import sys
from pathlib import Path

README_LINES = 150
LONG_LINES, VERY_LONG_LINES = 500, 800
LARGEST_BYTES = 10_000_000

# Written with brackets so that these lines do not find themselves.
MACHINE = re.compile(r"(?<![\w.$}])/(hom[e]|roo[t]|wor[k]|far[m]|User[s]|mn[t])/\w")
REGISTRY = re.compile(r"registry\.npm[j]s|deb\.debia[n]\.|security\.debia[n]\.|archive\.ubunt[u]|pypi\.or[g]|"
                      r"pythonhoste[d]|proxy\.golan[g]|crates\.i[o]")
UNFINISHED = re.compile(r"\b(TOD[O]|FIXM[E])\b|^(<{7}|>{7}) ")
EMPTY_NAMES = {"util", "utils", "helper", "helpers", "common", "manager", "misc"}
SKIPPED_FOLDERS = {"build", ".git", "node_modules"}


def tracked_files(root):
    """Paths from the root; where there is no git, everything that is not built."""
    git = subprocess.run(["git", "-C", root, "-c", f"safe.directory={root}", "ls-files", "-z", "--deduplicate"], capture_output=True,
                         check=False)
    if git.returncode == 0:
        names = git.stdout.decode().split("\0")
        return [Path(name) for name in names if name and (root / name).is_file()]
    return [path.relative_to(root) for path in sorted(root.rglob("*"))
            if path.is_file() and not SKIPPED_FOLDERS & set(path.relative_to(root).parts)]


def head_comment(lines):
    head = []
    for line in lines:
        if not line.startswith("//"):
            break
        head.append(line)
    return " ".join(head)


def sources_named(root, cmake_files):
    """Every .cpp that some CMakeLists.txt names, as a path from the root."""
    named = set()
    for path in cmake_files:
        text = re.sub(r"#.*", "", (root / path).read_text(encoding="utf-8"))
        named |= {path.parent / word for word in re.findall(r"[\w./-]+\.cpp", text)}
    return named


def check_text(path, lines):
    for number, line in enumerate(lines, 1):
        if MACHINE.search(line):
            yield number, "a path of one machine"
        if REGISTRY.search(line):
            yield number, "a package registry's host: machines say themselves where they get packages"
        if UNFINISHED.search(line):
            yield number, "unfinished"
    if path.name == "README.md" and len(path.parts) == 1 and len(lines) >= README_LINES:
        yield len(lines), f"README.md has {len(lines)} lines, {README_LINES - 1} are enough: the rest belongs in docs/"
    if path.parts[0] == "krait" and len(lines) > VERY_LONG_LINES and "long because" not in head_comment(lines).lower():
        yield 1, f'{len(lines)} lines: split by idea, or say "Long because …" in the head comment'


def check(root):
    """(problems, notes), each a list of lines."""
    problems, notes = [], []
    files = tracked_files(root)
    named = sources_named(root, [path for path in files if path.name == "CMakeLists.txt"])
    for path in files:
        content = (root / path).read_bytes()
        if len(content) > LARGEST_BYTES:
            problems.append(f"{path}: {len(content)} bytes; the limit is {LARGEST_BYTES}")
        if EMPTY_NAMES & set(re.split(r"[_.-]", path.name.lower())):
            problems.append(f"{path}: the name does not say what the file is about")
        if path.suffix == ".cpp" and path.parts[0] in ("krait", "tests", "bench") and path not in named:
            problems.append(f"{path}: in no CMakeLists.txt, so nobody compiles it")
        if b"\0" in content:
            continue
        lines = content.decode("utf-8", errors="replace").splitlines()
        problems += [f"{path}:{number}: {why}" for number, why in check_text(path, lines)]
        if path.suffix in (".cpp", ".h") and path.parts[0] == "krait" and LONG_LINES < len(lines):
            notes.append(f"{path}: {len(lines)} lines, look whether it holds two ideas")
    return problems, notes


def main(arguments):
    root = Path(arguments[0] if arguments else Path(__file__).parent.parent).resolve()
    problems, notes = check(root)
    for note in notes:
        print(f"note: {note}")
    for problem in problems:
        print(problem)
    print(f"{len(problems)} problems, {len(notes)} notes")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
