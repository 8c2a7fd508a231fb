"""A judge behind an OpenAI-compatible server whose biases are known, because it decides by a formula.

The stand-in at the seam of `kellet judge`: what a real server does with the same requests is in
tests/evaluation/test_transformers_serve.py. An answer says its quality (``quality 3``); the judge prefers the answer
that stands first where

    quality(first) - quality(second) + longer·sign(words(first) - words(second)) + first  >  0

and the other where it is below 0; at 0 it says that they tie.
"""

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

DATA = re.compile(
    r"<prompt_([0-9a-f]{16})>\n(.*?)\n</prompt_\1>\n\n<answer_A_\1>\n(.*?)\n</answer_A_\1>\n\n"
    r"<answer_B_\1>\n(.*?)\n</answer_B_\1>",
    re.DOTALL,
)
"""The quoted data, as docs/use/judges.md describes it."""


class JudgeServer:
    """Serves on loopback while the context is open; ``asked`` holds (headers, body) of every request."""

    def __init__(self, judge, change=None, key=None, pause=0.0):
        """``judge`` (prompt, first, second) -> the text of its reply.

        ``change`` (number of the request from 1, body, answer) -> (status, headers, answer) changes what is answered.
        """
        self.judge, self.change, self.key, self.pause = judge, change, key, pause
        self.asked, self.lock, self.at_once, self.most = [], threading.Lock(), 0, 0

    def __enter__(self):
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.asked.append((dict(self.headers), body))
                    number = len(outer.asked)
                    outer.at_once += 1
                    outer.most = max(outer.most, outer.at_once)
                time.sleep(outer.pause)
                status, headers, told = outer.answer(number, self.path, self.headers, body)
                with outer.lock:
                    outer.at_once -= 1
                data = told if isinstance(told, bytes) else json.dumps(told).encode()
                try:
                    self.send_response(status)
                    for name, value in {"Content-Length": str(len(data)), **headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:  # the client is dead or has stopped waiting
                    pass

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}/v1"
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def answer(self, number, path, headers, body):
        """Status, headers and JSON of one answer."""
        if path != "/v1/chat/completions":
            return 404, {}, {"error": {"message": f"no such path {path}"}}
        if self.key is not None and headers["Authorization"] != f"Bearer {self.key}":
            return 401, {}, {"error": {"message": f"wrong key: {headers['Authorization']}"}}
        told = completion(self.judge(*question(body)), body)
        return (200, {}, told) if self.change is None else self.change(number, body, told)


def question(body):
    """(prompt, answer A, answer B) of a request, read from the first message with the data."""
    text = next(message["content"] for message in body["messages"] if "<answer_A_" in message["content"])
    found = DATA.search(text)
    return found[2], found[3], found[4]


def completion(text, body, cut=False):
    """A chat completion that says ``text``; a token is a word."""
    asked = sum(len(message["content"].split()) for message in body["messages"])
    usage = {"prompt_tokens": asked, "completion_tokens": len(text.split())}
    choice = {"index": 0, "message": {"role": "assistant", "content": text}}
    choice["finish_reason"] = "length" if cut else "stop"
    return {"object": "chat.completion", "model": body["model"], "choices": [choice], "usage": usage}


def biased(first=0.0, longer=0.0):
    """The judge of the formula above."""

    def judge(_prompt, one, other):
        quality = [float(re.search(r"quality (-?[\d.]+)", text)[1]) for text in (one, other)]
        sign = float(np.sign(len(one.split()) - len(other.split())))
        score = quality[0] - quality[1] + longer * sign + first
        return f"By the rubric.\nVERDICT: {'TIE' if score == 0 else 'A' if score > 0 else 'B'}"

    return judge
