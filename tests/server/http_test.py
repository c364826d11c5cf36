#!/usr/bin/env python3
"""krait serve over sockets: what is answered, what is refused, and what becomes of clients that misbehave.

usage: http_test.py KRAIT_BINARY [unittest arguments]
"""
import http.client
import json
import os
import random
import signal
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from served import Served, events, key_file  # noqa: E402

BINARY = os.path.abspath(sys.argv.pop(1))
PROMPT = "Once upon a time there was a fox"
LONG = {"prompt": PROMPT, "max_tokens": 60000, "ignore_eos": True, "stream": True, "temperature": 1.0}


def krait_run(*arguments):
    """The text of the program that serves nobody."""
    run = subprocess.run([BINARY, "run", "--greedy", "--json", *arguments], capture_output=True, text=True, check=True)
    return json.loads(run.stdout)["text"]


class Shared(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Served(BINARY, "--max-body", 100000, "--stream-buffer", 8192, "--max-requests", 8,
                            "--cors-origin", "http://page.example")

    @classmethod
    def tearDownClass(cls):
        status = cls.server.stop()
        assert status == 0, (status, cls.server.log[-5:])

    def tearDown(self):
        self.assertTrue(self.server.until(self.server.no_sequences), "sequences are left over")

    def folder(self):
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        return folder

    def complete(self, **body):
        return self.server.json("POST", "/v1/completions", {"temperature": 0, "max_tokens": 12, **body})

    def refused(self, status, method, path, body=None, headers=None):
        error = self.server.json(method, path, body, headers, status)["error"]
        self.assertEqual(set(error), {"message", "type", "param", "code"})
        self.assertTrue(error["message"])
        return error

    def raw(self, text, shut=False):
        """What comes back for these bytes until the server closes, or for a second."""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=5) as connection:
            connection.sendall(text if isinstance(text, bytes) else text.encode())
            if shut:
                connection.shutdown(socket.SHUT_WR)
            got = b""
            try:
                while piece := connection.recv(65536):
                    got += piece
            except (socket.timeout, ConnectionResetError):
                pass
            return got


