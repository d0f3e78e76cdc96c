# SPDX-License-Identifier: Apache-2.0
"""Camera streams as MJPEG over HTTP on this machine. A slow reader misses pictures; nobody waits for it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_BOUNDARY = "picture"
_SEND_BUFFER = 65536  # about one picture: more would wait there and grow old
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
        """Number of readers of the stream now."""
        return self._readers

    def put(self, picture: bytes) -> None:
        """Publish a new picture, JPEG."""
        with self._changed:
            self._picture, self._number = picture, self._number + 1
            self._changed.notify_all()

    def enter(self) -> int:
        """Count a reader that comes. Returns the number of the newest picture, which that reader need not get."""
        with self._changed:
            self._readers += 1
            self._changed.notify_all()
            return self._number

    def leave(self) -> None:
        """Count a reader that has gone."""
        with self._changed:
            self._readers -= 1

    def after(self, number: int, timeout_s: float = 1.0) -> tuple[bytes, int]:
        """Wait for a picture newer than `number`; return it and its number. Empty when none comes in time, or after the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._number > number or self._closed, timeout_s)
            return (self._picture, self._number) if self._number > number else (b"", number)

    def wait_for_reader(self, timeout_s: float) -> bool:
        """Wait for a reader; whether there is one within `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: self._readers > 0 or self._closed, timeout_s) and not self._closed

    def close(self) -> None:
        """End the stream: no more pictures come."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether the stream has ended."""
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
        """Do nothing: nobody needs a log of readers that come and go."""


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
        """TCP port on which it listens."""
        return self.server_address[1]

    def start(self) -> None:
        """Serve in a thread."""
        self._thread.start()

    def handle_error(self, request: object, client_address: object) -> None:
        """Do nothing: a reader may reset its connection."""

    def stop(self) -> None:
        """End every stream."""
        for outlet in self.outlets.values():
            outlet.close()
        self.shutdown()
        self.server_close()
