# SPDX-License-Identifier: Apache-2.0
"""How the reward classifier is built and trained: each field is the setting `classifier.<field>`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hilserl_core.fields import described, tidy
from reward_classifier_node.errors import ClassifierError

SMALL_RESNET = "small_resnet"


@dataclass(frozen=True)
class ClassifierSettings:
    """Names and defaults of the layers are LeRobot's."""

    backbone: str = described(
        SMALL_RESNET, "Image model: 'small_resnet' (built in, no download), or a Hub model or local folder for AutoModel."
    )
    trust_remote_code: bool = described(False, "Run Python code that comes with a Hub image model, as LeRobot always does.")
    trunk_widths: tuple[int, ...] = described(
        (16, 32, 64, 128), "Channels of the four stages of the small ResNet.", minimum=4, maximum=1024
    )
    trunk_updates: int = described(
        500, "Updates of the whole small ResNet before it is frozen; 0 leaves it random.", minimum=0, maximum=1_000_000
    )
    trunk_learning_rate: float = described(2e-3, "Highest learning rate of those updates.", minimum=1e-6, maximum=0.1)
    trunk_batch_size: int = described(32, "Frames per update of the trunk.", minimum=2, maximum=4096)
    spatial_embeddings: int = described(8, "Learned spatial embeddings per channel.", minimum=1, maximum=256)
    latent_dim: int = described(256, "Width of each camera's encoding.", minimum=1, maximum=4096)
    hidden_dim: int = described(256, "Hidden width of the head.", minimum=1, maximum=4096)
    dropout: float = described(0.1, "Dropout while training.", minimum=0.0, maximum=0.9)
    updates: int = described(600, "Most updates of what is above the trunk.", minimum=1, maximum=1_000_000)
    batch_size: int = described(64, "Frames per update above the trunk.", minimum=2, maximum=65536)
    learning_rate: float = described(5e-4, "Learning rate above the trunk.", minimum=1e-7, maximum=0.1)
    weight_decay: float = described(0.01, "AdamW's weight decay.", minimum=0.0, maximum=1.0)
    check_every: int = described(50, "Updates between two looks at the held-out loss.", minimum=1, maximum=100_000)
    patience: int = described(8, "Looks without a better held-out loss after which training stops.", minimum=1, maximum=1000)
    variants: int = described(2, "Augmented variants of each frame whose features are kept.", minimum=0, maximum=64)
    brightness: tuple[float, ...] = described((0.4, 1.6), "Augmentation: factor on the light.", minimum=0.0, maximum=4.0)
    contrast: tuple[float, ...] = described((0.7, 1.3), "Augmentation: factor on contrast.", minimum=0.0, maximum=4.0)
    saturation: tuple[float, ...] = described((0.5, 1.5), "Augmentation: factor on saturation.", minimum=0.0, maximum=4.0)
    hue: float = described(0.1, "Augmentation: turn of the hue to either side, of a whole turn.", minimum=0.0, maximum=0.5)
    shift: float = described(0.03, "Augmentation: shift to either side, of the image's side.", minimum=0.0, maximum=0.3)
    zoom: float = described(0.05, "Augmentation: random crop or enlargement by this share.", minimum=0.0, maximum=0.5)
    heldout: float = described(0.2, "Share of the episodes held out.", minimum=0.01, maximum=0.9)
    target_precision: float = described(0.995, "Precision the threshold is chosen for.", minimum=0.5, maximum=1.0)
    least_recall: float = described(
        0.9, "Share of held-out successes that the threshold must see, even where it misses the target precision.",
        minimum=0.0, maximum=1.0,
    )  # fmt: skip
    debounce: int = described(
        3, "Successes in a row that the threshold is chosen for: the node's `debounce`.", minimum=1, maximum=1000
    )
    undecided_before: int = described(
        1, "Frames before a success that are left out: no image tells whether the grip holds yet. Debounced labels need 3.",
        minimum=0, maximum=1000,
    )  # fmt: skip
    undecided_after: int = described(
        1, "Frames after a success ends that are left out: the grip is lost before it can be seen.", minimum=0, maximum=1000
    )
    label_column: str = described("next.reward", "Dataset column with the label: above one half is success.")
    label_offset: int = described(
        0, "0: a label belongs to the image of its row. 1: to that of the next row, as rewards of unlabelled steps do.",
        minimum=0, maximum=1,
    )  # fmt: skip
    seed: int = described(0, "Determines split, weights, augmentation and batches.", minimum=0)
    threads: int = described(
        1, "Processor threads of training. They wait for one another: beside other work several can be far slower than one.",
        minimum=1, maximum=256,
    )  # fmt: skip

    def __post_init__(self) -> None:
        tidy(self, "classifier", ClassifierError)
        for name, length in {"trunk_widths": 4, "brightness": 2, "contrast": 2, "saturation": 2}.items():
            value = getattr(self, name)
            if len(value) != length:
                raise ClassifierError(f"classifier.{name} has {len(value)} values, expected {length}")
            if length == 2 and value[0] > value[1]:
                raise ClassifierError(f"classifier.{name} is {list(value)}, the lowest comes first")

    @classmethod
    def from_dict(cls, values: dict[str, Any], source: str = "the settings") -> ClassifierSettings:
        """Raises ClassifierError for an unknown field, a value of another type and a value out of its limits."""
        known = {item.name: item.default for item in dataclasses.fields(cls)}
        for key, value in values.items():
            if key not in known:
                raise ClassifierError(f"{source}: unknown setting classifier.{key}; known are {', '.join(known)}")
            default = known[key]
            wanted = (
                (int, float) if isinstance(default, float) else (list, tuple) if isinstance(default, tuple) else type(default)
            )
            if not isinstance(value, wanted) or (isinstance(value, bool) and not isinstance(default, bool)):
                raise ClassifierError(f"{source}: classifier.{key} is {value!r}, expected a {type(default).__name__}")
        return cls(**values)

    @classmethod
    def from_file(cls, path: Path) -> ClassifierSettings:
        """From a ROS parameter file: the section `/**/train_classifier`. Raises ClassifierError."""
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
            values = content["/**/train_classifier"]["ros__parameters"]["classifier"]
        except UnicodeDecodeError as error:
            raise ClassifierError(f"{path} is not UTF-8: save it as UTF-8") from error
        except OSError as error:
            raise ClassifierError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
        except yaml.YAMLError as error:
            raise ClassifierError(f"cannot read {path}: {' '.join(str(error).split())}") from error
        except (KeyError, TypeError) as error:
            raise ClassifierError(f"{path} has no /**/train_classifier: ros__parameters: classifier: section") from error
        return cls.from_dict(values or {}, str(path))

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON types."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in dataclasses.asdict(self).items()}
