# SPDX-License-Identifier: Apache-2.0
"""What training changes and what it must not, calibration, repeatability, and a whole small run."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from classifier_fixtures import SETTINGS, TASK, TWO_CAMERAS, make_classifier, make_frames
from scipy.special import expit

from reward_classifier_node.api import train_from_frames
from reward_classifier_node.artifact import read_artifact
from reward_classifier_node.augmentation import augmented
from reward_classifier_node.calibration import choose_threshold, cross_entropy, fit_temperature, least_in_a_row, scores
from reward_classifier_node.data import LabelledFrames, split_by_episode
from reward_classifier_node.decision import Rule, decide
from reward_classifier_node.errors import ClassifierError
from reward_classifier_node.training import _threshold, keep_features, pixel_logits, train, train_above

FRAMES = make_frames(8)
SPLIT = split_by_episode(FRAMES, 0.3, 0)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def state(classifier):
    return {name: value.clone() for name, value in classifier.state_dict().items()}


@pytest.mark.parametrize("task", [TASK, TWO_CAMERAS], ids=["one camera", "two cameras"])
def test_everything_above_the_trunk_learns_and_the_trunk_does_not(task):
    """LeRobot runs spatial embeddings and projection under no_grad, and lets batch statistics of its trunk drift."""
    classifier, frames = make_classifier(task), make_frames(8, task=task)
    before = state(classifier)
    features = keep_features(classifier, frames, SPLIT, SETTINGS)
    train_above(classifier, features, frames, SPLIT, SETTINGS)
    after = state(classifier)
    trunk = {name for name in after if name.startswith("encoder.") or ".0." in name.removeprefix("classifier_head.0.")}
    trunk -= {name for name in after if name.startswith("classifier_head.")}
    assert {name for name in after if not torch.equal(before[name], after[name])} == set(after) - trunk
    assert len(set(after) - trunk) == 5 * len(task.cameras) + 6


def test_lerobots_way_trains_six_tensors():
    classifier = make_classifier()
    before = state(classifier)
    train_above(classifier, keep_features(classifier, FRAMES, SPLIT, SETTINGS), FRAMES, SPLIT, SETTINGS, head_only=True)
    changed = {name for name, value in classifier.state_dict().items() if not torch.equal(before[name], value)}
    assert len(changed) == 6 and all(name.startswith("classifier_head.") for name in changed)


def test_kept_features_are_those_of_the_pixels():
    classifier = make_classifier()
    features = keep_features(classifier, FRAMES, SPLIT, SETTINGS)
    with torch.no_grad():
        kept = classifier.logits(features.values[0].float()).numpy()
    np.testing.assert_allclose(kept, pixel_logits(classifier, FRAMES.images), atol=5e-3)
    assert not torch.equal(features.values[1, SPLIT.train], features.values[0, SPLIT.train])
    assert not features.values[1, SPLIT.heldout].any()  # held-out frames are never augmented


def test_the_temperature_is_folded_into_the_last_layer():
    classifier = make_classifier()
    logits, probabilities = pixel_logits(classifier, FRAMES.images), classifier.probabilities(FRAMES.images)
    classifier.fold_temperature(2.5)
    np.testing.assert_allclose(classifier.probabilities(FRAMES.images), expit(logits / 2.5), atol=1e-6)
    assert np.abs(probabilities - expit(logits / 2.5)).max() > 1e-3


def test_the_temperature_is_the_one_the_labels_were_drawn_with():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, 50_000)
    labels = rng.random(50_000) < expit(logits)
    assert fit_temperature(4 * logits, labels) == pytest.approx(4, rel=0.05)
    assert cross_entropy(logits, labels) < cross_entropy(4 * logits, labels)


def test_the_threshold_has_the_greatest_recall_at_the_target_precision():
    logits = np.array([5.0, 4.0, 3.0, 2.0, 1.0, 0.0, -1.0])
    labels = np.array([1, 1, 0, 1, 1, 0, 1], bool)
    for target, recall in ((1.0, 2 / 5), (0.8, 4 / 5), (0.7, 5 / 5)):
        threshold, reached = choose_threshold(logits, labels, target, 0.0)
        found = scores(expit(logits), labels, threshold)
        assert reached and found.precision >= target and found.recall == recall
    assert choose_threshold(-logits, labels, 0.99, 0.0)[1] is True
    assert choose_threshold(logits, ~labels, 0.99, 0.0)[1] is False


def test_one_wrong_label_does_not_ask_for_a_certainty_that_hardly_any_success_has():
    """A frame of a cube that was held, labelled no success, left a rehearsal's classifier with 16 % of the successes."""
    logits = np.concatenate([np.linspace(6.0, 3.0, 100), np.linspace(-3.0, -6.0, 100)])
    labels = np.arange(200) < 100
    labels[20] = False
    strict, reached = choose_threshold(logits, labels, 0.995, 0.0)
    assert reached and scores(expit(logits), labels, strict).recall < 0.21
    threshold, reached = choose_threshold(logits, labels, 0.995, 0.9)
    found = scores(expit(logits), labels, threshold)
    assert not reached and found.recall == 1.0 and found.precision == 0.99
    labels[20] = True
    assert choose_threshold(logits, labels, 0.995, 0.9) == choose_threshold(logits, labels, 0.995, 0.0)


