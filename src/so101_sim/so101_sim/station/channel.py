# SPDX-License-Identifier: Apache-2.0
"""How a person's hands, scripted ones or a program's, reach into the twin: a socket that takes a line of JSON for each deed.

{"hold": ["leader", {"gripper": 0.2}]}, {"release": "leader"}, {"cube": [0.22, 0.05, 0.3]}, {"press": "KEY_F9"},
{"down": "KEY_UP"}, {"up": "KEY_UP"}. Each is answered by a line: what hands feel, the joints of both arms [rad], or an error.
"""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from so101_sim.station.keys import Keys, key_code, make_room, press
from so101_sim.station.settings import StationError
from so101_sim.station.twin import Twin

_LONGEST = 4096  # bytes of a line


class Hands:
    """Does what a line says. Whoever is gone has let go."""

    def __init__(self, twin: Twin, keys: Keys) -> None:
        self._twin, self._keys = twin, keys
        self._held: set[str] = set()

    def do(self, deed: Any) -> dict[str, Any]:
        """Do one deed and return what is felt then. Raises StationError for one that is none."""
        if not isinstance(deed, dict) or len(deed) > 1:
            raise StationError(f"a deed is an object with one key, not {str(deed)[:80]}")
        for kind, what in deed.items():
            self._carry_out(kind, what)
        return {"joints": self._twin.joints()}

    def _carry_out(self, kind: str, what: Any) -> None:
        try:
            if kind == "hold":
                arm, joints = what
                self._twin.hold(arm, joints)
                self._held.add(arm)
            elif kind == "release":
                self._twin.release(what)
                self._held.discard(what)
            elif kind == "cube":
                self._twin.place_cube(*what)
            elif kind == "press":
                press(self._keys, what)
            elif kind in ("down", "up"):
                self._keys.change(key_code(what), kind == "down")
            else:
                raise StationError(f"there is no deed '{kind}', only hold, release, cube, press, down, up")
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            if isinstance(error, StationError):
                raise
            raise StationError(f"{kind} cannot be done with {str(what)[:80]}") from error

    def let_go(self) -> None:
        """Let every arm go that is held."""
        for arm in self._held:
            self._twin.release(arm)
        self._held.clear()


class _Handler(socketserver.StreamRequestHandler):
    server: HandChannel

    def handle(self) -> None:
        """Do what each line says until the other end is gone."""
        hands = Hands(self.server.twin, self.server.keys)
        try:
            while line := self.rfile.readline(_LONGEST):
                try:
                    answer = hands.do(json.loads(line))
                except ValueError as error:  # StationError is one
                    answer = {"error": str(error)}
                self.wfile.write(json.dumps(answer).encode() + b"\n")
        except OSError:
            pass
        finally:
            hands.let_go()


class HandChannel(socketserver.ThreadingUnixStreamServer):
    """Takes deeds at a socket. Raises StationError when it cannot be made."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, path: Path, twin: Twin, keys: Keys) -> None:
        self.twin, self.keys, self._path = twin, keys, path
        make_room(path)
        try:
            super().__init__(str(path), _Handler)
        except OSError as error:
            raise StationError(f"{path} cannot be made a socket: {error.strerror or error}; use a shorter --folder") from error
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="hands", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more."""
        self.shutdown()
        self.server_close()
        self._path.unlink(missing_ok=True)


class RemoteHands:
    """A person's hands from another process. Methods raise StationError for what cannot be done, OSError without a twin."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("rb")

    def _do(self, **deed: Any) -> dict[str, dict[str, float]]:
        self._socket.sendall(json.dumps(deed).encode() + b"\n")
        line = self._lines.readline()
        if not line:
            raise ConnectionResetError("the twin has ended")
        answer = json.loads(line)
        if "error" in answer:
            raise StationError(answer["error"])
        return answer["joints"]

    def feel(self) -> dict[str, dict[str, float]]:
        """Joints of both arms [rad], by arm and name."""
        return self._do()

    def hold(self, arm: str, joints: Mapping[str, float]) -> dict[str, dict[str, float]]:
        """Take joints of an arm and move each there [rad]. Returns what `feel` does."""
        return self._do(hold=[arm, dict(joints)])

    def release(self, arm: str) -> None:
        """Let an arm go."""
        self._do(release=arm)

    def place_cube(self, x: float, y: float, yaw: float) -> None:
        """Put the cube on the table [m, m, rad]."""
        self._do(cube=[x, y, yaw])

    def press(self, key: str) -> None:
        """Press a key, such as KEY_F9."""
        self._do(press=key)

    def down(self, *keys: str) -> None:
        """Press keys and hold them down, each longer than the next."""
        for key in keys:
            self._do(down=key)

    def up(self, *keys: str) -> None:
        """Let keys go that are held down."""
        for key in keys:
            self._do(up=key)

    def close(self) -> None:
        """Let everything go."""
        self._lines.close()
        self._socket.close()
