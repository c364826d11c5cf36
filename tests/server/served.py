"""A krait server on loopback for tests, and the little HTTP they need."""
import http.client
import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import time


class Served:
    """`krait serve` on a free port. Its lines of the log are in .log."""

    def __init__(self, binary, *arguments):
        self.process = subprocess.Popen([binary, "serve", "--port", "0", *map(str, arguments)], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        self.banner = self.process.stdout.readline() + self.process.stdout.readline()
        found = re.search(r"https?://127\.0\.0\.1:(\d+)", self.banner)
        if not found:
            raise RuntimeError(self.banner + self.process.communicate(timeout=60)[1])
        self.port = int(found.group(1))
        self.log = []
        self.reader = threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True)
        self.reader.start()

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.wait()

    def wait(self):
        try:
            self.process.wait(timeout=120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self.reader.join()
        self.process.stdout.close()
        self.process.stderr.close()
        return self.process.returncode

    def ask(self, method, path, body=None, headers=None):
        """(status, headers in lower case, body)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            if isinstance(body, (dict, list)):
                body = json.dumps(body)
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def json(self, method, path, body=None, headers=None, status=200):
        got, _, answer = self.ask(method, path, body, headers)
        if got != status:
            raise AssertionError(f"{method} {path}: {got} and not {status}: {answer[:500]!r}")
        return json.loads(answer)

    def metric(self, name, headers=None):
        """Of one sample, as its line begins: 'krait_sequences{stage="decoding"}'."""
        for line in self.ask("GET", "/metrics", headers=headers)[2].decode().splitlines():
            if line.startswith(name + " "):
                return float(line.rsplit(" ", 1)[1])
        return None

    def until(self, condition, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if condition():
                return True
            time.sleep(0.05)
        return False

    def no_sequences(self, headers=None):
        return all(self.metric(f'krait_sequences{{stage="{stage}"}}', headers) == 0
                   for stage in ("waiting", "prefilling", "decoding", "parked"))


def events(stream):
    """The data of server-sent events; the last is "[DONE]"."""
    found = [line[6:] for line in stream.decode().split("\n\n") if line.startswith("data: ")]
    return [json.loads(data) if data != "[DONE]" else data for data in found]


def templated_model(name="chatml.jinja", template=None):
    """The bundled model's folder with a chat template, as links. The caller removes it."""
    tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    model = os.path.join(os.path.dirname(tests), "models", "tales")
    folder = tempfile.mkdtemp()
    for file in os.listdir(model):
        os.symlink(os.path.join(model, file), os.path.join(folder, file))
    if template is None:
        with open(os.path.join(tests, "formats", "chat_templates", name), encoding="utf-8") as stream:
            template = stream.read()
    with open(os.path.join(folder, "chat_template.jinja"), "w", encoding="utf-8") as stream:
        stream.write(template)
    return folder


def key_file(text):
    handle, path = tempfile.mkstemp()
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
    return path
