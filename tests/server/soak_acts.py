"""What the clients of soak.py do: each act is one visit to the server, and says what became of its requests."""
import http.client
import json
import socket
import struct
import time
from dataclasses import dataclass
from typing import Callable

PROMPTS = ("Once upon a time there was a fox", "The king", "In the deep wood stood a house. ", "A" * 300, "ü 漢 🦊")
PATIENCE = 300  # seconds without a byte, after which a request counts as never answered


@dataclass
class Key:
    secret: str
    requests: int

    def line(self, name):
        return f"{name} {self.secret} requests={self.requests} states=12 priority=3\n"


KEYS = {"alice": Key("sk-alice-1234", 32), "bob": Key("sk-bob-12345678", 32), "carol": Key("sk-carol-12345", 2)}


class Caller:
    def __init__(self, port, chance):
        self.port, self.chance = port, chance
        self.states = []
        self.names = 0

    def key(self):
        return KEYS[self.chance.choice(("alice", "bob"))]

    def headers(self, key=None):
        return {"authorization": f"Bearer {(key or self.key()).secret}", "content-type": "application/json"}

    def ask(self, method, path, body=b"", headers=None):
        """(status, body)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, json.dumps(body) if isinstance(body, dict) else body,
                               headers or self.headers())
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def fate(self, method, path, body=b"", headers=None):
        """The status, where the body is what goes with it: JSON, and an error that says something."""
        status, content = self.ask(method, path, body, headers)
        if status >= 400 and not json.loads(content)["error"]:
            return f"{status} without a message"
        return str(status)

    def prompt(self):
        return self.chance.choice(PROMPTS) + " " + str(self.chance.randrange(40))

    def request(self, tokens=12, **more):
        return {"prompt": self.prompt(), "max_tokens": self.chance.randint(1, tokens), "ignore_eos": True, **more}

    def raw(self, text):
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        connection.sendall(text)
        return connection

    def post(self, body, path="/v1/completions", length=None, extra=""):
        """The bytes of a request."""
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        return (f"POST {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {self.key().secret}\r\n{extra}"
                f"content-length: {len(body) if length is None else length}\r\n\r\n").encode() + body

    def open_stream(self, key, tokens=60000):
        """(status, connection) of a stream that has begun."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.request("POST", "/v1/completions", json.dumps(
            {"prompt": "A", "max_tokens": tokens, "ignore_eos": True, "stream": True}), self.headers(key))
        return connection.getresponse().status, connection


def drained(connection, pause=0.0):
    """All that comes until the server closes, or its reset."""
    got = b""
    try:
        while piece := connection.recv(4096):
            got += piece
            time.sleep(pause)
    except (ConnectionResetError, BrokenPipeError):
        got += b"\n(reset)"
    return got


def status_of(answer):
    return answer.split(b" ", 2)[1].decode() if answer.startswith(b"HTTP/1.1 ") else "no answer"


def whole(c):
    yield c.fate("POST", *c.chance.choice((("/v1/completions", c.request()), ("/v1/chat/completions", {
        "messages": [{"role": "user", "content": c.prompt()}], "max_tokens": 5}), ("/api/generate", {
            "prompt": c.prompt(), "stream": False, "options": {"num_predict": 4}}))))


def several(c):
    yield c.fate("POST", "/v1/completions", c.request(6, n=3, temperature=1, priority=c.chance.randrange(4)))


def stream(c):
    status, body = c.ask("POST", "/v1/completions", c.request(24, stream=True, logprobs=2))
    if status != 200:
        yield str(status)
    else:
        yield "whole" if body.endswith(b"data: [DONE]\n\n") else "error event" if b'"error"' in body else "torn"


def leaves(c):
    status, connection = c.open_stream(c.key())
    if status == 200 and c.chance.random() < 0.5:
        # A reset in place of a close in order.
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    time.sleep(c.chance.random() * 0.3)
    connection.close()
    yield "left" if status == 200 else str(status)


def leaves_early(c):
    connection = c.raw(c.post(c.request()))
    time.sleep(c.chance.choice((0, 0, 0.01, 0.1)))
    connection.close()
    yield "left"


def half_request(c):
    text = c.post(c.request())
    connection = c.raw(text[:c.chance.randrange(1, len(text))])
    time.sleep(c.chance.random())
    connection.close()
    yield "left"


def half_closed(c):
    with c.raw(c.post(c.request(), extra="connection: close\r\n")) as connection:
        connection.shutdown(socket.SHUT_WR)
        yield status_of(drained(connection))


def slow_reader(c):
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connection.settimeout(PATIENCE)
    connection.connect(("127.0.0.1", c.port))
    with connection:
        connection.sendall(c.post({**c.request(), "max_tokens": 1500, "stream": True, "logprobs": 5},
                                  extra="connection: close\r\n"))
        got = drained(connection, 0.05)
        status = status_of(got)
        yield ("whole" if got.endswith(b"0\r\n\r\n") else "cut") if status == "200" else status


