"""check_instructions.py sees instructions of newer CPUs wherever a compiler put them, and only there."""

import subprocess
import unittest

from tool_case import ToolCase

SUM = "float sum(const float* x, int n) { float s = 0; for (int i = 0; i < n; ++i) s += x[i] * x[i]; return s; }\n"
REGION = '#pragma GCC push_options\n#pragma GCC target("avx2,fma")\n%s\n#pragma GCC pop_options\n'


class CheckInstructions(ToolCase):
    def check(self, source, *flags):
        self.write("source.cpp", source)
        program = self.root / "source.o"
        subprocess.run(["g++", "-O2", "-ffast-math", *flags, "-c", self.root / "source.cpp", "-o", program], check=True)
        return self.run_tool("check_instructions.py", program)

    def test_the_floor_passes(self):
        status, output = self.check(SUM, "-march=x86-64-v2")
        self.assertEqual(status, 0, output)
        self.assertIn("elsewhere: 0", output)

    def test_flags_of_a_newer_cpu_are_found(self):
        for newer in ("x86-64-v3", "x86-64-v4"):
            status, output = self.check(SUM, f"-march={newer}", "-O3")
            self.assertEqual(status, 1, output)
            self.assertIn("sum(float const*, int): v", output)

    def test_scalar_instructions_count_too(self):
        source = "unsigned long f(unsigned long x, int n) { return x >> n; } int g(int x) { return x & (x - 1); }"
        status, output = self.check(source, "-march=x86-64-v2", "-mbmi", "-mbmi2")
        self.assertEqual(status, 1, output)
        self.assertIn("f(unsigned long, int): shrx", output)
        self.assertIn("g(int): blsr", output)

    def test_target_namespaces_may_use_them_and_inline_functions_in_their_region_may_not(self):
        inside = f"namespace krait::N_AVX2 {{ {SUM} }}"
        status, output = self.check(REGION % inside)
        self.assertEqual(status, 0, output)
        self.assertRegex(output, r"belong: [1-9]\d* of AVX2; elsewhere: 0")
        leaking = f"template <class T> [[gnu::noinline]] inline {SUM.replace('float', 'T')} float use(const float* x) {{ return sum(x, 9); }}"
        status, output = self.check(REGION % leaking)
        self.assertEqual(status, 1, output)
        self.assertIn("float sum<float>", output)

    def test_a_file_that_is_no_program_does_not_pass(self):
        self.write("text.txt", "no program\n")
        status, output = self.run_tool("check_instructions.py", self.root / "text.txt")
        self.assertEqual(status, 1, output)


if __name__ == "__main__":
    unittest.main()
