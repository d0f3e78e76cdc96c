# SPDX-License-Identifier: Apache-2.0
"""Camera streams as MJPEG over HTTP on this machine. A reader that is slow misses pictures; nobody waits for it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_BOUNDARY = "picture"
_SEND_BUFFER = 65536  # about one picture: what waits in there is old
_SEND_TIMEOUT_S = 5.0  # a reader that takes nothing for so long is gone


class Outlet:
    """The newest picture of one camera, for any number of readers."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._picture, self._number = b"", 0
        self._readers = 0
        self._closed = False

    @property
    def readers(self) -> int:
        """How many read the stream now."""
        return self._readers

    def put(self, picture: bytes) -> None:
        """A new picture, JPEG."""
        with self._changed:
            self._picture, self._number = picture, self._number + 1
            self._changed.notify_all()

    def enter(self) -> int:
        """A reader comes. Returns the number of the newest picture, which is old for it."""
        with self._changed:
            self._readers += 1
            self._changed.notify_all()
            return self._number

    def leave(self) -> None:
        """A reader has gone."""
        with self._changed:
            self._readers -= 1

    def after(self, number: int, timeout_s: float = 1.0) -> tuple[bytes, int]:
        """The newest picture once there is one newer than `number`; nothing when none comes in time or it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._number > number or self._closed, timeout_s)
            return (self._picture, self._number) if self._number > number else (b"", number)

    def wait_for_reader(self, timeout_s: float) -> bool:
        """Whether anybody reads, now or within that time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._readers > 0 or self._closed, timeout_s) and not self._closed

    def close(self) -> None:
        """Nothing comes any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether nothing comes any more."""
        return self._closed


class _Handler(BaseHTTPRequestHandler):
    server: StreamServer
    timeout = _SEND_TIMEOUT_S

    def do_GET(self) -> None:
        """Send one stream until the reader goes."""
        outlet = self.server.outlets.get(self.path.strip("/"))
        if outlet is None:
            self.send_error(404, f"there are only {', '.join('/' + name for name in self.server.outlets)}")
            return
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace;boundary={_BOUNDARY}")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        number = outlet.enter()
        try:
            while not outlet.closed:
                picture, number = outlet.after(number)
                if picture:
                    head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                    self.wfile.write(head.encode() + picture + b"\r\n")
        except OSError:
            pass  # the reader has gone
        finally:
            outlet.leave()
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Readers come and go; nobody needs to know."""


class StreamServer(ThreadingHTTPServer):
    """Serves `/NAME` for each outlet on the loopback interface. Raises OSError when the port is taken."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, outlets: Mapping[str, Outlet], port: int = 0) -> None:
        self.outlets = outlets
        super().__init__(("127.0.0.1", port), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="streams", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server_address[1]

    def start(self) -> None:
        """Serve in a thread."""
        self._thread.start()

    def handle_error(self, request: object, client_address: object) -> None:
        """A reader that resets its connection is none of our trouble."""

    def stop(self) -> None:
        """End every stream."""
        for outlet in self.outlets.values():
            outlet.close()
        self.shutdown()
        self.server_close()