def oversized(c):
    if c.chance.random() < 0.5:
        yield c.fate("POST", "/v1/completions", b" " * 150000)
        return
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    head = f"POST /tokenize HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {c.key().secret}\r\n"
    with c.raw(f"{head}transfer-encoding: chunked\r\n\r\n".encode() + chunk * 2) as connection:
        yield status_of(drained(connection))


def malformed_json(c):
    text = json.dumps(c.request()).encode()
    broken = c.chance.choice((text[:c.chance.randrange(len(text))], b"[" * 5000, b"\xff\xfe{}", b'{"prompt": 1e999}',
                              b'{"prompt": [1, 2, 99999999]}', b'{"prompt": "a", "max_tokens": -1}'))
    yield c.fate("POST", c.chance.choice(("/v1/completions", "/v1/chat/completions", "/api/chat", "/v1/states")), broken)


def rubbish(c):
    with c.raw(c.chance.randbytes(c.chance.randrange(1, 2000)) + b"\r\n\r\n") as connection:
        connection.shutdown(socket.SHUT_WR)
        yield status_of(drained(connection))


def over_the_limit(c):
    """More requests of one key than it may have; those that are taken are streams, so that they last."""
    held = [c.open_stream(KEYS["carol"], 400) for _ in range(4)]
    for status, connection in held:
        connection.close()
        yield str(status)


def wrong_key(c):
    yield c.fate("POST", "/v1/completions", c.request(), {"authorization": "Bearer sk-nobody-at-all"})


def upload(c):
    c.names += 1
    content = c.chance.randbytes(c.chance.randrange(1, 3000))
    if c.states and c.chance.random() < 0.5:
        key, name = c.chance.choice(c.states)
        status, true = c.ask("GET", f"/v1/states/{name}", headers=c.headers(key))
        if status == 200 and len(true) > 100:
            damaged = bytearray(true)
            for _ in range(c.chance.randrange(3)):
                damaged[c.chance.randrange(len(damaged))] ^= 1 << c.chance.randrange(8)
            content = bytes(damaged)
    yield c.fate("PUT", f"/v1/states/up-{c.names % 3}?ttl_seconds=5", content)


def states(c):
    """Makes one, goes on from it, forks it, drops it; they also run out of their time by themselves."""
    key = c.key()
    status, made = c.ask("POST", "/v1/states", {"text": c.prompt()}, c.headers(key))
    yield str(status)
    if status != 201:
        return
    name = json.loads(made)["id"]
    c.states = [*c.states[-3:], (key, name)]
    yield c.fate("POST", "/v1/completions", c.request(6, state=name, return_state=c.chance.random() < 0.3),
                 c.headers(key))
    status, made = c.ask("POST", f"/v1/states/{name}/fork", {}, c.headers(key))
    yield str(status)
    if status == 201:
        yield c.fate("DELETE", f"/v1/states/{json.loads(made)['id']}", headers=c.headers(key))
    if c.chance.random() < 0.7:
        yield c.fate("DELETE", f"/v1/states/{name}", headers=c.headers(key))


def look(c):
    yield c.fate("GET", c.chance.choice(("/metrics", "/v1/states", "/v1/models", "/ready", "/nothing")))


@dataclass
class Act:
    act: Callable
    weight: int
    allowed: frozenset


def _act(act, weight, *allowed):
    return Act(act, weight, frozenset(allowed))


# 429: the key has as many requests as it may, or the server is busy. 503: memory for states ran out. 507: the key or the
# server keeps as many states as it may. "no answer": the client had ended the connection before there was one.
ACTS = {
    "whole": _act(whole, 6, "200", "429", "503"),
    "several": _act(several, 2, "200", "429", "503"),
    "stream": _act(stream, 6, "whole", "error event", "429", "503"),
    "leaves": _act(leaves, 5, "left", "429", "503"),
    "leaves early": _act(leaves_early, 3, "left"),
    "half request": _act(half_request, 3, "left"),
    "half closed": _act(half_closed, 2, "200", "429", "503", "no answer"),
    "slow reader": _act(slow_reader, 2, "whole", "cut", "429", "503"),
    "oversized": _act(oversized, 2, "413", "429"),
    "malformed JSON": _act(malformed_json, 3, "400", "429"),
    "rubbish": _act(rubbish, 2, "400", "431", "no answer"),
    "over the limit": _act(over_the_limit, 2, "200", "429", "503"),
    "wrong key": _act(wrong_key, 1, "401"),
    "upload": _act(upload, 3, "201", "400", "409", "413", "429", "503", "507"),
    "states": _act(states, 4, "200", "201", "404", "409", "429", "503", "507"),
    "look": _act(look, 2, "200", "404"),
}
