"""check_tree.py notices each thing it is there for, in a temporary tree that is otherwise in order."""

import subprocess
import unittest

from tool_case import ToolCase

COMMENT = "// A file.\n"


class CheckTree(ToolCase):
    def setUp(self):
        super().setUp()
        self.write("README.md", "krait\n" * 149)
        self.write("krait/core/CMakeLists.txt", "krait_add_room(core\n  SOURCES error.cpp sub/deep.cpp)\n")
        self.write("krait/core/error.cpp", COMMENT)
        self.write("krait/core/sub/deep.cpp", COMMENT)

    def check(self):
        return self.run_tool("check_tree.py", self.root)

    def expect_problem(self, start):
        status, output = self.check()
        self.assertEqual(status, 1, output)
        self.assertIn("\n1 problems", "\n" + output)
        self.assertTrue(any(line.startswith(start) for line in output.splitlines()), output)

    def test_tree_in_order_passes(self):
        self.assertEqual(self.check(), (0, "0 problems, 0 notes\n"))

    def test_long_readme(self):
        self.write("README.md", "krait\n" * 150)
        self.expect_problem("README.md:150: README.md has 150 lines")

    def test_path_of_a_machine(self):
        for place in ("home/someone", "wor" + "k/main", "roo" + "t/krait", "User" + "s/someone"):
            with self.subTest(place=place):
                self.write("docs/notes.md", f"fine\nsee /{place}\n")
                self.expect_problem("docs/notes.md:2: a path of one machine")

    def test_paths_that_every_machine_has(self):
        self.write("docs/notes.md", "/usr/bin/env, /tmp/x, models/home/x, src/wor" + "k/y, https://example.org/home/x\n")
        self.assertEqual(self.check()[0], 0, self.check()[1])

    def test_registry_host(self):
        self.write("web/package-lock.json", '"resolved": "https://registry.npm' + 'js.org/x"\n')
        self.expect_problem("web/package-lock.json:1: a package registry's host")

    def test_unfinished(self):
        self.write("krait/core/error.cpp", COMMENT + "// TO" + "DO: finish\n")
        self.expect_problem("krait/core/error.cpp:2: unfinished")
        self.write("krait/core/error.cpp", "<" * 7 + " HEAD\n")
        self.expect_problem("krait/core/error.cpp:1: unfinished")

    def test_very_long_file_needs_a_reason(self):
        self.write("krait/core/error.cpp", COMMENT + "int x;\n" * 800)
        status, output = self.check()
        self.assertEqual(status, 1)
        self.assertIn("krait/core/error.cpp:1: 801 lines", output)
        self.write("krait/core/error.cpp", COMMENT + "// Long because it is one table.\n" + "int x;\n" * 800)
        status, output = self.check()
        self.assertEqual(status, 0, output)
        self.assertIn("note: krait/core/error.cpp: 802 lines", output)

    def test_long_file_is_a_note(self):
        self.write("krait/core/error.cpp", "int x;\n" * 501)
        status, output = self.check()
        self.assertEqual(status, 0, output)
        self.assertIn("note: krait/core/error.cpp: 501 lines", output)

    def test_large_file(self):
        self.write("models/weights.bin", b"\0" * 10_000_001)
        self.expect_problem("models/weights.bin: 10000001 bytes")

    def test_source_that_nobody_compiles(self):
        for name in ("krait/core/forgotten.cpp", "tests/core/forgotten_test.cpp", "krait/core/sub/error.cpp"):
            with self.subTest(name=name):
                self.write(name, COMMENT)
                self.expect_problem(f"{name}: in no CMakeLists.txt")
                (self.root / name).unlink()

    def test_source_that_only_a_comment_names(self):
        self.write("krait/core/forgotten.cpp", COMMENT)
        self.write("krait/CMakeLists.txt", "# core/forgotten.cpp\n")
        self.expect_problem("krait/core/forgotten.cpp: in no CMakeLists.txt")

    def test_empty_names(self):
        for name in ("krait/core/utils.h", "krait/core/string_helpers.h", "tools/misc.py", "krait/core/common.h",
                     "krait/core/state_manager.h"):
            with self.subTest(name=name):
                self.write(name, COMMENT)
                self.expect_problem(f"{name}: the name does not say")
                (self.root / name).unlink()

    def test_only_files_under_version_control_count(self):
        self.write("krait/core/utils.h", COMMENT)
        subprocess.run(["git", "-C", self.root, "init", "--quiet"], check=True)
        subprocess.run(["git", "-C", self.root, "add", "README.md"], check=True)
        self.assertEqual(self.check(), (0, "0 problems, 0 notes\n"))


if __name__ == "__main__":
    unittest.main()
