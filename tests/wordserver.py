"""A local server that answers as a language model behind an OpenAI-compatible endpoint does."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "sk-Zz9/secret+words"
PLACES = {"feasible": ["in a park", "on a beach"], "infeasible": ["on the moon", "in lava"]}
COLORS = {
    "feasible": [
        {"phrase": "white", "rgb": [240, 240, 236]},
        {"phrase": "rust", "rgb": [150, 75, 40]},
    ],
    "infeasible": [
        {"phrase": "lime", "rgb": [120, 250, 40]},
        {"phrase": "pink", "rgb": [242, 120, 182]},
    ],
}


@contextlib.contextmanager
def serve() -> Iterator[ThreadingHTTPServer]:
    """A server whose .answers are taken one by one, then .answer(body); .seen is what was asked.

    An answer is a text, a (status, headers, body) or a float, seconds to sleep.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            own.seen.append((self.path, dict(self.headers), body))
            said = own.answers.pop(0) if own.answers else own.answer(body)
            if isinstance(said, float):
                time.sleep(said)
                said = "late"
            if isinstance(said, str):
                said = (
                    200,
                    {},
                    json.dumps(
                        {
                            "choices": [{"message": {"content": said}, "finish_reason": "stop"}],
                            "usage": {"prompt_tokens": 100, "completion_tokens": 10},
                        }
                    ),
                )
            status, headers, text = said
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(text.encode()))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            try:
                self.wfile.write(text.encode())
            except OSError:
                pass  # the client gave up

        def log_message(self, *_):
            pass

    own = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    own.seen, own.answers, own.answer = [], [], answer
    own.url = f"http://127.0.0.1:{own.server_port}/v1"
    thread = threading.Thread(target=own.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield own
    finally:
        own.shutdown()
        own.server_close()


def answer(body: dict) -> str:
    """What a good model says: proposals, and verdicts that disagree about lava alone."""
    schema = body["response_format"]["json_schema"]["schema"]["properties"]
    if "1" not in schema:
        item = schema["feasible"]["items"]["type"]
        return json.dumps(COLORS if item == "object" else PLACES)
    text = body["messages"][1]["content"]
    shown = json.loads(re.search(r"^\{.*\}$", text, re.MULTILINE)[0])
    good = {"in a park", "on a beach", "in lava", "white", "rust"}
    return json.dumps(
        {
            n: {"verdict": "feasible" if p in good else "infeasible", "reason": "=seen\nthere"}
            for n, p in shown.items()
        }
    )


def spec(server, **more) -> dict:
    return {
        "kind": "endpoint",
        "url": server.url,
        "name": "some-model",
        "retries": 2,
        "timeout": 5,
        "price_input": 1.0,
        "price_output": 4.0,
    } | more
