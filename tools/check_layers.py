#!/usr/bin/env python3
"""Holds the arrows between rooms and the walls round third-party headers (docs/architecture.md) as data, and prints
every #include and every use of the terminal that goes against them. Exit status 1 when there is one.

    tools/check_layers.py [ROOT]

It reads #include lines, no more: code in another file that is included by macro is not followed.
"""

import re
import sys
from fnmatch import fnmatchcase
from pathlib import Path

# Room -> what it may include besides itself: whole rooms, or single headers of one.
ROOMS = {
    "core": [],
    "formats": ["core"],
    "kernels": ["core"],
    "models": ["core", "kernels", "formats/weight_source.h", "formats/config.h"],
    # The sampler needs the probabilities of logits, which are arithmetic on one row and know no model.
    # States at rest change their dtype, which is arithmetic on rows and knows no model either.
    # The likeliest tokens without a row of all: the head in stretches is the model's, the draw the runtime's.
    "runtime": ["core", "formats", "models/likeliest.h", "models/model.h", "models/registry.h", "models/state_layout.h",
                "kernels/distribution.h", "kernels/state_conversion.h", "kernels/state_storage.h"],
    "api": ["core", "formats", "runtime"],
    "server": ["core", "formats", "runtime"],
    # Clients of a server, which meet it on the wire only.
    "load": ["core"],
    "fleet": ["core", "runtime", "formats/state_file.h", "server/openai_api.h"],
    "nn": ["core", "kernels"],
    "zoo": ["core", "kernels", "nn"],
    "train": ["core", "kernels", "formats", "nn", "zoo"],
    "cli": ["core", "formats", "kernels", "models", "runtime", "server", "load", "fleet", "nn", "zoo", "train"],
}

# A room's tests may include what the room may, everything those rooms stand on, and the rooms named here: serving and
# learning meet in parity tests, and readers are fed with what other rooms write.
TESTS_MAY_ADD = {
    "kernels": ["formats"],
    "nn": ["models"],
    "zoo": ["models"],
    "train": ["models", "runtime"],
    "fuzz": ["formats", "models", "runtime", "server", "fleet", "train"],
    "support": ["core", "formats", "kernels", "models", "runtime"],
}

# Third-party header -> where it may be included. The first pattern that fits the header decides.
LEARNING = ["krait/nn/*", "krait/zoo/*", "krait/train/*", "krait/cli/cmd_train*", "bench/training_*", "tests/nn/*",
            "tests/zoo/*", "tests/train/*"]
WALLS = [
    # The public interface is written in krait/api; everybody else here has the rooms themselves.
    ("krait.h", ["krait/api/*", "tests/api/*"]),
    ("krait.hpp", ["tests/api/*"]),
    ("fmt/*", ["krait/*", "tests/*", "bench/*"]),
    ("hwy/*", ["krait/kernels/*", "tests/kernels/*", "bench/*"]),
    ("*intrin.h", ["krait/kernels/simd/*"]),
    ("arm_*.h", ["krait/kernels/simd/*"]),
    ("dnnl*", ["krait/kernels/matmul_onednn.cpp"]),
    ("oneapi/*", ["krait/kernels/matmul_onednn.cpp"]),
    ("torch/*", LEARNING),
    ("ATen/*", LEARNING),
    ("c10/*", LEARNING),
    ("gloo/*", ["krait/train/process_group.cpp"]),
    ("xxhash.h", ["krait/core/hash.cpp"]),
    ("zstd.h", ["krait/formats/*.cpp"]),
    ("liburing.h", ["krait/train/file_piece_queue_uring.cpp"]),
    ("rocksdb/*", ["krait/runtime/state_disk.cpp"]),
    # Asio and Beast take long to compile: the files that hold sockets, and nobody else includes their headers.
    ("boost/*", ["krait/server/http_connection.*", "krait/server/http_session.*", "krait/server/http_server.cpp"]),
    ("openssl/*", ["krait/server/http_connection.cpp"]),
    ("CLI/*", ["krait/cli/*"]),
    # bench: traces of requests are lines of JSON, and so is what the study prints for scripts.
    ("nlohmann/*", ["krait/formats/*.cpp", "krait/formats/json_schema_*.h", "krait/cli/*.cpp", "krait/server/*.cpp",
                    "krait/load/*.cpp", "krait/fleet/*.cpp", "krait/train/*.cpp", "tests/*", "bench/*.cpp"]),
    ("unicode/*", ["krait/formats/*.cpp"]),
    # tests/runtime: constraints' regular expressions are compared with PCRE2's.
    ("pcre2.h", ["krait/formats/*.cpp", "tests/runtime/*.cpp"]),
    ("sentencepiece*", ["krait/formats/*.cpp", "tests/formats/*.cpp"]),
    ("toml++/*", ["krait/train/config_file.cpp"]),
    ("gtest/*", ["tests/*"]),
    ("gmock/*", ["tests/*"]),
    ("benchmark/*", ["bench/*"]),
]

