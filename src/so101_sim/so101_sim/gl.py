# SPDX-License-Identifier: Apache-2.0
"""Chooses how MuJoCo draws without a screen, and says which package is missing when it cannot."""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys

PACKAGES = {"egl": "libegl1 libgl1-mesa-dri libopengl0", "osmesa": "libosmesa6"}
"""Back end -> Debian packages it needs, in the order they are tried."""

_PROBE = "import mujoco; context = mujoco.GLContext(16, 16); context.make_current(); context.free()"


class GlError(OSError):
    """Nothing here can draw; the message names the package to install."""


def draws(backend: str, timeout_s: float = 240.0) -> bool:
    """Whether a drawing context can be made. Tried in another process: a missing library can end a process.

    timeout_s: generous, since on a busy machine the imports alone have taken more than a minute.
    """
    environment = {key: value for key, value in os.environ.items() if key != "PYOPENGL_PLATFORM"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE], env={**environment, "MUJOCO_GL": backend}, capture_output=True, timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


@functools.cache
def choose() -> str:
    """Set MUJOCO_GL to the first back end that draws, unless it is set already, and return it.

    Raises GlError when the one that is set, or every one, does not.
    """
    given = os.environ.get("MUJOCO_GL", "").strip().lower()
    if given and given not in PACKAGES:
        return given  # a screen: MuJoCo's own messages apply
    for backend in [given] if given else PACKAGES:
        if draws(backend):
            os.environ["MUJOCO_GL"] = backend
            _take(backend)
            return backend
    if given:
        raise GlError(
            f"MUJOCO_GL={given} cannot draw here: install the Debian package {PACKAGES[given].split()[0]} or unset it"
        )
    raise GlError(
        f"nothing here can draw camera images: install the Debian package {PACKAGES['osmesa']}, or {PACKAGES['egl']} for a GPU"
    )


def _take(backend: str) -> None:
    """MuJoCo reads the variable once, when it is imported: have it read again if that has been."""
    module = sys.modules.get("mujoco.rendering.classic.gl_context")
    if module is not None and backend not in module.GLContext.__module__:
        importlib.reload(module)
