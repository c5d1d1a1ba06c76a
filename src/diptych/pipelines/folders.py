"""Model folders: `pipeline.json` beside a folder for each network and the tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

from diptych.checkpoints.folder import load_network, read_json, write_network
from diptych.foundation.config import from_json, to_json
from diptych.foundation.errors import Unreadable
from diptych.foundation.files import write_whole
from diptych.models.autoencoder_kl import AutoencoderKL
from diptych.models.dual_encoder import DualEncoderNetwork
from diptych.models.painter import Painter
from diptych.models.vision_language import VisionLanguage
from diptych.pipelines.calibration import Calibration
from diptych.pipelines.embedding import EmbeddingNetworks
from diptych.pipelines.image_to_text import ImageToTextNetworks
from diptych.pipelines.painter_networks import TextToImageNetworks
from diptych.pipelines.sampling import Sampling
from diptych.text.word_tokenizer import WordTokenizer


def write_text_to_image(folder: Path, networks: TextToImageNetworks, sampling: Sampling) -> None:
    """Write a folder that `TextToImage.load` reads; `pipeline.json` comes last."""
    write_network(folder / "painter", networks.painter, half=True)
    write_network(folder / "autoencoder", networks.autoencoder, half=True)
    write_whole(folder / "tokenizer.json", networks.tokenizer.to_json())
    _describe(folder, "text-to-image", latent_size=networks.latent_size, sampling=to_json(sampling))


def read_text_to_image(folder: Path) -> tuple[TextToImageNetworks, Sampling]:
    """The networks and the recommended sampling. Raises NotFound or Unreadable."""
    described = _described(folder, "text-to-image")
    networks = TextToImageNetworks(
        load_network(folder / "painter", Painter),
        load_network(folder / "autoencoder", AutoencoderKL),
        WordTokenizer.load(folder / "tokenizer.json"),
        described["latent_size"],
    )
    return networks, from_json(Sampling, described["sampling"], at="sampling")


def write_image_to_text(folder: Path, networks: ImageToTextNetworks) -> None:
    """Write a folder that `ImageToText.load` reads; `pipeline.json` comes last."""
    write_network(folder / "reader", networks.reader, half=True)
    write_whole(folder / "tokenizer.json", networks.tokenizer.to_json())
    calibration = networks.calibration and to_json(networks.calibration)
    _describe(folder, "image-to-text", calibration=calibration)


def read_image_to_text(folder: Path) -> ImageToTextNetworks:
    """The networks of a folder. Raises NotFound or Unreadable."""
    described = _described(folder, "image-to-text")
    calibration = described.get("calibration")
    return ImageToTextNetworks(
        load_network(folder / "reader", VisionLanguage),
        WordTokenizer.load(folder / "tokenizer.json"),
        calibration and from_json(Calibration, calibration, at="calibration"),
    )


def write_dual_encoder(folder: Path, networks: EmbeddingNetworks) -> None:
    """Write a folder that `DualEncoder.load` reads; `pipeline.json` comes last."""
    write_network(folder / "encoder", networks.encoder, half=True)
    write_whole(folder / "tokenizer.json", networks.tokenizer.to_json())
    _describe(folder, "embedding")


def read_dual_encoder(folder: Path) -> EmbeddingNetworks:
    """The networks of a folder. Raises NotFound or Unreadable."""
    _described(folder, "embedding")
    return EmbeddingNetworks(
        load_network(folder / "encoder", DualEncoderNetwork),
        WordTokenizer.load(folder / "tokenizer.json"),
    )


def _describe(folder: Path, kind: str, **said: object) -> None:
    write_whole(folder / "pipeline.json", json.dumps({"pipeline": kind, **said}, indent=2) + "\n")


def _described(folder: Path, kind: str) -> dict:
    described = read_json(folder / "pipeline.json")
    if described.get("pipeline") != kind:
        found = described.get("pipeline")
        raise Unreadable(f"{str(folder)!r} is a model for {found}, not for {kind}.")
    return described
