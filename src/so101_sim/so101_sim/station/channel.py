# SPDX-License-Identifier: Apache-2.0
"""A socket through which hands, the scripted person's or a program's, reach into the twin: one line of JSON for each action.

{"hold": ["leader", {"gripper": 0.2}]}, {"release": "leader"}, {"cube": [0.22, 0.05, 0.3]}, {"press": "KEY_F9"},
{"down": "KEY_UP"}, {"up": "KEY_UP"}. One line answers each: the joints of both arms [rad], which hands feel, or an error.
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
    """Carries out the lines of one connection. When the connection ends, the hands let go."""

    def __init__(self, twin: Twin, keys: Keys) -> None:
        self._twin, self._keys = twin, keys
        self._held: set[str] = set()

    def do(self, deed: Any) -> dict[str, Any]:
        """Carry out one action and return the joints felt afterwards. Raises StationError for one that is not known."""
        if not isinstance(deed, dict) or len(deed) > 1:
            raise StationError(f"an action is an object with one key, not {str(deed)[:80]}")
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
                raise StationError(f"there is no action '{kind}', only hold, release, cube, press, down, up")
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            if isinstance(error, StationError):
                raise
            raise StationError(f"{kind} cannot be done with {str(what)[:80]}") from error

    def let_go(self) -> None:
        """Let go of every arm that is held."""
        for arm in self._held:
            self._twin.release(arm)
        self._held.clear()


class _Handler(socketserver.StreamRequestHandler):
    server: HandChannel

    def handle(self) -> None:
        """Carry out each line until the other end is gone."""
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
    """Server of the socket. Raises StationError when the socket cannot be made."""

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
        """Stop serving and remove the socket."""
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
        """Press keys one after another and hold them down."""
        for key in keys:
            self._do(down=key)

    def up(self, *keys: str) -> None:
        """Let go of keys that are held down."""
        for key in keys:
            self._do(up=key)

    def close(self) -> None:
        """Let go of everything."""
        self._lines.close()
        self._socket.close()
