"""All scores of the shipped models in one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from diptych.data.scenes.matching import KINDS as CAPTION_KINDS
from diptych.data.scenes.questions import KINDS
from diptych.evaluation.scenes.painting import Painted, painted_of
from diptych.evaluation.scenes.prompts import KINDS as PROMPT_KINDS
from diptych.evaluation.scenes.prompts import prompts
from diptych.evaluation.scenes.reading import Asked, asked_of
from diptych.evaluation.scenes.retrieval import found, gallery_of, similarities
from diptych.foundation.progress import Report, silent
from diptych.metrics.share import Share
from diptych.pipelines.embedding import EmbeddingNetworks
from diptych.pipelines.image_to_text import ImageToTextNetworks
from diptych.pipelines.painter_networks import TextToImageNetworks
from diptych.pipelines.sampling import Sampling

Score = dict[str, float]
_SEEDS = {"heldout": 1001, "tune": 1002, "train": 1003}


def reading_suite(
    networks: ImageToTextNetworks, split: str, *, captions: int, each: int, report: Report = silent
) -> dict[str, object]:
    """`caption_exact`, `answer_accuracy`, `answer_accuracy_by_kind`, `read_exact`."""
    asked = asked_of(
        networks, split, seed=_SEEDS[split], captions=captions, each=each, report=report
    )
    questions = [one for one in asked if one.kind in KINDS]
    return {
        "caption_exact": _score(asked, "caption"),
        "answer_accuracy": _share([one.right for one in questions]),
        "answer_accuracy_by_kind": {kind: _score(asked, kind) for kind in KINDS},
        "read_exact": _score(asked, "word"),
    }


def painting_suite(
    networks: TextToImageNetworks,
    sampling: Sampling,
    split: str,
    *,
    each: int,
    report: Report = silent,
) -> tuple[dict[str, object], list[Painted]]:
    """`prompt_correct`, `prompt_correct_by_kind`, and the pictures."""
    painted = painted_of(networks, prompts(split, _SEEDS[split], each), sampling, report)
    by_kind = {
        kind: _share([one.verdict.right for one in painted if one.prompt.kind == kind])
        for kind in PROMPT_KINDS
    }
    whole = _share([one.verdict.right for one in painted])
    return {"prompt_correct": whole, "prompt_correct_by_kind": by_kind}, painted


def retrieval_suite(
    networks: EmbeddingNetworks, split: str, *, count: int, report: Report = silent
) -> dict[str, object]:
    """R@1 and R@5 among `count` scenes and their captions, in both directions; R@1 of texts by
    the kind of caption; `right_answers`, how many pictures a caption is true of on average."""
    gallery = gallery_of(split, seed=_SEEDS[split], count=count, size=networks.image_size)
    similarity, true = similarities(networks, gallery, report), gallery.true
    first = found(similarity.T, true.T, 1)
    by_kind = {
        kind: [hit for hit, one in zip(first, gallery.captions, strict=True) if one.kind == kind]
        for kind in CAPTION_KINDS
    }
    return {
        "text_to_picture_r1": _share(first),
        "text_to_picture_r5": _share(found(similarity.T, true.T, 5)),
        "picture_to_text_r1": _share(found(similarity, true, 1)),
        "picture_to_text_r5": _share(found(similarity, true, 5)),
        "text_to_picture_r1_by_caption": {k: _share(hits) for k, hits in by_kind.items() if hits},
        "right_answers": round(float(true.sum(axis=0).mean()), 2),
    }


def _score(asked: Sequence[Asked], kind: str) -> Score:
    return _share([one.right for one in asked if one.kind == kind])


def _share(verdicts: Sequence[bool]) -> Score:
    return asdict(Share().update(verdicts).value())