def test_a_debounced_decision_is_a_threshold_on_the_least_of_a_row():
    rng = np.random.default_rng(0)
    logits, episodes = rng.normal(0, 1, 200), np.sort(rng.integers(0, 9, 200))
    for count, threshold in ((1, 0.3), (3, -0.4), (4, -0.6)):
        expected = decide(expit(logits), Rule(float(expit(threshold)), count, hysteresis=0.0), episodes)
        assert expected.any()
        np.testing.assert_array_equal(least_in_a_row(logits, episodes, count) > threshold, expected)


def test_a_single_high_frame_does_not_raise_the_threshold():
    logits = np.array([-3, -3, 4, -3, -3, 0, 1, 2, 1, 2, 5, -3, -3], float)
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0], bool)
    frames = LabelledFrames(np.zeros((13, 1, 4, 4, 3), np.uint8), labels, np.zeros(13, int))
    rows = np.arange(13)
    decided = ~frames.undecided(1, 1)
    settings = replace(SETTINGS, target_precision=1.0, least_recall=0.0)
    threshold, reached = _threshold(logits, frames, rows, decided, settings)
    assert reached and threshold < expit(1)
    single, _ = _threshold(logits, frames, rows, decided, replace(settings, debounce=1))
    assert single > expit(4), "for single frames it has to lie above the one that misleads"
    fallen_back, _ = _threshold(logits, frames, rows, decided, replace(settings, debounce=9))
    assert fallen_back == single


def test_colours_stay_in_hue_range_and_places_move_a_little():
    images = torch.zeros(64, 3, 128, 128)
    images[:, 0] = 120.0
    still = replace(SETTINGS, shift=0.0, zoom=0.0)
    out = augmented(images, still, torch.Generator().manual_seed(0))
    assert torch.equal(out, augmented(images, still, torch.Generator().manual_seed(0)))
    assert (out[:, 0] >= out[:, 1:].amax(1)).all()  # +-36 degrees of hue leave red the strongest
    assert out[:, 0].mean((1, 2)).std() > 10
    plain = replace(still, brightness=(1, 1), contrast=(1, 1), saturation=(1, 1), hue=0.0)
    torch.testing.assert_close(augmented(images, plain, torch.Generator()), images, atol=1e-2, rtol=0)


def test_the_same_seed_gives_the_same_classifier_and_another_does_not():
    first, again, other = (train(FRAMES, SPLIT, replace(SETTINGS, seed=seed), TASK)[0] for seed in (1, 1, 2))
    assert state(first.classifier).keys() == state(again.classifier).keys()
    assert all(torch.equal(value, state(again.classifier)[name]) for name, value in state(first.classifier).items())
    assert first.threshold == again.threshold
    assert not np.array_equal(first.logits, other.logits)


def test_training_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    train(FRAMES, SPLIT, replace(SETTINGS, trunk_updates=1, updates=1), TASK)
    assert torch.equal(torch.rand(1), expected)


def test_a_backbone_in_a_folder_is_loaded_and_stays_as_it_is(tmp_path):
    trunk = make_classifier(seed=9).encoder
    trunk.save_pretrained(tmp_path / "backbone")
    ours, _ = train(FRAMES, SPLIT, replace(SETTINGS, backbone=str(tmp_path / "backbone")), TASK)
    for name, value in trunk.state_dict().items():
        assert torch.equal(ours.classifier.encoder.state_dict()[name], value), name
    with pytest.raises(ClassifierError, match="cannot load the image model"):
        train(FRAMES, SPLIT, replace(SETTINGS, backbone=str(tmp_path)), TASK)


def test_a_whole_run_learns_new_episodes_and_writes_all_it_promises(tmp_path):
    settings = replace(SETTINGS, trunk_updates=80, trunk_batch_size=16, updates=120, hue=0.02)
    metrics = train_from_frames(make_frames(12), tmp_path / "a", settings, TASK, lambda *_: None)
    artifact, unseen = read_artifact(tmp_path / "a", TASK), make_frames(8, seed=77)
    found = scores(artifact.classifier.probabilities(unseen.images), unseen.labels, artifact.threshold)
    assert found.accuracy >= 0.95 and found.precision >= 0.95, found
    assert artifact.facts["data_sha256"] == make_frames(12).digest() != make_frames(12, seed=1).digest()
    assert metrics["ours"]["accuracy"] == artifact.facts["metrics"]["accuracy"]
    page = (tmp_path / "a" / "report.html").read_text()
    assert page.count("<figure>") == 24 and "LeRobot's way" in page and page.count("data:image/png;base64") == 27
    history = json.loads((tmp_path / "a" / "metrics.json").read_text())["history"]
    assert {row["stage"] for row in history} == {"image model", "above the image model", "head only"}