# What the C library and the kernel bring: no wall.
SYSTEM = re.compile(
    r"(sys|linux|arpa|netinet)/\w+\.h|(unistd|fcntl|sched|dlfcn|poll|pthread|signal|stdlib|malloc|cpuid|netdb|ifaddrs|termios)\.h")
STANDARD = re.compile(r"[a-z_0-9]+")  # <vector>, <cstdint>: no dot, no folder

# The library neither prints nor exits: only cli talks to the terminal.
TERMINAL = re.compile(r"\bstd::c(out|err|log|in)\b|(?<![\w:.>])(std::)?(printf|puts|putchar|exit|_exit|abort)\s*\("
                      r"|\bfprintf\s*\(\s*std(out|err)|\bfmt::print\b")

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def closure(rooms):
    """The rooms named and all they stand on."""
    found = set()
    waiting = [room.split("/")[0] for room in rooms]
    while waiting:
        room = waiting.pop()
        if room not in found:
            found.add(room)
            waiting += [arrow.split("/")[0] for arrow in ROOMS[room]]
    return found


def allowed_of(file):
    """What `file` (a path from the root) may include of krait/, or nothing when it stands in no known room."""
    family, room = file.parts[0], file.parts[1]
    if family == "bench":
        return set(ROOMS)
    if family == "tests":
        if room not in ROOMS and room not in TESTS_MAY_ADD:
            return None
        return closure([room] if room in ROOMS else []) | closure(TESTS_MAY_ADD.get(room, []))
    return None if room not in ROOMS else {room, *ROOMS[room]}


def complaint_about_room(file, allowed, header):
    parts = header.split("/")
    if len(parts) < 3 or parts[1] not in ROOMS:
        return f"{header} is in no room that tools/check_layers.py knows"
    if parts[1] in allowed or "/".join(parts[1:]) in allowed:
        return None
    single = sorted(entry for entry in allowed if entry.startswith(parts[1] + "/"))
    only = f" (of {parts[1]} only {', '.join(single)})" if single else ""
    return f"{'/'.join(file.parts[:2])} may not include {header}{only}: it may know {', '.join(sorted(allowed))}"


def complaint_about_header(file, quote, header):
    """Why `file` may not include `header`, which is not krait's own; None when it may."""
    for pattern, places in WALLS:
        if fnmatchcase(header, pattern):
            if any(fnmatchcase(file.as_posix(), place) for place in places):
                return None
            return f"{header} stays behind its wall: {', '.join(places)}"
    if quote == "<" and (STANDARD.fullmatch(header) or SYSTEM.fullmatch(header)):
        return None
    if quote == '"':
        return f'"{header}": write krait\'s own headers from the root, as "krait/room/name.h"'
    return f"<{header}> is neither standard nor named in WALLS of tools/check_layers.py: say where it may be used"


def without_comments(line):
    return re.sub(r'"(\\.|[^"\\])*"', '""', line).split("//")[0]


def complaints_of(root, path):
    file = path.relative_to(root)
    if len(file.parts) < 3 and file.parts[0] != "bench":
        yield 1, "stands in no room: move it into a folder"
        return
    allowed = allowed_of(file)
    if allowed is None:
        yield 1, f"{file.parts[0]}/{file.parts[1]} is no room that tools/check_layers.py knows"
        return
    library = file.parts[0] == "krait" and file.parts[1] != "cli"
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = INCLUDE.match(line)
        if match:
            quote, header = match.groups()
            if header.startswith("krait/"):
                complaint = complaint_about_room(file, allowed, header)
            elif header.startswith("tests/"):
                shared = file.parts[0] == "bench" and header.startswith("tests/support/")
                complaint = None if shared or file.parts[0] == "tests" else f"{header}: only tests may include tests"
            elif header.startswith("bench/"):
                complaint = None if file.parts[0] == "bench" else f"{header}: only bench may include bench"
            else:
                complaint = complaint_about_header(file, quote, header)
            if complaint:
                yield number, complaint
        elif library and TERMINAL.search(without_comments(line)):
            yield number, "the library neither prints nor exits: return an error, or let cli print"


def main(arguments):
    root = Path(arguments[0] if arguments else Path(__file__).parent.parent).resolve()
    files = [path for family in ("krait", "tests", "bench") for path in sorted((root / family).rglob("*"))
             if path.suffix in (".h", ".cpp")]
    if not files:
        print(f"no C++ files under {root}")
        return 1
    found = 0
    for path in files:
        for number, complaint in complaints_of(root, path):
            print(f"{path.relative_to(root)}:{number}: {complaint}")
            found += 1
    print(f"{len(files)} files, {found} against the layers")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
