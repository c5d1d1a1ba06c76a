"""Published CLIP and SigLIP behind `DualEncoder`, and the verbs that use it: unit vectors, labels
that share or answer for themselves, and words for everything that cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from safetensors.numpy import save_file as save

from diptych.cli.main import entry
from diptych.foundation.errors import DiptychError, InvalidValue, NotFound, Unreadable
from diptych.pipelines.classifying import ENSEMBLE
from diptych.pipelines.dual_front import DualEncoder
from tests.tiny_dual import PICTURES, clip_folder, siglip_folder
from tests.tiny_models import tiny_dual_encoder

MAKE = {
    "clip": clip_folder,
    "siglip": siglip_folder,
    "siglip 2": lambda folder: siglip_folder(folder, second=True),
}
LABELS = ["the cat", "red house", "old town"]
every_folder = pytest.mark.parametrize("name", MAKE)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: make(tmp_path_factory.mktemp("dual")) for name, make in MAKE.items()}


@pytest.fixture(scope="module")
def encoders(folders: dict[str, Path]) -> dict[str, DualEncoder]:
    return {name: DualEncoder.load(str(folder)) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    draw = np.random.default_rng(0)
    sizes = ((31, 47), (64, 20), (20, 20))
    return [
        Image.fromarray(draw.integers(0, 255, (height, width, 3), dtype=np.uint8))
        for width, height in sizes
    ]


@every_folder
def test_unit_vectors_that_do_not_know_their_neighbours(name: str, encoders, pictures):
    encoder = encoders[name]
    seen, said = encoder.embed_pictures(pictures * 7), encoder.embed_texts(LABELS * 7)
    assert seen.shape == said.shape == (21, encoder.width)
    for vectors, alone in (
        (seen, [encoder.embed_pictures([one])[0] for one in pictures]),
        (said, [encoder.embed_texts([one])[0] for one in LABELS]),
    ):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
        np.testing.assert_allclose(vectors, np.tile(alone, (7, 1)), atol=1e-5)
        assert not np.allclose(vectors[0], vectors[1], atol=1e-3)
    assert encoder.embed_pictures([]).shape == encoder.embed_texts([]).shape == (0, encoder.width)
    (report,) = encoder.reports
    assert report.applied == report.total and report.family == name.split()[0]


@every_folder
def test_labels_share_one_or_answer_for_themselves(name: str, encoders, pictures):
    encoder = encoders[name]
    whole = encoder.classify(pictures, LABELS)
    less = encoder.classify(pictures, LABELS[:2])
    for many, few in zip(whole, less, strict=True):
        scores = {one.label: one.score for one in many}
        assert sorted(scores) == sorted(LABELS)
        assert list(scores.values()) == sorted(scores.values(), reverse=True)
        kept = {one.label: one.score for one in few}
        if name == "clip":
            assert sum(scores.values()) == pytest.approx(1, abs=1e-6)
            assert kept["the cat"] > scores["the cat"]
        else:
            assert kept["the cat"] == pytest.approx(scores["the cat"], abs=1e-6)


def test_sentences_of_a_label_are_averaged_as_unit_vectors(encoders, pictures):
    encoder = encoders["clip"]
    found = encoder.classify(pictures, LABELS, templates=ENSEMBLE)
    seen = encoder.embed_pictures(pictures)
    words = []
    for label in LABELS:
        mean = encoder.embed_texts([one.replace("{}", label) for one in ENSEMBLE]).mean(0)
        words.append(mean / np.linalg.norm(mean))
    logits = float(encoder.networks.encoder.scale) * seen @ np.stack(words).T
    wanted = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for row, one in zip(wanted, found, strict=True):
        assert {s.label: s.score for s in one} == pytest.approx(
            dict(zip(LABELS, row.tolist(), strict=True)), abs=1e-5
        )
    own = encoder.classify(pictures, LABELS)
    assert own == encoder.classify(pictures, LABELS, templates=["a photo of a {}."])
    assert own != found


def test_pictures_are_ranked_by_their_cosine(encoders, pictures):
    encoder = encoders["siglip"]
    found = encoder.rank(pictures, "red house")
    cosines = encoder.similarity(pictures, ["red house"])[:, 0]
    assert [one.index for one in found] == np.argsort(-cosines).tolist()
    assert [one.similarity for one in found] == pytest.approx(sorted(cosines, reverse=True))


@pytest.mark.parametrize(
    ("labels", "templates", "said"),
    [
        ([], None, "no labels"),
        (["a", "b", "a"], None, "'a' is there twice"),
        (["a", " "], None, "empty"),
        (["a"], ["a photo"], "0 places"),
        (["a"], ["{} and {}"], "2 places"),
        (["a"], [], "no templates"),
        (["cat " * 60], None, "tokens"),
    ],
)
def test_labels_that_cannot_be_are_refused(encoders, pictures, labels, templates, said: str):
    with pytest.raises(InvalidValue, match=said):
        encoders["clip"].classify(pictures, labels, templates=templates)
    with pytest.raises(InvalidValue, match="empty"):
        encoders["siglip"].embed_texts(["a cat", " "])


def test_the_first_siglip_reads_no_punctuation_the_second_does(encoders):
    for name, same in (("siglip", True), ("siglip 2", False)):
        a, b = encoders[name].embed_texts(["the cat, on the mat!", "The  cat on the mat"])
        assert np.allclose(a, b, atol=1e-6) == same
        a, b = encoders[name].embed_texts(["the cat on the mat", "THE CAT on the mat"])
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_half_precision_gives_nearly_the_same_and_unit_vectors(folders, encoders, pictures):
    for name in ("clip", "siglip"):
        coarse = DualEncoder.load(str(folders[name]), dtype="bfloat16")
        seen = coarse.embed_pictures(pictures)
        np.testing.assert_allclose(np.linalg.norm(seen, axis=1), 1, rtol=1e-5)
        assert (seen * encoders[name].embed_pictures(pictures)).sum(1).min() > 0.99


def copied(folder: Path, into: Path, *, without: str = "") -> Path:
    for path in folder.iterdir():
        if path.name != without:
            (into / path.name).write_bytes(path.read_bytes())
    return into


@pytest.mark.parametrize(
    ("name", "file", "change", "kind", "said"),
    [
        ("clip", "preprocessor_config.json", {"size": {"shortest_edge": 24},
         "crop_size": {"height": 24, "width": 24}}, Unreadable, "24 x 24"),
        ("clip", "preprocessor_config.json", {"do_normalize": False}, Unreadable, "do_normalize"),
        ("clip", "preprocessor_config.json", {"resample": 5}, Unreadable, "resample"),
        ("clip", "preprocessor_config.json", {"rescale_factor": 1 / 127.5}, Unreadable, "rescale"),
        ("clip", "preprocessor_config.json", {"do_tile": True}, Unreadable, "do_tile"),
        ("clip", "preprocessor_config.json", {"do_center_crop": False}, Unreadable, "does not cut"),
        ("clip", "config.json", {"model_type": "clipseg"}, Unreadable, "clipseg"),
        ("siglip", "tokenizer.json", {"model": {"type": "WordPiece"}}, Unreadable, "WordPiece"),
    ],
)  # fmt: skip
def test_what_a_folder_says_is_heard_or_refused(
    folders, tmp_path: Path, name: str, file: str, change, kind, said: str
):
    folder = copied(folders[name], tmp_path)
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**content, **change}))
    with pytest.raises(kind, match=said):
        DualEncoder.load(str(folder))


def test_words_must_be_those_of_the_weights(folders, tmp_path: Path):
    for number, (name, without, kind, said) in enumerate(
        [
            ("siglip", "tokenizer.json", NotFound, "tokenizer.json"),
            # CLIP's own 49,408 words do not fit the tiny network.
            ("clip", "vocab.json", Unreadable, "49408 words"),
        ]
    ):
        (tmp_path / str(number)).mkdir()
        folder = copied(folders[name], tmp_path / str(number), without=without)
        with pytest.raises(kind, match=said):
            DualEncoder.load(str(folder))


def test_pictures_are_prepared_as_newer_folders_and_openclip_say(folders, pictures, tmp_path: Path):
    wanted = DualEncoder.load(str(folders["siglip"])).embed_pictures(pictures)
    name = "preprocessor_config.json"
    folder = copied(folders["siglip"], tmp_path, without=name)
    plain = DualEncoder.load(str(folder)).embed_pictures(pictures)
    assert not np.allclose(plain, wanted, atol=1e-4)  # the folder's filter is bilinear
    (folder / "processor_config.json").write_text(
        json.dumps({"image_processor": PICTURES["siglip"], "processor_class": "SiglipProcessor"})
    )
    made = DualEncoder.load(str(folder)).embed_pictures(pictures)
    np.testing.assert_array_equal(made, wanted)
    (folder / "processor_config.json").unlink()
    said = {"mean": [0.4, 0.5, 0.6], "std": [0.5] * 3, "resize_mode": "shortest"}
    (folder / "open_clip_config.json").write_text(json.dumps({"preprocess_cfg": said}))
    how = DualEncoder.load(str(folder)).networks.pictures
    assert (how.mean, how.short, how.size) == ((0.4, 0.5, 0.6), 20, 20)


@every_folder
def test_a_weight_file_is_told_by_what_lies_beside_it(name: str, folders, encoders, pictures):
    """Its names and shapes alone would make it one head of all channels."""
    made = DualEncoder.load(str(folders[name] / "model.safetensors"))
    assert made.networks.encoder.config == encoders[name].networks.encoder.config
    np.testing.assert_array_equal(
        made.embed_pictures(pictures), encoders[name].embed_pictures(pictures)
    )
    np.testing.assert_array_equal(made.embed_texts(LABELS), encoders[name].embed_texts(LABELS))


def test_files_of_something_else_are_refused(folders, tmp_path: Path):
    tensors = load_file(folders["clip"] / "model.safetensors")
    save({**tensors, "stray": np.zeros(1, np.float32)}, tmp_path / "more.safetensors")
    with pytest.raises(Unreadable, match="'stray' has no place"):
        DualEncoder.load(str(tmp_path / "more.safetensors"))
    one = {k.removeprefix("vision_model."): v for k, v in tensors.items() if k.startswith("vision")}
    save(one, tmp_path / "tower.safetensors")
    with pytest.raises(Unreadable, match="image_encoder"):
        DualEncoder.load(str(tmp_path / "tower.safetensors"))
    with pytest.raises(InvalidValue, match="variant"):
        DualEncoder.load("scenes-clip", variant="fp16")


def test_classify_prints_labels_with_scores(
    folders, encoders, pictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "a.png"
    pictures[0].save(path)
    words = ["classify", str(path), *LABELS, "--model", str(folders["clip"])]
    assert entry(words) == 0
    lines = capsys.readouterr().out.splitlines()
    (wanted,) = encoders["clip"].classify([path], LABELS)
    assert lines == [f"{one.score:.4f}  {one.label}" for one in wanted]
    assert entry([*words, "--ensemble", "--top", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    (best, *_), = encoders["clip"].classify([path], LABELS, templates=ENSEMBLE)  # fmt: skip
    assert told == {"file": str(path), "labels": [{"label": best.label, "score": best.score}]}
    for wrong, code in (
        (["--top", "0"], 2), (["--ensemble", "--template", "{}"], 2), (["--template", "a"], 2),
        (["--model", "scenes-clipp"], 3),
    ):  # fmt: skip
        assert entry([*words, *wrong]) == code
        told = capsys.readouterr()
        assert told.err.startswith("diptych: ") and not told.out


def test_embed_writes_both_kinds_of_files(
    folders, encoders, pictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    files = [str(tmp_path / f"{i}.png") for i in range(3)]
    for path, picture in zip(files, pictures, strict=True):
        picture.save(path)
    model = ["--model", str(folders["siglip"])]
    assert entry(["embed", *files, *model, "-o", str(tmp_path / "a.npy")]) == 0
    assert "3 pictures, 24 numbers each" in capsys.readouterr().out
    wanted = encoders["siglip"].embed_pictures(pictures)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), wanted)
    both = tmp_path / "both.safetensors"
    assert entry(["embed", *files, "--text", "a cat", *model, "-o", str(both)]) == 0
    found = load_file(both)
    np.testing.assert_array_equal(found["pictures"], wanted)
    np.testing.assert_array_equal(found["texts"], encoders["siglip"].embed_texts(["a cat"]))
    for wrong in (
        [*files, "-o", "a.txt"], ["-o", "a.npy"], [*files, "--text", "a", "-o", "a.npy"]
    ):  # fmt: skip
        assert entry(["embed", *wrong, *model]) == 2
    assert entry(["embed", "missing.png", *model, "-o", str(tmp_path / "b.npy")]) == 3
    assert not (tmp_path / "b.npy").exists()


def test_our_own_model_classifies_too(pictures, tmp_path: Path):
    encoder = DualEncoder.load(str(tiny_dual_encoder(tmp_path)))
    labels = ["a red circle", "a blue moon"]
    for found in encoder.classify(pictures, labels):
        assert sum(one.score for one in found) == pytest.approx(1, abs=1e-6)
    with pytest.raises(DiptychError, match="itap"):
        encoder.classify(pictures, labels, templates=ENSEMBLE)
