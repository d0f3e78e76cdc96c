# SPDX-License-Identifier: Apache-2.0
"""The choice of the drawing back end."""

import pytest

from so101_sim import gl


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gl, "_take", lambda backend: None)
    gl.choose.cache_clear()
    yield
    gl.choose.cache_clear()


def test_the_first_back_end_that_draws_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "")
    monkeypatch.setattr(gl, "draws", lambda backend: backend == "osmesa")
    assert gl.choose() == "osmesa"
    assert gl.os.environ["MUJOCO_GL"] == "osmesa"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gl, "draws", lambda backend: False)
    monkeypatch.setenv("MUJOCO_GL", "egl")
    with pytest.raises(gl.GlError, match=r"MUJOCO_GL=egl .* libegl1"):
        gl.choose()
    monkeypatch.setenv("MUJOCO_GL", "")
    with pytest.raises(gl.GlError, match="libosmesa6"):
        gl.choose()


def test_a_back_end_is_really_tried() -> None:
    assert any(gl.draws(backend) for backend in gl.PACKAGES)
    assert not gl.draws("nonsense")
