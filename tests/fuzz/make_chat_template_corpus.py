#!/usr/bin/env python3
"""Writes the seeds of the fuzzer of chat templates: those of tests/formats/chat_templates, and contexts.

    python3 tests/fuzz/make_chat_template_corpus.py

The files are committed; run it again after changing it or them.
"""
import json
from pathlib import Path

from make_corpus import write

FOLDER = Path(__file__).parent.parent / "formats" / "chat_templates"


def main():
    for path in sorted(FOLDER.glob("*.jinja")):
        write("fuzz_chat_template", path.stem, path.read_bytes())
    context = json.dumps({"messages": [{"role": "user", "content": "é", "n": [1, 2.5, 1e300, -1, True, None, {"a": []}]}]})
    text = ("{% for m in messages %}{{ m.n[::-1] | map('string') | join(m.content * 3) }}{{ m | tojson(indent=2) }}"
            "{{ m.n[0] // -2 ** 3 % 7 - m.n[1] }}{{ 'a,b'.rsplit(',', 1) | sort(reverse=true) }}{% endfor %}")
    write("fuzz_chat_template", "with_context", f"{text}\0{context}".encode())


if __name__ == "__main__":
    main()
