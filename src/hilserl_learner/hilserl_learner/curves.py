# SPDX-License-Identifier: Apache-2.0
"""Training curves: TensorBoard event files, and Weights & Biases where wanted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hilserl_ros.node import NodeError


class Curves:
    """Writes named numbers against the training step."""

    def __init__(self, folder: Path, tensorboard: bool, wandb_project: str, config: Mapping[str, Any]) -> None:
        """Raises NodeError when Weights & Biases is asked for and not installed."""
        self._writer = None
        self._wandb = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder / "tensorboard"))
        if wandb_project:
            try:
                import wandb
            except ImportError as error:
                raise NodeError(
                    "wandb_project is set but wandb is not installed: pip install wandb, or leave it empty"
                ) from error
            self._wandb = wandb.init(project=wandb_project, dir=str(folder), config=dict(config))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """One point of each curve."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(dict(values), step=step)

    def close(self) -> None:
        """Write out what is buffered."""
        if self._writer is not None:
            self._writer.close()
        if self._wandb is not None:
            self._wandb.finish()
