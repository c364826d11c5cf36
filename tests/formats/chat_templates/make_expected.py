#!/usr/bin/env python3
"""Renders every template here over every conversation with Python's Jinja, set up as transformers sets it up, and
writes what came out (or that an error did) to expected.json.

    /usr/bin/python3 tests/formats/chat_templates/make_expected.py [FOLDER OUT]

Needs Debian's python3-jinja2. The result is committed; run it again after changing a template or a conversation. With
FOLDER and OUT it does the same for the templates of another folder.
"""
import datetime
import json
import sys
from pathlib import Path

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = Path(__file__).parent


class Generation(Extension):
    """{% generation %} as a block that writes its body."""
    tags = {"generation"}

    def parse(self, parser):
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(lineno)

    def _body(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    return env


def context(conversation):
    defaults = {"tools": None, "documents": None, "add_generation_prompt": False, "bos_token": "<s>", "eos_token": "</s>"}
    return defaults | {key: value for key, value in conversation.items() if key != "name"}


def render(text, variables):
    try:
        return {"text": environment().from_string(text).render(**variables)}
    except jinja2.exceptions.TemplateError as error:
        return {"error": str(error)}
    except (TypeError, ValueError) as error:
        return {"error": str(error)}


def main(folder=HERE, out=HERE / "expected.json"):
    conversations = json.loads((HERE / "conversations.json").read_text(encoding="utf-8"))
    expected = {}
    for path in sorted(Path(folder).glob("*.jinja")):
        text = path.read_text(encoding="utf-8")
        expected[path.stem] = {c["name"]: render(text, context(c)) for c in conversations}
    Path(out).write_text(json.dumps(expected, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
