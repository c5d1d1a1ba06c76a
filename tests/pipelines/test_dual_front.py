"""Pictures and texts in one space: unit vectors, alike for what is alike, unknown words refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diptych.cli.main import entry
from diptych.data.scenes.render import render
from diptych.data.scenes.world import World
from diptych.foundation.errors import InvalidValue, Unreadable
from diptych.pipelines.dual_front import DualEncoder
from diptych.pipelines.reader_front import ImageToText
from tests.tiny_models import tiny_dual_encoder

TEXTS = [
    "a red circle",
    "two large green stars on a mint background",
    "a blue moon",
    "A Red Circle",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dual_encoder(tmp_path_factory.mktemp("dual"))


@pytest.fixture(scope="module")
def encoder(folder: Path) -> DualEncoder:
    return DualEncoder.load(str(folder))


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    return [Image.fromarray(render(World().scene(1, index), 32)) for index in range(5)]


def test_vectors_have_unit_length_and_similarity_is_their_cosine(encoder, pictures):
    seen, said = encoder.embed_pictures(pictures), encoder.embed_texts(TEXTS)
    assert seen.shape == (5, encoder.width) and said.shape == (4, encoder.width)
    for vectors in (seen, said):
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(encoder.similarity(pictures, TEXTS), seen @ said.T, atol=1e-6)
    assert not np.allclose(said[0], said[1], atol=1e-3)
    np.testing.assert_array_equal(said[0], said[3])  # case does not matter


def test_a_vector_does_not_know_its_neighbours(encoder, pictures):
    seen, said = encoder.embed_pictures(pictures), encoder.embed_texts(TEXTS)
    for row, picture in enumerate(pictures):
        np.testing.assert_allclose(encoder.embed_pictures([picture])[0], seen[row], atol=1e-5)
    for row, text in enumerate(TEXTS):
        np.testing.assert_allclose(encoder.embed_texts([text])[0], said[row], atol=1e-5)
    many = encoder.embed_texts(TEXTS * 40)  # more than go through at once
    np.testing.assert_allclose(many, np.tile(said, (40, 1)), atol=1e-5)


def test_files_and_nothing_at_all(encoder, pictures, tmp_path: Path):
    path = tmp_path / "a.png"
    pictures[0].save(path)
    from_file = encoder.embed_pictures([path, str(path)])
    np.testing.assert_allclose(from_file[0], encoder.embed_pictures(pictures[:1])[0], atol=1e-5)
    assert encoder.embed_pictures([]).shape == encoder.embed_texts([]).shape == (0, encoder.width)


@pytest.mark.parametrize(
    ("text", "said"),
    [(" ", "empty"), ("a red circlle", "'circlle'"), ("a red circle and " * 40, "tokens")],
)
def test_what_cannot_be_read_is_refused_by_name(encoder, text: str, said: str):
    with pytest.raises(InvalidValue, match=said):
        encoder.embed_texts(["a red circle", text])


def test_a_folder_of_another_kind_is_refused(folder: Path):
    with pytest.raises(Unreadable, match="embedding"):
        ImageToText.load(str(folder))


def test_eval_prints_the_scores(folder: Path, capsys: pytest.CaptureFixture[str]):
    words = ["eval", "retrieval", "--model", str(folder), "--split", "tune", "--gallery", "12"]
    assert entry(words) == 0
    assert "text_to_picture_r1" in capsys.readouterr().out
    assert entry([*words, "--gallery", "0"]) == 2
