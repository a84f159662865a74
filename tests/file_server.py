"""A web server on this machine that behaves as badly as a test asks it to."""

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class Answer:
    """How one request is answered: after a wait, with an error, or cut off after some bytes of the body."""

    status: int = 200
    wait: float = 0.0
    cut: int | None = None


@dataclass
class FileServer:
    """Files by path, how the next requests are answered (then well), and the ``Range`` of each request so far."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    ranges: bool = True
    version: str | None = '"v1"'
    length: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[str | None] = field(default_factory=list)


@contextmanager
def serve():
    """Yield a server that is up."""
    state = FileServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            _answer(self, state)

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_):
            """Say nothing of clients that hang up: tests make them do it."""

    with Server(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield state
        server.shutdown()
        thread.join()


def _answer(handler: BaseHTTPRequestHandler, state: FileServer) -> None:
    state.asked.append(handler.headers.get("Range"))
    answer = state.answers.pop(0) if state.answers else Answer()
    time.sleep(answer.wait)
    body = state.files.get(handler.path.removeprefix("/").partition("?")[0])
    if body is None or answer.status != 200:
        handler.send_error(404 if body is None else answer.status)
        return
    start, total = _start(handler, state), len(body)
    if start is not None and start >= total:
        handler.send_response(416)
        handler.send_header("Content-Range", f"bytes */{total}")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    handler.send_response(200 if start is None else 206)
    if start is not None:
        handler.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
    for name, value in state.headers.items():
        handler.send_header(name, value)
    if state.version:
        handler.send_header("ETag", state.version)
    body = body[start or 0 :]
    if state.length:
        handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[: answer.cut])


def _start(handler: BaseHTTPRequestHandler, state: FileServer) -> int | None:
    asked = handler.headers.get("Range")
    if not state.ranges or asked is None or handler.headers.get("If-Range") != state.version:
        return None
    return int(asked.removeprefix("bytes=").removesuffix("-"))
