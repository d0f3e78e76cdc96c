# SPDX-License-Identifier: Apache-2.0
"""The folder: refused when damaged, incomplete or made for another task; never half-written; nothing of others is lost."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from classifier_fixtures import SETTINGS, TASK, make_classifier
from transformers.utils import logging

from reward_classifier_node import artifact
from reward_classifier_node.artifact import read_artifact, write_artifact
from reward_classifier_node.errors import ClassifierError
from reward_classifier_node.trunk import load_trunk


@pytest.fixture
def folder(tmp_path):
    write_artifact(tmp_path / "a", make_classifier(), TASK, 0.7, {"data_sha256": "12"})
    return tmp_path / "a"


def test_threshold_and_facts_come_back(folder):
    found = read_artifact(folder, TASK)
    assert found.threshold == 0.7 and found.facts["data_sha256"] == "12"


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"image_size": 96}, "task.image_size"),
        ({"crops": (0, 0, 480, 480)}, "task.crops"),
        ({"rotations_deg": (180,)}, "task.rotations_deg"),
        ({"cameras": ("front",)}, "task.cameras"),
    ],
)
def test_another_task_is_refused_naming_the_field(folder, change, name):
    with pytest.raises(ClassifierError, match=name):
        read_artifact(folder, replace(TASK, **change))


@pytest.mark.parametrize("name", ["model.safetensors", "trunk/model.safetensors", "config.json", "classifier.json"])
def test_a_flipped_byte_is_noticed(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ClassifierError, match=f"{name} is damaged"):
        read_artifact(folder, TASK)


@pytest.mark.parametrize("name", ["model.safetensors", "manifest.json", "task_spec.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ClassifierError, match=f"{name} is missing"):
        read_artifact(folder, TASK)


def test_without_a_manifest_a_cut_weight_file_is_still_a_sentence(folder):
    """As LeRobot's folders are."""
    (folder / "manifest.json").unlink()
    (folder / "classifier.json").unlink()
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(ClassifierError, match=r"cannot read .*model.safetensors"):
        read_artifact(folder, TASK)


def test_a_write_that_fails_keeps_the_old_folder(folder, monkeypatch):
    def broken(*_):
        raise OSError("no space left")

    monkeypatch.setattr(artifact, "_seal", broken)
    with pytest.raises(ClassifierError, match="no space left"):
        write_artifact(folder, make_classifier(seed=1), TASK, 0.9, {})
    assert read_artifact(folder, TASK).threshold == 0.7
    assert [path.name for path in folder.parent.iterdir()] == ["a"]


def test_writing_again_replaces(folder):
    write_artifact(folder, make_classifier(seed=1), TASK, 0.9, {})
    assert read_artifact(folder, TASK).threshold == 0.9
    assert [path.name for path in folder.parent.iterdir()] == ["a"]


def test_a_folder_of_something_else_is_never_replaced(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_bytes(b"1")
    with pytest.raises(ClassifierError, match="no classifier"):
        write_artifact(tmp_path / "photos", make_classifier(), TASK, 0.5, {})
    assert (tmp_path / "photos" / "one.jpg").exists()


def test_weights_that_are_not_finite_are_refused(tmp_path):
    classifier = make_classifier()
    with torch.no_grad():
        classifier.classifier_head[0].weight[0, 0] = torch.nan
    write_artifact(tmp_path / "a", classifier, TASK, 0.5, {})
    with pytest.raises(ClassifierError, match=r"not finite: classifier_head.0.weight"):
        read_artifact(tmp_path / "a", TASK)


def _foreign_code(folder):
    """A backbone with Python code of its own, as helper2424/resnet10 on the Hub has it."""
    make_classifier().encoder.save_pretrained(folder)
    (folder / "modeling_own.py").write_text(
        "from transformers import ResNetConfig, ResNetModel\n"
        "class OwnConfig(ResNetConfig):\n    model_type = 'own_resnet'\n"
        "class OwnModel(ResNetModel):\n    config_class = OwnConfig\n"
    )
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "own_resnet",
        "auto_map": {"AutoConfig": "modeling_own.OwnConfig", "AutoModel": "modeling_own.OwnModel"},
    }
    (folder / "config.json").write_text(json.dumps(config))


def test_code_of_a_backbone_runs_only_when_allowed_and_travels_in_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    _foreign_code(tmp_path / "backbone")
    with pytest.raises(ClassifierError, match="trust_remote_code"):
        load_trunk(tmp_path / "backbone")
    trunk = load_trunk(tmp_path / "backbone", trust_remote_code=True)
    classifier = make_classifier()
    classifier = type(classifier)(classifier.shape, trunk)
    write_artifact(tmp_path / "a", classifier, TASK, 0.5, {})
    with pytest.raises(ClassifierError, match="trust_remote_code"):
        read_artifact(tmp_path / "a", TASK)
    assert type(read_artifact(tmp_path / "a", TASK, trust_remote_code=True).classifier.encoder).__name__ == "OwnModel"


def test_writing_and_reading_say_nothing(tmp_path, capfd):
    """A bar of transformers, "Writing model shards", tore the demo's display apart."""
    logging.enable_progress_bar()
    write_artifact(tmp_path / "a", make_classifier(), TASK, 0.7, {"data_sha256": "12"})
    read_artifact(tmp_path / "a", TASK)
    assert capfd.readouterr() == ("", "")


def test_settings_name_what_is_wrong(tmp_path):
    file = tmp_path / "c.yaml"
    text = "/**/train_classifier:\n  ros__parameters:\n    classifier: {%s}\n"
    for wrong, said in (("heldot: 0.2", "unknown setting classifier.heldot"), ("heldout: 2.0", "classifier.heldout is 2.0")):
        file.write_text(text % wrong)
        with pytest.raises(ClassifierError, match=said):
            type(SETTINGS).from_file(file)
    file.write_text(text % "hue: many")
    with pytest.raises(ClassifierError, match=r"classifier.hue is 'many', expected a float"):
        type(SETTINGS).from_file(file)
    file.write_text(text % "hue: 0.05, trunk_widths: [4, 4, 8, 8]")
    assert type(SETTINGS).from_file(file).hue == 0.05
