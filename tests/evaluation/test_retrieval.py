"""Retrieval counts what a reader of its definition would count."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from diptych.evaluation.scenes.retrieval import found, gallery_of
from diptych.evaluation.scenes.suite import retrieval_suite
from diptych.pipelines.folders import read_dual_encoder
from tests.tiny_models import tiny_dual_encoder


def test_found_is_what_sorting_by_hand_finds():
    draw = np.random.default_rng(0)
    similarity = (draw.normal(size=(20, 20)) + np.eye(20)).astype(np.float32)
    true = np.eye(20, dtype=bool) | (draw.random((20, 20)) < 0.1)
    for first in (1, 5):
        wanted = []
        for row in range(20):
            nearest = sorted(range(20), key=lambda j, row=row: -similarity[row, j])[:first]
            wanted.append(any(true[row, j] for j in nearest))
        assert found(similarity, true, first) == wanted
    assert sum(found(similarity, true, 1)) < sum(found(similarity, true, 5)) < 20


def test_who_knows_the_truth_finds_all_and_who_does_not_finds_as_chance_does():
    gallery = gallery_of("heldout", seed=1, count=80, size=64)
    assert all(found(gallery.true.astype(np.float32), gallery.true, 1))
    blind = np.random.default_rng(1).normal(size=(80, 80)).astype(np.float32)
    assert sum(found(blind, gallery.true, 1)) <= 10
    assert not any(found(-gallery.true.astype(np.float32), gallery.true, 5))


def test_the_suite_gives_shares_in_both_directions(tmp_path: Path):
    networks = read_dual_encoder(tiny_dual_encoder(tmp_path))
    scores = retrieval_suite(networks, "tune", count=24)
    for way in ("text_to_picture", "picture_to_text"):
        one, five = scores[f"{way}_r1"], scores[f"{way}_r5"]
        assert one["n"] == five["n"] == 24 and one["value"] <= five["value"]
    assert sum(s["n"] for s in scores["text_to_picture_r1_by_caption"].values()) == 24
    assert scores["right_answers"] >= 1
    assert scores == retrieval_suite(networks, "tune", count=24)
    assert gallery_of("tune", seed=1002, count=9, size=64).scenes != gallery_of(
        "heldout", seed=1001, count=9, size=64
    ).scenes  # fmt: skip
