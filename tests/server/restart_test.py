#!/usr/bin/env python3
"""A server that is killed in the middle of a conversation: the next one finds in the folder of states what had been
said, computes the new tokens only, and answers what an unbroken server would have.

usage: restart_test.py KRAIT_BINARY [unittest arguments]
"""
import os
import signal
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from served import Served  # noqa: E402

BINARY = os.path.abspath(sys.argv.pop(1))
QUESTIONS = ["Tell me of a fox who lived in a deep wood, and of the old woman who fed him in winter. " * 4,
             "What did the fox say to the old woman when the snow came?",
             "And what did the old woman give him?",
             "Did the fox ever come back to her house?"]


class Restart(unittest.TestCase):
    def turn(self, server, messages, question):
        """Asks, and keeps question and answer in `messages`; the answer's JSON."""
        messages.append({"role": "user", "content": question})
        answer = server.json("POST", "/v1/chat/completions",
                             {"messages": messages, "max_tokens": 24, "temperature": 0, "ignore_eos": True})
        messages.append(answer["choices"][0]["message"])
        return answer

    def usage(self, answer):
        usage = answer["usage"]
        return usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]

    def unbroken(self):
        server = Served(BINARY)
        try:
            messages = []
            return [self.turn(server, messages, question)["choices"][0]["message"]["content"] for question in QUESTIONS]
        finally:
            self.assertEqual(server.stop(), 0)

    def test_a_conversation_goes_on_after_kill_9(self):
        expected = self.unbroken()
        with tempfile.TemporaryDirectory() as folder:
            messages = []
            server = Served(BINARY, "--cache", folder)
            try:
                turns = [self.turn(server, messages, question) for question in QUESTIONS[:3]]
                # What is written is written behind the answer's back: wait until nothing waits.
                self.assertTrue(server.until(lambda: server.metric("krait_stored_states_waiting") == 0
                                             and server.metric("krait_stored_states_written_total") > 0))
                # Killed while somebody else is being answered.
                _, busy = self.open_stream(server)
            finally:
                server.process.send_signal(signal.SIGKILL)
                self.assertEqual(server.wait(), -signal.SIGKILL)
            busy.close()
            self.assertEqual([turn["choices"][0]["message"]["content"] for turn in turns], expected[:3])

            server = Served(BINARY, "--cache", folder)
            try:
                last = self.turn(server, messages, QUESTIONS[3])
            finally:
                self.assertEqual(server.stop(), 0)
        read_before = self.usage(turns[2])[0]
        prompt, cached = self.usage(last)
        self.assertEqual(last["choices"][0]["message"]["content"], expected[3])
        # All that the third turn had read was there, and its answer may have been.
        self.assertGreaterEqual(cached, read_before - 1, last["cache"])
        self.assertLess(cached, prompt)
        self.assertIn(str(cached), last["cache"])

    def open_stream(self, server):
        import http.client
        import json
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("POST", "/v1/completions", json.dumps(
            {"prompt": "Another", "max_tokens": 60000, "ignore_eos": True, "stream": True}))
        answer = connection.getresponse()
        answer.readline()
        return answer, connection

    def test_without_the_folder_everything_is_read_again(self):
        """That the test above measures the folder and nothing else."""
        messages = []
        server = Served(BINARY)
        try:
            for question in QUESTIONS[:3]:
                self.turn(server, messages, question)
        finally:
            server.process.send_signal(signal.SIGKILL)
            server.wait()
        server = Served(BINARY)
        try:
            self.assertEqual(self.usage(self.turn(server, messages, QUESTIONS[3]))[1], 0)
        finally:
            self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    unittest.main()
