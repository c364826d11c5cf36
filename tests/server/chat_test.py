#!/usr/bin/env python3
"""Chat templates, structured output and calls of functions over sockets, by a copy of the bundled model with a template.

usage: chat_test.py KRAIT_BINARY [unittest arguments]
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from served import Served, templated_model  # noqa: E402

BINARY = os.path.abspath(sys.argv.pop(1))
END = "<|endoftext|>"
# Turns end in the token that ends texts, so tokens never reach over them.
TEMPLATE = ("{% if messages[0].content == 'no' %}{{ raise_exception('this is not told: ' + messages[0].content) }}"
            "{% endif %}{% for m in messages %}" + END + "[{{ m.role }}]{{ m.content }}{% endfor %}"
            "{% if tools %}" + END + "[tools]{{ tools | tojson }}{% endif %}"
            "{% if style is defined %}" + END + "{{ style }}{% endif %}"
            "{% if add_generation_prompt %}" + END + "[assistant]{% endif %}")
USER = {"role": "user", "content": "Tell of a fox."}
NEXT = {"role": "user", "content": "And of a crow?"}
SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer"}},
          "required": ["name"], "additionalProperties": False}
TOOLS = [{"type": "function", "function": {"name": "greet", "parameters": SCHEMA}}]


class Templated(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = templated_model(template=TEMPLATE)
        cls.server = Served(BINARY, "-m", cls.folder)

    @classmethod
    def tearDownClass(cls):
        status = cls.server.stop()
        shutil.rmtree(cls.folder)
        assert status == 0, (status, cls.server.log[-5:])

    def chat(self, messages, status=200, **body):
        return self.server.json("POST", "/v1/chat/completions",
                                {"temperature": 0, "max_tokens": 16, "messages": messages, **body}, status=status)

    def text(self, answer):
        return answer["choices"][0]["message"]["content"]

    def tokens(self, text):
        return self.server.json("POST", "/tokenize", {"prompt": text, "add_special_tokens": False})["tokens"]

    def completion(self, text):
        return self.server.json("POST", "/v1/completions",
                                {"prompt": self.tokens(text), "temperature": 0, "max_tokens": 16})

    def test_the_prompt_is_what_the_template_renders(self):
        rendered = f"{END}[user]Tell of a fox.{END}[assistant]"
        self.assertEqual(self.tokens(rendered).count(self.tokens(END)[0]), 2)  # special tokens are recognised
        answer = self.chat([USER])
        # No token that starts a text is added: the template writes them all.
        self.assertEqual(answer["usage"]["prompt_tokens"], len(self.tokens(rendered)))
        self.assertEqual(self.text(answer), self.completion(rendered)["choices"][0]["text"])
        styled = f"{END}[user]Tell of a fox.{END}brief{END}[assistant]"
        self.assertEqual(self.text(self.chat([USER], chat_template_kwargs={"style": "brief"})),
                         self.completion(styled)["choices"][0]["text"])
        ollama = self.server.json("POST", "/api/chat", {"messages": [USER], "stream": False, "options": {
            "temperature": 0, "num_predict": 16, "repeat_penalty": 1}})
        self.assertEqual(ollama["message"]["content"], self.text(answer))

    def test_the_templates_refusal_is_told(self):
        error = self.chat([{"role": "user", "content": "no"}], 400)["error"]
        self.assertIn("this is not told: no", error["message"])
        self.assertEqual(error["param"], "messages")

    def test_a_chat_goes_on_from_a_state_of_messages(self):
        told = {"role": "assistant", "content": "A fox ran."}
        state = self.server.json("POST", "/v1/states", {"messages": [USER, told]}, status=201)
        whole = self.chat([USER, told, NEXT])
        onward = self.chat([NEXT], state=state["id"])
        self.assertEqual(state["position"] + onward["usage"]["prompt_tokens"], whole["usage"]["prompt_tokens"])
        self.assertEqual(self.text(onward), self.text(whole))

    def test_a_chat_goes_on_from_a_reply(self):
        first = self.chat([USER], return_state=True)
        state = first["choices"][0]["state"]
        self.assertEqual(state["position"], first["usage"]["total_tokens"])
        onward = self.chat([NEXT], state=state["id"], return_state=True)
        follows = f"{END}[user]And of a crow?{END}[assistant]"
        self.assertEqual(onward["usage"]["prompt_tokens"], len(self.tokens(follows)))
        plain = self.server.json("POST", "/v1/completions", {
            "prompt": self.tokens(follows), "state": state["id"], "temperature": 0, "max_tokens": 16})
        self.assertEqual(self.text(onward), plain["choices"][0]["text"])

    def test_a_response_goes_on_by_reading_what_is_new(self):
        ask = {"temperature": 0, "max_output_tokens": 16}
        first = self.server.json("POST", "/v1/responses", {**ask, "input": "Tell of a fox."})
        second = self.server.json("POST", "/v1/responses",
                                  {**ask, "input": "And of a crow?", "previous_response_id": first["id"]})
        read = first["usage"]["total_tokens"]
        follows = self.tokens(f"{END}[user]And of a crow?{END}[assistant]")
        self.assertEqual(second["usage"]["input_tokens"], read + len(follows))
        self.assertGreaterEqual(second["usage"]["input_tokens_details"]["cached_tokens"], read - 1)

    def test_a_call_is_written_and_its_arguments_fit(self):
        for choice in ("required", {"type": "function", "function": {"name": "greet"}}):
            answer = self.chat([USER], tools=TOOLS, tool_choice=choice, temperature=1, max_tokens=300,
                               parallel_tool_calls=False)
            choice = answer["choices"][0]
            self.assertEqual(choice["finish_reason"], "tool_calls")
            arguments = json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"])
            self.assertLessEqual(set(arguments), {"name", "age"})
            self.assertLessEqual(len(arguments["name"]), 8)

    def test_several_replies_read_their_prompt_once(self):
        name = "krait_prompt_tokens_computed_total"
        before = self.server.metric(name)
        words = " ".join(["fox", "crow", "wolf"] * 40)
        answer = self.chat([{"role": "user", "content": words}], n=4, temperature=1, seed=3)
        self.assertEqual(len({choice["message"]["content"] for choice in answer["choices"]}), 4)
        tokens = answer["usage"]["prompt_tokens"] // 4
        self.assertEqual(self.server.metric(name) - before, tokens)
        self.assertEqual(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 3 * tokens)

    def test_a_schema_holds_for_each_of_several(self):
        for _ in range(2):
            text = self.text(self.chat([USER], max_tokens=200, response_format={
                "type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}))
            self.assertIn("name", json.loads(text))
        answer = self.chat([USER], n=3, max_tokens=200, temperature=1, response_format={
            "type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}})
        for choice in answer["choices"]:
            self.assertIn("name", json.loads(choice["message"]["content"]))


class Opening(unittest.TestCase):
    def folder(self, template):
        folder = templated_model(template=template)
        self.addCleanup(shutil.rmtree, folder)
        return folder

    def file(self, text):
        handle, path = tempfile.mkstemp(suffix=".jinja")
        self.addCleanup(os.unlink, path)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        return path

    def prompt_tokens(self, *arguments):
        server = Served(BINARY, *arguments)
        try:
            return server, server.json("POST", "/v1/chat/completions", {"messages": [USER], "max_tokens": 1})["usage"][
                "prompt_tokens"]
        finally:
            self.assertEqual(server.stop(), 0)

    def test_a_template_that_is_none_leaves_the_plain_form(self):
        server, broken = self.prompt_tokens("-m", self.folder("{% if %}"))
        self.assertTrue(any("without the model's template" in line and "line 1" in line for line in server.log), server.log)
        server, plain = self.prompt_tokens()
        self.assertEqual(broken, plain)
        self.assertFalse(any("template" in line for line in server.log))

    def test_a_file_takes_the_place_of_the_models(self):
        _, one = self.prompt_tokens("-m", self.folder("{{ 'a b c d e f' }}"), "--chat-template", self.file(END))
        self.assertEqual(one, 1)
        run = subprocess.run([BINARY, "serve", "--port", "0", "--chat-template", self.file("{% if %}")],
                             capture_output=True, text=True, timeout=60, check=False)
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("chat template", run.stderr)


if __name__ == "__main__":
    unittest.main()
