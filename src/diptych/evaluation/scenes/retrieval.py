"""How well a model finds the picture of a sentence, and the sentence of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from diptych.data.scenes.matching import Caption, caption_of, truths
from diptych.data.scenes.render import render
from diptych.data.scenes.world import Scene, World
from diptych.foundation.progress import Progress, Report, silent
from diptych.foundation.randomness import stream
from diptych.pipelines.embedding import EmbeddingNetworks, embed_pictures, embed_texts


@dataclass(frozen=True)
class Gallery:
    """Scenes with a caption each."""

    scenes: Sequence[Scene]
    captions: Sequence[Caption]

    @cached_property
    def true(self) -> NDArray[np.bool_]:
        """Whether the caption of a column is true of the scene of a row [N, N]."""
        return truths(self.captions, self.scenes)


def gallery_of(split: str, *, seed: int, count: int, size: int) -> Gallery:
    """The first `count` scenes of a split as they come, each with a caption of a drawn kind."""
    world = World(split=split, size=size)
    scenes = [world.scene(seed, index) for index in range(count)]
    captions = [caption_of(scene, stream(seed, 3, i), split) for i, scene in enumerate(scenes)]
    return Gallery(scenes, captions)


def similarities(
    networks: EmbeddingNetworks, gallery: Gallery, report: Report = silent
) -> NDArray[np.float32]:
    """Cosines of all pictures (rows) with all captions (columns) [N, N]."""
    size, total = networks.image_size, 2 * len(gallery.scenes)
    pictures = embed_pictures(networks, [render(scene, size) for scene in gallery.scenes])
    report(Progress(len(gallery.scenes), total, "pictures"))
    texts = embed_texts(networks, [caption.text for caption in gallery.captions])
    report(Progress(total, total, "captions"))
    return pictures @ texts.T


def found(similarity: NDArray[np.float32], true: NDArray[np.bool_], first: int) -> list[bool]:
    """For each row, whether one of the `first` most similar columns is true of it.

    A column that is as true as the row's own counts as right: "a red star" asks for any picture
    with one red star. Equal similarities are taken in the order of the columns.
    """
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :first]
    return [bool(hits.any()) for hits in np.take_along_axis(true, nearest, axis=1)]


def retrieval_scores(
    networks: EmbeddingNetworks, split: str, *, seed: int, count: int
) -> dict[str, float]:
    """The share found at first sight, in both directions."""
    gallery = gallery_of(split, seed=seed, count=count, size=networks.image_size)
    similarity, true = similarities(networks, gallery), gallery.true
    return {
        "text_to_picture": float(np.mean(found(similarity.T, true.T, 1))),
        "picture_to_text": float(np.mean(found(similarity, true, 1))),
    }
