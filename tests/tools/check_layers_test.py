"""check_layers.py notices what it is there for: each test plants one violation in a tree that is otherwise in order."""

import unittest

from tool_case import ToolCase


class CheckLayers(ToolCase):
    def setUp(self):
        super().setUp()
        self.write("krait/core/error.h", "#include <fmt/format.h>\n#include <sys/mman.h>\n#include <expected>\n")
        self.write("krait/formats/config.cpp", '#include <nlohmann/json.hpp>\n#include "krait/core/error.h"\n')
        self.write("krait/kernels/norm.cpp", '#include <hwy/highway.h>\n#include "hwy/foreach_target.h"\n')
        self.write("krait/models/mamba.cpp", '#include "krait/kernels/norm.h"\n#include "krait/formats/config.h"\n')
        self.write("krait/runtime/engine.cpp", '#include "krait/models/model.h"\n')
        self.write("krait/cli/main.cpp", '#include <CLI/CLI.hpp>\nint main() { std::printf("x"); }\n')
        self.write("tests/runtime/engine_test.cpp",
                   '#include <gtest/gtest.h>\n#include "krait/models/mamba.h"\n#include "tests/support/shared_data.h"\n')

    def check(self):
        return self.run_tool("check_layers.py", self.root)

    def expect_violation(self, file, line, *words):
        """The file is the only one complained about, at this line."""
        status, output = self.check()
        self.assertEqual(status, 1, output)
        complaints = output.splitlines()[:-1]
        self.assertEqual(len(complaints), 1, output)
        self.assertTrue(complaints[0].startswith(f"{file}:{line}: "), output)
        for word in words:
            self.assertIn(word, complaints[0])

    def test_tree_in_order_passes(self):
        status, output = self.check()
        self.assertEqual(status, 0, output)
        self.assertIn("7 files, 0 against", output)

    def test_empty_tree_is_no_success(self):
        self.assertEqual(self.run_tool("check_layers.py", self.root / "krait" / "core")[0], 1)

    def test_arrow_upwards(self):
        self.write("krait/core/clock.h", '#pragma once\n#include "krait/runtime/engine.h"\n')
        self.expect_violation("krait/core/clock.h", 2, "krait/core may not include krait/runtime/engine.h")

    def test_arrow_sideways(self):
        self.write("krait/kernels/scan.cpp", '#include "krait/formats/gguf.h"\n')
        self.expect_violation("krait/kernels/scan.cpp", 1, "may not include krait/formats/gguf.h")

    def test_other_header_of_a_room_that_gives_two(self):
        self.write("krait/models/falcon.cpp", '#include "krait/formats/gguf.h"\n')
        self.expect_violation("krait/models/falcon.cpp", 1, "formats/config.h", "formats/weight_source.h")

    def test_one_model_in_the_runtime(self):
        self.write("krait/runtime/session.cpp", '#  include "krait/models/mamba.h"\n')
        self.expect_violation("krait/runtime/session.cpp", 1, "models/model.h")

    def test_tests_may_not_reach_up(self):
        self.write("tests/core/dtype_test.cpp", '#include "krait/formats/gguf.h"\n')
        self.expect_violation("tests/core/dtype_test.cpp", 1, "tests/core may not include")

    def test_library_may_not_include_tests(self):
        self.write("krait/core/clock.h", '#include "tests/support/shared_data.h"\n')
        self.expect_violation("krait/core/clock.h", 1, "only tests")

    def test_unknown_room(self):
        self.write("krait/sundry/thing.h", "#pragma once\n")
        self.expect_violation("krait/sundry/thing.h", 1, "no room")
        (self.root / "krait/sundry/thing.h").unlink()
        self.write("krait/thing.h", "#pragma once\n")
        self.expect_violation("krait/thing.h", 1, "no room")

    def test_walls(self):
        for file, header in (
                ("krait/models/mamba2.cpp", "hwy/highway.h"),
                ("krait/kernels/matmul.cpp", "oneapi/dnnl/dnnl.hpp"),
                ("krait/kernels/scan.cpp", "immintrin.h"),
                ("krait/runtime/train.cpp", "torch/torch.h"),
                ("krait/cli/cmd_run.cpp", "torch/torch.h"),
                ("krait/formats/config.h", "nlohmann/json.hpp"),
                ("krait/runtime/session.cpp", "nlohmann/json.hpp"),
                ("krait/formats/tokenizer.h", "unicode/uchar.h"),
                ("krait/cli/cmd_tokenize.cpp", "pcre2.h"),
                ("krait/runtime/options.cpp", "CLI/CLI.hpp"),
                ("krait/core/check.cpp", "gtest/gtest.h"),
                ("tests/kernels/norm_test.cpp", "benchmark/benchmark.h")):
            with self.subTest(file=file, header=header):
                self.write(file, f"// head\n#include <{header}>\n")
                self.expect_violation(file, 2, header, "wall")
                (self.root / file).unlink()

    def test_third_party_header_nobody_spoke_about(self):
        self.write("krait/core/clock.cpp", "#include <somelib/some.h>\n")
        self.expect_violation("krait/core/clock.cpp", 1, "somelib/some.h", "WALLS")

    def test_header_by_its_bare_name(self):
        self.write("krait/core/clock.cpp", '#include "clock.h"\n')
        self.expect_violation("krait/core/clock.cpp", 1, "from the root")

    def test_library_that_prints_or_exits(self):
        for statement in ("std::cout << 1;", 'printf("x");', "std::exit(1);", 'fmt::print("x");', "fprintf(stderr, s);"):
            with self.subTest(statement=statement):
                self.write("krait/core/clock.cpp", f"void f() {{\n  {statement}\n}}\n")
                self.expect_violation("krait/core/clock.cpp", 2, "neither prints nor exits")

    def test_speaking_about_printing_is_no_printing(self):
        self.write("krait/core/clock.cpp",
                   '// printf() is not for us\nvoid f() { use("exit(1)"); snprintf(b, 3, "x"); on_exit(); self.exit(); }\n')
        self.assertEqual(self.check()[0], 0, self.check()[1])


if __name__ == "__main__":
    unittest.main()
