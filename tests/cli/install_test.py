#!/usr/bin/env python3
"""An installed krait as applications find it: the examples are built against it, in C by pkg-config and in C++ by CMake,
from a prefix that is moved after the installation, and say the right things. docs/api.md shows what was built.

usage: install_test.py BUILD_FOLDER [unittest arguments]
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

BUILD = Path(sys.argv.pop(1)).resolve()
SOURCE = Path(__file__).resolve().parents[2]
C_EXAMPLE = SOURCE / "examples" / "c" / "tell_twice.c"
CPP_EXAMPLE = SOURCE / "examples" / "cpp" / "tell_twice.cpp"


def run(*command, **options):
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    if result.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}:\n{result.stdout}{result.stderr}")
    return result.stdout


class Installed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp())
        run("cmake", "--install", BUILD, "--prefix", cls.folder / "first")
        cls.prefix = cls.folder / "moved"
        (cls.folder / "first").rename(cls.prefix)
        [cls.libraries] = {path.parent for path in cls.prefix.rglob("libkrait.so")}
        cls.pkg_config = {**os.environ, "PKG_CONFIG_PATH": str(cls.libraries / "pkgconfig")}

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def check_tale(self, output):
        parts = {}
        for part in output.split("\n----\n"):
            title, _, text = part.partition(":")
            parts[title] = text
        self.assertGreater(len(parts["first"]), 40, output)
        self.assertEqual(parts["first again"], parts["first"])
        self.assertNotEqual(parts["second"], parts["first"])
        self.assertGreater(int(parts["position"]), 5)
        # The tale of the program: the same model, seed and beginning.
        program = run(self.prefix / "bin" / "krait", "run", "-n", "40", "--seed", "7", "Once upon a time there was a fox")
        self.assertEqual(parts["first"].strip(), program.strip())
        # The other one that comes with it, by its name.
        run(self.prefix / "bin" / "krait", "run", "-m", "tales-m3", "-n", "5", "A fox")
        return parts

    def test_the_c_example_is_built_by_pkg_config_and_says_the_same_after_loading(self):
        flags = run("pkg-config", "--cflags", "--libs", "krait", env=self.pkg_config).split()
        program = self.folder / "tell_twice_c"
        run("cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", C_EXAMPLE, "-o", program, *flags,
            f"-Wl,-rpath,{self.libraries}")
        state = self.folder / "c.state"
        self.check_tale(run(program, state, cwd=self.folder))
        self.assertGreater(state.stat().st_size, 1000)

        result = subprocess.run([program, "/not/a/folder/state"], capture_output=True, text=True, check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("input/output", result.stderr)

    def test_the_cpp_example_is_built_by_cmake_and_says_the_same_after_loading(self):
        project = self.folder / "cpp"
        run("cmake", "-S", CPP_EXAMPLE.parent, "-B", project, f"-DCMAKE_PREFIX_PATH={self.prefix}",
            "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror -pedantic")
        run("cmake", "--build", project)
        parts = self.check_tale(run(project / "tell_twice", self.folder / "cpp.state"))
        self.assertEqual(parts["note"], " the fox")

    def test_an_older_version_is_not_taken_for_a_newer_one(self):
        folder = self.folder / "newer"
        folder.mkdir()
        (folder / "CMakeLists.txt").write_text("cmake_minimum_required(VERSION 3.16)\nproject(newer LANGUAGES CXX)\n"
                                               "find_package(krait 99 REQUIRED)\n")
        result = subprocess.run(["cmake", "-S", folder, "-B", folder / "build", f"-DCMAKE_PREFIX_PATH={self.prefix}"],
                                capture_output=True, text=True, check=False)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn('compatible with requested version "99"', " ".join(result.stderr.split()))

    def test_nothing_installed_names_the_prefix_or_needs_other_packages(self):
        for path in [*self.libraries.rglob("*.cmake"), *self.libraries.rglob("*.pc")]:
            text = path.read_text()
            self.assertNotIn(str(self.folder), text, path)
            self.assertNotIn(str(SOURCE), text, path)
            self.assertNotRegex(text, r"find_dependency|fmt::|DNNL|Requires:", path)

    def test_both_headers_stand_alone(self):
        for name, command in (("krait.h", ("cc", "-std=c11")), ("krait.h", ("c++", "-std=c++11")),
                              ("krait.hpp", ("c++", "-std=c++20"))):
            source = self.folder / ("alone.c" if command[0] == "cc" else "alone.cpp")
            source.write_text(f"#include <{name}>\n")
            run(*command, "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only",
                "-I", self.prefix / "include", source)


class Page(unittest.TestCase):
    def test_shows_the_examples_as_they_are(self):
        page = (SOURCE / "docs" / "api.md").read_text()
        for language, file in (("c", C_EXAMPLE), ("cpp", CPP_EXAMPLE),
                               ("cmake", CPP_EXAMPLE.parent / "CMakeLists.txt")):
            blocks = re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
            self.assertIn(file.read_text(), blocks, f"docs/api.md does not show {file.name} as it is")

    def test_names_every_function_of_the_header(self):
        page = (SOURCE / "docs" / "api.md").read_text()
        header = (SOURCE / "include" / "krait.h").read_text()
        for name in re.findall(r"^KRAIT_API[^;(]*?\b(krait_\w+)\(", header, re.MULTILINE):
            self.assertIn(f"`{name}`", page)


if __name__ == "__main__":
    unittest.main()
