#!/usr/bin/env python3
"""Disassembles a program for x86-64 and prints every function that uses instructions newer than x86-64-v2 without
standing in one of the namespaces that Highway compiles for newer targets. Exit status 1 when there is one.

    tools/check_instructions.py PROGRAM

Such a function would end the program on an old CPU. They come from compiler flags, or from an inline function that was
compiled in a target's region and that the linker then kept for everybody.
"""

import re
import subprocess
import sys
from collections import Counter

# VEX and EVEX encodings all begin with v or, for mask registers, k; then the scalar ones of x86-64-v3 and later.
# tzcnt is missing for a reason: it is what older CPUs run as bsf, and compilers write it where both give the same.
NEWER = re.compile(r"v(?!err|erw)\w+|k(mov|and|andn|or|xor|xnor|not|add|test|ortest|unpck|shiftl|shiftr)\w+|"
                   r"andn|bextr|blsi|blsr|blsmsk|bzhi|mulx|pdep|pext|rorx|sarx|shlx|shrx|lzcnt|movbe|adcx|adox|"
                   r"aes\w+|pclmul\w+|sha(1|256)\w+|gf2p8\w+")
FUNCTION = re.compile(r"[0-9a-f]+ <(.*)>:\n")
INSTRUCTION = re.compile(r"\s+[0-9a-f]+:\s+(?:\{\w+\} )?(\w+)")
TARGET_NAMESPACE = re.compile(r"\bN_(AVX\w+)::")


def scan(lines):
    """(functions, targets, found): how many functions, how many instructions of newer targets stand where they may,
    by target, and how often each (function, instruction) stands where it may not."""
    functions, targets, found = 0, Counter(), Counter()
    function, target = "", None
    for line in lines:
        head = FUNCTION.fullmatch(line)
        if head:
            functions += 1
            function = head[1]
            target = TARGET_NAMESPACE.search(function)
            continue
        instruction = INSTRUCTION.match(line)
        if instruction and NEWER.fullmatch(instruction[1]):
            if target:
                targets[target[1]] += 1
            else:
                found[function, instruction[1]] += 1
    return functions, targets, found


def main(arguments):
    if len(arguments) != 1:
        print(__doc__)
        return 2
    command = ["objdump", "--disassemble", "--demangle", "--no-show-raw-insn", "--wide", arguments[0]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace") as disassembly:
        functions, targets, found = scan(disassembly.stdout)
    if disassembly.returncode != 0 or functions == 0:
        print(f"{arguments[0]}: no functions to look at")
        return 1
    for (function, instruction), times in sorted(found.items()):
        print(f"{function}: {instruction} ({times} times)")
    inside = ", ".join(f"{count} of {name}" for name, count in sorted(targets.items())) or "none"
    print(f"{functions} functions, newer instructions where they belong: {inside}; elsewhere: {found.total()}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
