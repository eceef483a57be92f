"""A place that webhooks are sent to, and the check of their signature as fal's documentation writes it."""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


@dataclass(frozen=True)
class Received:
    headers: dict[str, str]
    raw: bytes

    @property
    def content(self) -> dict[str, Any]:
        return dict(json.loads(self.raw))

    @property
    def request_id(self) -> str:
        return str(self.content["request_id"])


class Receiver:
    """Answers the codes it was told, one after the other, then 200; 0 answers nothing until it is closed."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.url = f"http://127.0.0.1:{server.server_port}/told"
        self.codes: list[int] = []
        self.received: list[Received] = []
        self.closing = threading.Event()

    def wait(self, count: int = 1) -> list[Received]:
        for _ in range(5000):
            if len(self.received) >= count:
                return self.received[:]
            time.sleep(0.002)
        raise AssertionError(f"received {len(self.received)} webhooks, not {count}")


@contextmanager
def run_receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"]))
            code = receiver.codes.pop(0) if receiver.codes else 200
            receiver.received.append(Received({name.lower(): value for name, value in self.headers.items()}, raw))
            if code == 0:
                self.close_connection = receiver.closing.wait(30)
                return
            self.send_response(code)
            self.send_header("location", receiver.url)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield receiver
        finally:
            receiver.closing.set()
            server.shutdown()


def is_genuine(jwks: dict[str, Any], headers: dict[str, str], body: bytes) -> bool:
    """Verify as FAL.md 3 tells it: four headers, five minutes, any key."""
    request_id, user_id, timestamp, signature = (
        headers[f"x-fal-webhook-{name}"] for name in ("request-id", "user-id", "timestamp", "signature")
    )
    if abs(int(time.time()) - int(timestamp)) > 300:
        return False
    message = "\n".join([request_id, user_id, timestamp, hashlib.sha256(body).hexdigest()]).encode()
    for key in jwks["keys"]:
        raw = base64.urlsafe_b64decode(key["x"] + "=" * (-len(key["x"]) % 4))
        try:
            Ed25519PublicKey.from_public_bytes(raw).verify(bytes.fromhex(signature), message)
        except InvalidSignature:
            continue
        return True
    return False
