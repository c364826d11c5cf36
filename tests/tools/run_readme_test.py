"""run_readme.py runs what is marked, in order, in a clean environment, and fails when a command fails."""

import os
import unittest

from tool_case import ToolCase


def fence(mark, *lines):
    return "\n".join([f"```{mark}", *lines, "```", ""])


class RunReadme(ToolCase):
    def run_readme(self, text, *arguments):
        self.write("README.md", text)
        return self.run_tool("run_readme.py", "--file", self.root / "README.md", *arguments)

    def test_runs_marked_blocks_in_order_beside_the_file(self):
        status, output = self.run_readme(fence("sh run", "echo one > out", "echo two >> out") + "text\n" +
                                         fence("sh", "echo never >> out") + fence("sh run", "echo three >> out"))
        self.assertEqual(status, 0, output)
        self.assertEqual((self.root / "out").read_text(), "one\ntwo\nthree\n")
        self.assertIn("echo two >> out", output)
        self.assertNotIn("never", output)

    def test_first_failure_ends_it(self):
        for failing in ("false", "false | cat", "no_such_command", "echo $unset_variable"):
            with self.subTest(failing=failing):
                status, output = self.run_readme(fence("sh run", failing, "touch same") + fence("sh run", "touch next"))
                self.assertEqual(status, 1, output)
                self.assertFalse((self.root / "same").exists())
                self.assertFalse((self.root / "next").exists())

    def test_environment_and_stdin_are_clean(self):
        os.environ["KRAIT_LEAKED"] = "yes"
        self.addCleanup(os.environ.pop, "KRAIT_LEAKED")
        status, output = self.run_readme(fence("sh run", 'echo "leaked: ${KRAIT_LEAKED:-no}"', "wc -c", 'ls -A "$HOME"'))
        self.assertEqual(status, 0, output)
        self.assertIn("leaked: no\n", output)
        self.assertIn("\n0\n", output)

    def test_skips_the_command_named(self):
        status, output = self.run_readme(fence("sh run", "touch first", "touch second"), "--skip", "touch first")
        self.assertEqual(status, 0, output)
        self.assertFalse((self.root / "first").exists())
        self.assertTrue((self.root / "second").exists())

    def test_nothing_to_run_is_a_failure(self):
        self.assertEqual(self.run_readme(fence("sh", "echo"))[0], 1)


if __name__ == "__main__":
    unittest.main()
