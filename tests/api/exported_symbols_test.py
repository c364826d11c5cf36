#!/usr/bin/env python3
"""libkrait.so shows exactly the functions that krait.h declares, and says its name with its major version.

usage: exported_symbols_test.py LIBRARY NM READELF [unittest arguments]
"""
import re
import subprocess
import sys
import unittest
from pathlib import Path

LIBRARY, NM, READELF = (sys.argv.pop(1) for _ in range(3))
INCLUDE = Path(__file__).resolve().parents[2] / "include"


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


class ExportedSymbols(unittest.TestCase):
    def test_are_the_functions_of_the_header(self):
        header = re.sub(r"/\*.*?\*/", "", (INCLUDE / "krait.h").read_text(), flags=re.DOTALL)
        declared = set(re.findall(r"KRAIT_API[^;(]*?\b(krait_\w+)\(", header))
        self.assertGreater(len(declared), 30)
        lines = output(NM, "--dynamic", "--defined-only", LIBRARY).splitlines()
        # The symbol's version stands behind @@; the version itself is listed as an absolute symbol.
        shown = {line.split()[2].split("@")[0] for line in lines if line.split()[1] != "A"}
        self.assertEqual(shown, declared)

    def test_the_library_has_a_name_with_its_major_version(self):
        major = re.search(r"KRAIT_VERSION_MAJOR (\d+)", (INCLUDE / "krait.h").read_text())[1]
        self.assertIn(f"Library soname: [libkrait.so.{major}]", output(READELF, "--dynamic", "--wide", LIBRARY))

    def test_the_library_is_looked_for_nowhere_but_where_the_system_looks(self):
        installed = output(READELF, "--dynamic", "--wide", LIBRARY)
        self.assertNotIn("RPATH", installed)
        self.assertNotIn("RUNPATH", installed)


if __name__ == "__main__":
    unittest.main()
