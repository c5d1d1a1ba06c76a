"""A small vocabulary for CLIP's tokenizer, learnt on the spot, and folders that hold it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from diptych.text.clip_bpe import ClipTokenizer, Merges, vocabulary_of

LEARNT_FROM = """a photo of the red house and the green hill, the sun is shining over the old town!!
they don't know what it's like; we'll see, i'm sure you've said so: they're here... (maybe)
the cat sat on the mat with another cat, watching 1234 birds in the weather 56 789 ¿qué?
über größe naïve café 東京 東京都 привет привет 😀😀 — “quoted” \\ [brackets] {braces} <tag>"""


@cache
def merges() -> Merges:
    """About 120 merges of the words above."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer: Any = trainers.BpeTrainer(
        vocab_size=500, end_of_word_suffix="</w>", min_frequency=2, show_progress=False
    )
    # Words alone: a space would be learnt as a letter.
    learner.train_from_iterator(LEARNT_FROM.split(), trainer)
    return [(first, second) for first, second in json.loads(learner.to_str())["model"]["merges"]]


def tiny_tokenizer(**marks: str) -> ClipTokenizer:
    """`marks`: which words are `start`, `end` and `pad`, if not CLIP's."""
    return ClipTokenizer(vocabulary_of(merges()), merges(), **marks)


def tiny_folder(folder: Path, **config: object) -> Path:
    """`vocab.json`, `merges.txt` and a config, as the published folders have them."""
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary_of(merges())))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges()), ""]
    (folder / "merges.txt").write_text("\n".join(lines))
    said = {"model_max_length": 77, "tokenizer_class": "CLIPTokenizer", **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    return folder