class Encrypted(unittest.TestCase):
    """TLS, with a certificate that openssl makes and Python's own client."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp()
        cls.certificate, cls.key = (os.path.join(cls.folder, name) for name in ("certificate.pem", "key.pem"))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
                        "-keyout", cls.key, "-out", cls.certificate], check=True, capture_output=True)
        cls.server = Served(BINARY, "--tls-certificate", cls.certificate, "--tls-key", cls.key,
                            "--api-key", "secret-of-the-test")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)
        assert cls.server.stop() == 0, cls.server.log[-5:]

    def connect(self):
        context = ssl.create_default_context(cafile=self.certificate)
        return http.client.HTTPSConnection("127.0.0.1", self.server.port, timeout=60, context=context)

    def test_requests_and_streams(self):
        connection = self.connect()
        headers = {"authorization": "Bearer secret-of-the-test"}
        for _ in range(2):  # the connection is kept
            body = {"prompt": PROMPT, "max_tokens": 12, "temperature": 0, "stream": True}
            connection.request("POST", "/v1/completions", json.dumps(body), headers)
            answer = connection.getresponse()
            self.assertEqual(answer.status, 200)
            pieces = events(answer.read())
            self.assertEqual(pieces[-1], "[DONE]")
            text = "".join(piece["choices"][0]["text"] for piece in pieces[:-1])
            self.assertEqual(text, krait_run("-n", "12", PROMPT))
        large = json.dumps({"prompt": "x" * 300000})  # many records each way
        connection.request("POST", "/tokenize", large, headers)
        answer = connection.getresponse()
        self.assertEqual(answer.status, 200)
        ids = json.loads(answer.read())["tokens"]
        connection.request("POST", "/detokenize", json.dumps({"tokens": ids}), headers)
        self.assertIn("x" * 300000, connection.getresponse().read().decode())
        connection.request("GET", "/v1/models")
        self.assertEqual(connection.getresponse().status, 401)
        connection.close()

    def test_what_is_no_tls_gets_nothing(self):
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=60) as plain:
            plain.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
            self.assertNotIn(b"200", plain.recv(1000))
        connection = self.connect()
        connection.request("GET", "/health")
        self.assertEqual(connection.getresponse().status, 200)
        connection.close()

    def test_a_key_of_another_certificate_is_refused(self):
        other = os.path.join(self.folder, "other.pem")
        subprocess.run(["openssl", "genpkey", "-algorithm", "RSA", "-out", other], check=True, capture_output=True)
        run = subprocess.run([BINARY, "serve", "--port", "0", "--tls-certificate", self.certificate, "--tls-key", other],
                             capture_output=True, text=True, timeout=120)
        self.assertNotEqual(run.returncode, 0)
        self.assertIn(other, run.stderr)


class Answers(Shared):
    def test_a_completion_is_that_of_krait_run(self):
        answer = self.complete(prompt=PROMPT, max_tokens=30)
        self.assertEqual(answer["object"], "text_completion")
        self.assertEqual(answer["usage"]["completion_tokens"], 30)
        self.assertEqual(answer["choices"][0]["text"], krait_run("-n", "30", PROMPT))

    def test_a_stream_has_the_text_of_the_whole_answer(self):
        whole = self.complete(prompt=PROMPT, max_tokens=30)
        status, headers, body = self.server.ask("POST", "/v1/completions", {
            "prompt": PROMPT, "max_tokens": 30, "temperature": 0, "stream": True,
            "stream_options": {"include_usage": True}})
        self.assertEqual(status, 200)
        self.assertTrue(headers["content-type"].startswith("text/event-stream"))
        got = events(body)
        self.assertEqual(got[-1], "[DONE]")
        self.assertEqual(got[-2]["usage"]["completion_tokens"], 30)
        self.assertGreater(len(got), 10)
        text = "".join(event["choices"][0]["text"] for event in got[:-1] if event["choices"])
        self.assertEqual(text, whole["choices"][0]["text"])
        self.assertEqual([event["choices"][0]["finish_reason"] for event in got[:-2]][-1], "length")

    def test_n_texts_stop_strings_logprobs_echo_and_bias(self):
        answer = self.complete(prompt=PROMPT, n=3, temperature=1, seed=5)
        texts = [choice["text"] for choice in answer["choices"]]
        self.assertEqual([choice["index"] for choice in answer["choices"]], [0, 1, 2])
        self.assertEqual(len(set(texts)), 3)
        self.assertEqual(self.complete(prompt=PROMPT, temperature=1, seed=5)["choices"][0]["text"], texts[0])
        best = self.complete(prompt=PROMPT, n=1, best_of=3, temperature=1, seed=5)
        self.assertIn(best["choices"][0]["text"], texts)

        text = self.complete(prompt=PROMPT, max_tokens=30)["choices"][0]["text"]
        word = text.split()[4]
        stopped = self.complete(prompt=PROMPT, max_tokens=30, stop=[word])["choices"][0]
        self.assertEqual(stopped["finish_reason"], "stop")
        self.assertEqual(stopped["text"], text[:text.index(word)])

        self.assertEqual(self.complete(prompt=PROMPT, echo=True, max_tokens=30)["choices"][0]["text"], PROMPT + text)

        logprobs = self.complete(prompt=PROMPT, logprobs=3)["choices"][0]["logprobs"]
        self.assertEqual(len(logprobs["tokens"]), 12)
        for token, value, top in zip(logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"]):
            self.assertEqual(len(top), 3)
            self.assertEqual(max(top.values()), value)  # greedy takes the likeliest
            self.assertIn(token, top)
        forbidden = self.server.json("POST", "/tokenize", {"prompt": logprobs["tokens"][0], "add_special_tokens": False})
        biased = self.complete(prompt=PROMPT, max_tokens=1, logit_bias={str(forbidden["tokens"][0]): -100})
        self.assertNotEqual(biased["choices"][0]["text"], self.complete(prompt=PROMPT, max_tokens=1)["choices"][0]["text"])

    def test_prompts_of_tokens_and_several_prompts(self):
        tokens = self.server.json("POST", "/tokenize", {"prompt": PROMPT})["tokens"]
        self.assertEqual(self.complete(prompt=tokens)["choices"][0]["text"],
                         self.complete(prompt=PROMPT)["choices"][0]["text"])
        both = self.complete(prompt=[PROMPT, "The king"])["choices"]
        self.assertEqual(both[1]["text"], self.complete(prompt="The king")["choices"][0]["text"])
        bare = self.server.json("POST", "/tokenize", {"prompt": PROMPT, "add_special_tokens": False})["tokens"]
        self.assertEqual(self.server.json("POST", "/detokenize", {"tokens": bare})["prompt"], PROMPT)

    def test_status_pages(self):
        self.assertEqual(self.server.json("GET", "/health"), {"status": "ok"})
        self.assertEqual(self.server.json("GET", "/ready")["status"], "ready")
        model = self.server.json("GET", "/v1/models")["data"][0]["id"]
        self.assertEqual(self.server.json("GET", f"/v1/models/{model}")["object"], "model")
        self.assertRegex(self.server.banner, r"a state takes .* there is memory for [\d,]+ sessions")
        status, headers, body = self.server.ask("GET", "/metrics")
        self.assertEqual((status, headers["content-type"].split(";")[0]), (200, "text/plain"))
        for line in body.decode().splitlines():
            self.assertRegex(line, r'^(# (HELP|TYPE) krait_\w+ .+|krait_\w+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? \S+)$')
        self.assertEqual(self.server.ask("HEAD", "/health")[2], b"")


class Refusals(Shared):
    def test_unknown_paths_and_methods(self):
        self.assertEqual(self.refused(404, "GET", "/nothing")["type"], "not_found_error")
        self.refused(405, "GET", "/v1/completions")
        self.assertEqual(self.server.ask("DELETE", "/v1/completions")[1]["allow"], "POST")
        self.assertEqual(self.refused(404, "POST", "/v1/completions", {"prompt": "a", "model": "other"})["code"],
                         "model_not_found")
        self.refused(404, "GET", "/v1/models/other")

    def test_bodies_that_are_wrong(self):
        self.assertEqual(self.refused(400, "POST", "/v1/completions", "{")["code"], "malformed_json")
        self.assertEqual(self.refused(400, "POST", "/v1/completions", {"prompt": "a", "top_p": 7})["param"], "top_p")
        self.assertIn("vocabulary", self.refused(400, "POST", "/v1/completions", {"prompt": [99999999]})["message"])
        self.refused(400, "POST", "/v1/completions", {"prompt": "a", "logit_bias": {"99999999": 1}})
        self.assertEqual(self.refused(404, "POST", "/v1/completions", {"prompt": "a", "state": "st_x"})["code"],
                         "state_not_found")
        self.assertEqual(self.server.json("POST", "/api/generate", "{", status=400).keys(), {"error"})

    def test_bodies_that_are_too_large(self):
        large = json.dumps({"prompt": "a" * 200000})
        self.assertEqual(self.refused(413, "POST", "/v1/completions", large)["code"], "body_too_large")
        # In chunks, whose sum nobody says beforehand.
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        got = self.raw(b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n" + chunk * 3)
        self.assertTrue(got.startswith(b"HTTP/1.1 413 "), got[:100])
        got = self.raw(b"POST /health HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999\r\n\r\n")
        self.assertTrue(got.startswith(b"HTTP/1.1 405 "), got[:100])
        got = self.raw(b"GET /health HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello")
        self.assertTrue(got.startswith(b"HTTP/1.1 413 "), got[:100])

    def test_a_body_that_memory_does_not_hold(self):
        server = Served(BINARY, "--max-body", 1 << 62, "--max-requests", 1)
        try:
            for _ in range(3):
                with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
                    connection.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n{" % (1 << 61))
                    self.assertTrue(connection.recv(65536).startswith(b"HTTP/1.1 503 "))
            # The one request that is allowed at once is not used up.
            server.json("POST", "/v1/completions", {"prompt": PROMPT, "max_tokens": 1})
        finally:
            self.assertEqual(server.stop(), 0)

    def test_heads_that_are_wrong(self):
        self.assertTrue(self.raw("nonsense\r\n\r\n").startswith(b"HTTP/1.1 400 "))
        self.assertTrue(self.raw("GET /%zz HTTP/1.1\r\nhost: a\r\n\r\n").startswith(b"HTTP/1.1 400 "))
        self.assertTrue(self.raw("GET / HTTP/1.1\r\nx: " + "a" * 100000 + "\r\n\r\n").startswith(b"HTTP/1.1 431 "))
        got = self.raw("POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n{}  ")
        self.assertTrue(got.startswith(b"HTTP/1.1 400 "), got[:100])

    def test_browsers_of_one_origin_may_ask(self):
        page = {"origin": "http://page.example"}
        status, headers, _ = self.server.ask("OPTIONS", "/v1/chat/completions", headers={
            **page, "access-control-request-method": "POST", "access-control-request-headers": "authorization,x-y"})
        self.assertEqual(status, 204)
        self.assertEqual(headers["access-control-allow-origin"], "http://page.example")
        self.assertIn("x-y", headers["access-control-allow-headers"])
        self.assertIn("POST", headers["access-control-allow-methods"])
        self.assertEqual(self.server.ask("GET", "/health", headers=page)[1]["access-control-allow-origin"],
                         "http://page.example")
        self.assertEqual(self.server.ask("GET", "/nothing", headers=page)[1]["access-control-allow-origin"],
                         "http://page.example")
        self.assertNotIn("access-control-allow-origin",
                         self.server.ask("GET", "/health", headers={"origin": "http://evil.example"})[1])

    def test_request_ids_come_back(self):
        self.assertEqual(self.server.ask("GET", "/health", headers={"x-request-id": "mine-1"})[1]["x-request-id"], "mine-1")
        self.assertRegex(self.server.ask("GET", "/health", headers={"x-request-id": "a b"})[1]["x-request-id"], "^req_")


class Connections(Shared):
    def test_many_requests_on_one_connection(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        connection.connect()
        own = connection.sock.getsockname()
        for body in ({"prompt": PROMPT, "max_tokens": 3}, {"prompt": PROMPT, "max_tokens": 3, "stream": True}, {"no": 1}):
            connection.request("POST", "/v1/completions", json.dumps(body))
            answer = connection.getresponse()
            answer.read()
            self.assertEqual(connection.sock.getsockname(), own)
        connection.close()

    def test_requests_sent_at_once_are_answered_in_order(self):
        one = b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n"
        last = b"GET /v1/models HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
        got = self.raw(one + one + last)
        self.assertEqual(got.count(b"HTTP/1.1 200 OK"), 3)
        self.assertLess(got.rindex(b'"ok"'), got.index(b'"list"'))

    def test_a_body_is_asked_for_when_the_client_waits(self):
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=20) as connection:
            body = json.dumps({"prompt": PROMPT}).encode()
            connection.sendall(b"POST /tokenize HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: "
                               + str(len(body)).encode() + b"\r\n\r\n")
            self.assertTrue(connection.recv(1000).startswith(b"HTTP/1.1 100 Continue"))
            connection.sendall(body)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            self.assertIn("tokens", json.loads(answer.read()))

    def stream(self, **more):
        connection = socket.socket()
        if "receive" in more:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, more["receive"])
        connection.settimeout(60)
        connection.connect(("127.0.0.1", self.server.port))
        body = json.dumps(LONG).encode()
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: " + str(len(body)).encode()
                           + b"\r\n\r\n" + body)
        return connection

    def test_a_client_that_goes_away_frees_its_slot(self):
        before = self.server.metric("krait_requests_cancelled_total")
        connection = self.stream()
        self.assertIn(b"200 OK", connection.recv(1000))
        self.assertTrue(self.server.until(lambda: self.server.metric('krait_sequences{stage="decoding"}') == 1))
        connection.close()
        self.assertTrue(self.server.until(self.server.no_sequences, 10))
        self.assertEqual(self.server.metric("krait_requests_cancelled_total"), before + 1)

    def test_a_client_that_does_not_wait_for_a_whole_answer(self):
        before = self.server.metric("krait_requests_cancelled_total")
        connection = socket.create_connection(("127.0.0.1", self.server.port))
        body = json.dumps({**LONG, "stream": False}).encode()
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: " + str(len(body)).encode()
                           + b"\r\n\r\n" + body)
        self.assertTrue(self.server.until(lambda: self.server.metric('krait_sequences{stage="decoding"}') == 1))
        connection.close()
        self.assertTrue(self.server.until(self.server.no_sequences, 10))
        self.assertEqual(self.server.metric("krait_requests_cancelled_total"), before + 1)

    def test_a_reader_who_does_not_read_is_disconnected(self):
        before = self.server.metric("krait_http_disconnects_total")
        connection = self.stream(receive=4096)
        # Long before the 30 s that a write may take.
        self.assertTrue(self.server.until(lambda: self.server.metric("krait_http_disconnects_total") == before + 1, 15))
        self.assertTrue(self.server.no_sequences())
        got = b""
        try:
            while piece := connection.recv(65536):
                got += piece
        except ConnectionResetError:
            pass
        self.assertNotIn(b"[DONE]", got)
        connection.close()

    def test_no_more_requests_at_once_than_allowed(self):
        streams = [self.stream() for _ in range(8)]
        for stream in streams:
            self.assertIn(b"200 OK", stream.recv(1000))
        status, headers, body = self.server.ask("POST", "/v1/completions", {"prompt": "a"})
        self.assertEqual((status, json.loads(body)["error"]["code"]), (429, "too_many_requests"))
        self.assertGreaterEqual(int(headers["retry-after"]), 1)
        self.assertEqual(self.server.ask("GET", "/metrics")[0], 200)
        for stream in streams:
            stream.close()
        self.assertTrue(self.server.until(
            lambda: self.server.ask("POST", "/v1/completions", {"prompt": "a", "max_tokens": 1})[0] == 200, 10))


class States(Shared):
    def test_a_state_goes_on_as_the_whole_text_would(self):
        end = " The fox saw a crow"
        state = self.server.json("POST", "/v1/states", {"text": PROMPT}, status=201)
        self.assertEqual(state["position"], len(self.server.json("POST", "/tokenize", {"prompt": PROMPT})["tokens"]))
        self.assertGreater(state["bytes"], 0)
        whole = self.complete(prompt=PROMPT + end, max_tokens=40)["choices"][0]["text"]
        onward = self.complete(state=state["id"], prompt=end, max_tokens=40)
        self.assertEqual(onward["choices"][0]["text"], whole)
        # Without more text: from the logits that the state keeps.
        self.assertEqual(self.complete(state=state["id"], max_tokens=20)["choices"][0]["text"],
                         self.complete(prompt=PROMPT, max_tokens=20)["choices"][0]["text"])

    def test_a_state_that_was_taken_away_and_brought_back(self):
        state = self.server.json("POST", "/v1/states", {"text": PROMPT}, status=201)
        status, headers, content = self.server.ask("GET", f"/v1/states/{state['id']}")
        self.assertEqual((status, headers["content-type"]), (200, "application/octet-stream"))
        self.server.json("DELETE", f"/v1/states/{state['id']}")
        self.refused(404, "GET", f"/v1/states/{state['id']}")
        back = self.server.json("PUT", "/v1/states/mine?ttl_seconds=60", content, status=201)
        self.assertEqual((back["id"], back["position"], back["tokens_known"]), ("mine", state["position"], True))
        self.assertLessEqual(back["expires_in_seconds"], 60)
        self.assertEqual(self.complete(state="mine", max_tokens=20)["choices"][0]["text"],
                         self.complete(prompt=PROMPT, max_tokens=20)["choices"][0]["text"])
        self.assertEqual(self.server.ask("GET", "/v1/states/mine")[2], content)
        damaged = bytearray(content)
        damaged[len(damaged) // 2] ^= 1
        self.assertEqual(self.refused(400, "PUT", "/v1/states/other", bytes(damaged))["code"], "corrupt")
        self.assertEqual(self.refused(400, "PUT", "/v1/states/other", content[:-100])["code"], "corrupt")
        self.refused(400, "PUT", "/v1/states/other", b"")
        self.refused(400, "PUT", "/v1/states/a.b", content)
        self.refused(404, "GET", "/v1/states/other")

    def test_turns_of_a_reply_that_is_returned_and_forked(self):
        first = self.complete(prompt=PROMPT, max_tokens=15, return_state=True)["choices"][0]
        fork = self.server.json("POST", f"/v1/states/{first['state']['id']}/fork", {}, status=201)
        self.assertNotEqual(fork["id"], first["state"]["id"])
        self.assertEqual(fork["position"], first["state"]["position"])
        turn = " Then the king came."
        onward = self.complete(state=fork["id"], prompt=turn, max_tokens=20)["choices"][0]["text"]
        # krait run goes on from the same file with the same words.
        path = os.path.join(self.folder(), "reply.state")
        with open(path, "wb") as file:
            file.write(self.server.ask("GET", f"/v1/states/{fork['id']}")[2])
        self.assertEqual(onward, krait_run("--state", path, "-n", "20", turn))
        # One fork that went on leaves the other where it was.
        self.assertEqual(self.complete(state=first["state"]["id"], prompt=turn, max_tokens=20)["choices"][0]["text"], onward)

    def test_states_are_listed_and_end(self):
        state = self.server.json("POST", "/v1/states", {"text": "a", "ttl_seconds": 1}, status=201)
        listed = [one["id"] for one in self.server.json("GET", "/v1/states")["data"]]
        self.assertIn(state["id"], listed)
        self.assertTrue(self.server.until(lambda: self.server.ask("GET", f"/v1/states/{state['id']}")[0] == 404, 10))
        self.assertEqual(self.refused(400, "POST", "/v1/states", {})["param"], "text")


class Keys(unittest.TestCase):
    def test_keys_are_asked_for_and_keep_states_apart(self):
        path = key_file("alice sk-alice-key states=1\nbob sk-bob-key requests=1\n")
        self.addCleanup(os.unlink, path)
        server = Served(BINARY, "--api-key-file", path)
        alice, bob = {"authorization": "Bearer sk-alice-key"}, {"authorization": "Bearer sk-bob-key"}
        try:
            for headers in ({}, {"authorization": "Bearer sk-nobody"}):
                self.assertEqual(server.json("GET", "/v1/models", headers=headers, status=401)["error"]["code"],
                                 "invalid_api_key")
            self.assertEqual(server.json("GET", "/health"), {"status": "ok"})
            server.json("GET", "/v1/models", headers=alice)
            state = server.json("POST", "/v1/states", {"text": "a"}, alice, 201)
            self.assertEqual(server.json("POST", "/v1/states", {"text": "b"}, alice, 507)["error"]["code"],
                             "state_quota_exceeded")
            server.json("GET", f"/v1/states/{state['id']}", headers=bob, status=404)
            self.assertEqual(server.json("GET", "/v1/states", headers=bob)["data"], [])
            # Greedy: a draw may end the text after one token.
            server.json("POST", "/v1/completions", {"prompt": "Once upon a time", "max_tokens": 2, "temperature": 0}, bob)
            self.assertEqual(server.metric('krait_key_tokens_total{key="bob",kind="generated"}', alice), 2)
        finally:
            self.assertEqual(server.stop(), 0)
        lines = [json.loads(line) for line in server.log]
        self.assertTrue(any(line["key"] == "bob" and line["status"] == 200 and line.get("tokens") for line in lines))
        self.assertFalse(any("sk-" in line for line in server.log))


class CoreGroups(unittest.TestCase):
    def test_they_change_while_it_serves_and_no_reply_does(self):
        path = key_file("alice sk-alice-key admin=1\nbob sk-bob-key\n")
        self.addCleanup(os.unlink, path)
        server = Served(BINARY, "--api-key-file", path, "--threads", "2", "--core-groups", "1:1")
        alice, bob = {"authorization": "Bearer sk-alice-key"}, {"authorization": "Bearer sk-bob-key"}
        route = "/v1/admin/core-groups"

        def change(groups, headers, status=200):
            return server.json("PUT", route, {"core_groups": groups}, headers, status)

        def complete():
            answer = server.json("POST", "/v1/completions", {"prompt": PROMPT, "max_tokens": 20, "temperature": 0}, bob)
            return answer["choices"][0]["text"]

        try:
            self.assertEqual(server.json("GET", route, headers=bob),
                             {"core_groups": "1:1", "mode": "apart",
                              "lanes": [{"lane": "prompts", "cores": 1}, {"lane": "decodes", "cores": 1}]})
            apart = complete()
            self.assertEqual(server.metric('krait_lane_steps_total{lane="mixed"}', bob), 0)
            for lane in ("prompts", "decodes"):
                self.assertGreater(server.metric(f'krait_lane_steps_total{{lane="{lane}"}}', bob), 0)
                self.assertEqual(server.metric(f'krait_lane_cores{{lane="{lane}"}}', bob), 1)
            self.assertEqual(change("together", bob, 403)["error"]["code"], "not_allowed")
            self.assertEqual(change("2:1", alice, 400)["error"]["param"], "core_groups")
            self.assertEqual(server.metric('krait_core_groups{mode="apart"}', bob), 1)
            self.assertEqual(change("together", alice),
                             {"core_groups": "together", "mode": "together", "lanes": [{"lane": "mixed", "cores": 2}]})
            self.assertEqual(complete(), apart)
            self.assertGreater(server.metric('krait_lane_steps_total{lane="mixed"}', bob), 0)
            self.assertEqual(server.metric("krait_core_group_switches_total", bob), 2)
            self.assertEqual(change("auto", alice)["core_groups"], "auto")
            self.assertEqual(complete(), apart)
        finally:
            self.assertEqual(server.stop(), 0)

    def test_groups_that_cannot_be_are_refused_at_the_start(self):
        for groups in ("fast", "3:1"):
            got = subprocess.run([BINARY, "serve", "--port", "0", "--threads", "2", "--core-groups", groups],
                                 capture_output=True, text=True, timeout=120, check=False)
            self.assertNotEqual(got.returncode, 0)
            self.assertIn("core groups", got.stderr)


class Crowd(unittest.TestCase):
    def visit(self, server, chance, outcomes):
        """One client of many: it may be well-behaved, hasty, or wrong."""
        kind = chance.choice(("whole", "stream", "leaves", "broken", "large", "state"))
        if kind == "whole":
            text = server.json("POST", "/v1/completions", {"prompt": PROMPT, "max_tokens": 20, "temperature": 0})
            outcomes.append((kind, text["choices"][0]["text"]))
        elif kind == "stream":
            body = server.ask("POST", "/v1/completions", {"prompt": PROMPT, "max_tokens": 20, "temperature": 0,
                                                          "stream": True})[2]
            got = events(body)
            outcomes.append((kind, "".join(event["choices"][0]["text"] for event in got[:-1])))
        elif kind == "leaves":
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
            connection.request("POST", "/v1/completions", json.dumps(LONG))
            answer = connection.getresponse()
            answer.read(chance.randrange(1, 2000))
            answer.close()
            connection.close()
            outcomes.append((kind, answer.status))
        elif kind == "broken":
            outcomes.append((kind, server.ask("POST", "/v1/chat/completions", "{")[0]))
        elif kind == "large":
            outcomes.append((kind, server.ask("POST", "/v1/completions", b" " * 200000)[0]))
        else:
            state = server.json("POST", "/v1/states", {"text": PROMPT}, status=201)
            text = server.json("POST", "/v1/completions", {"state": state["id"], "max_tokens": 20, "temperature": 0})
            server.json("DELETE", f"/v1/states/{state['id']}")
            outcomes.append((kind, text["choices"][0]["text"]))

    def test_everybody_gets_an_answer_and_nothing_is_left(self):
        server = Served(BINARY, "--max-body", 100000)
        expected = krait_run("-n", "20", PROMPT)
        outcomes, broken = [], []

        def client(seed):
            chance = random.Random(seed)
            for _ in range(6):
                try:
                    self.visit(server, chance, outcomes)
                except Exception as error:  # of any kind: it is shown below
                    broken.append((seed, repr(error)))

        clients = [threading.Thread(target=client, args=(seed,)) for seed in range(32)]
        for one in clients:
            one.start()
        for one in clients:
            one.join()
        self.assertEqual(broken, [])
        self.assertEqual(len(outcomes), 32 * 6)
        for kind, outcome in outcomes:
            wanted = {"leaves": 200, "broken": 400, "large": 413}.get(kind, expected)
            self.assertEqual(outcome, wanted, kind)
        self.assertTrue(server.until(server.no_sequences, 20))
        self.assertEqual(server.metric("krait_kept_states"), 0)
        self.assertEqual(server.metric("krait_requests_failed_total"), 0)
        # The one that asks.
        self.assertTrue(server.until(lambda: server.metric("krait_http_connections") == 1, 20))
        self.assertEqual(server.stop(), 0)


class Ending(unittest.TestCase):
    def begin(self, server, tokens):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        connection.request("POST", "/v1/completions", json.dumps({**LONG, "max_tokens": tokens}))
        answer = connection.getresponse()
        return connection, answer

    def test_sigterm_lets_streams_end(self):
        server = Served(BINARY)
        connection, answer = self.begin(server, 1500)
        answer.readline()
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), timeout=5)
        self.assertIn(b"[DONE]", answer.read())
        connection.close()
        self.assertEqual(server.wait(), 0)

    def test_a_second_signal_or_the_end_of_the_drain_cuts_them(self):
        for arguments, signals in (((), 2), (("--drain", "1"), 1)):
            server = Served(BINARY, *arguments)
            connection, answer = self.begin(server, 60000)
            answer.readline()
            for _ in range(signals):
                server.process.send_signal(signal.SIGTERM)
                time.sleep(0.3)
            self.assertEqual(server.wait(), 0)
            with self.assertRaises((http.client.IncompleteRead, ConnectionResetError)):
                answer.read()
            connection.close()


if __name__ == "__main__":
    unittest.main()
