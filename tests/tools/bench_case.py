"""Programs that stand in for krait and its peer: each call is logged, and prints the next of the answers given."""

import json
import sys

from tool_case import TOOLS, ToolCase

BENCH = TOOLS.parent / "bench"

PROGRAM = """#!{python}
import json, os, pathlib, sys
name = pathlib.Path(__file__).name
log = pathlib.Path(__file__).resolve().parent / "calls.log"
with log.open("a") as calls:
    calls.write(json.dumps([name, sys.argv[1:], os.environ.get("GLIBC_TUNABLES", "")]) + "\\n")
count = sum(json.loads(line)[0] == name for line in log.read_text().splitlines())
arguments = " ".join(sys.argv[1:])
for words, answers in {answers!r}:
    if words in arguments:
        answer = answers[(count - 1) % len(answers)]
        if isinstance(answer, int):
            sys.stderr.write("error: invalid parameter\\n")
            sys.exit(answer)
        sys.stdout.write(answer)
        sys.exit(0)
sys.exit("no answer to " + arguments)
"""


class BenchCase(ToolCase):
    def program(self, name, *answers):
        """A program whose calls are answered by the first of (words among the arguments, [text or exit status])."""
        self.write(name, PROGRAM.format(python=sys.executable, answers=list(answers)))
        (self.root / name).chmod(0o755)
        return self.root / name

    def calls(self):
        """[name, arguments, GLIBC_TUNABLES] of each call, in order."""
        return [json.loads(line) for line in (self.root / "calls.log").read_text().splitlines()]
