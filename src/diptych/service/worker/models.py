"""The operator's models, loaded, and what the web half is told of them."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import PIL
import torch

from diptych.apps.demo import PROMPTS
from diptych.diffusion.solvers import SOLVERS
from diptych.diffusion.spacings import MOST_STEPS
from diptych.engine.engine import Engine
from diptych.foundation.errors import InvalidValue
from diptych.foundation.version import __version__
from diptych.pipelines.dual_front import DualEncoder
from diptych.pipelines.flow_transformer import FlowTransformerNetworks
from diptych.pipelines.painter_front import TextToImage
from diptych.pipelines.painter_networks import TextToImageNetworks
from diptych.pipelines.reader_front import ImageToText
from diptych.pipelines.reference import folder_of
from diptych.pipelines.t5_conditioning import T5Reader
from diptych.pipelines.vlm_networks import VLMNetworks
from diptych.text.t5_tokenizer import T5Tokenizer
from diptych.text.word_tokenizer import SPECIALS, WordTokenizer

Front = TextToImage | ImageToText | DualEncoder
MOST_SIDE = 2048


@dataclass(frozen=True)
class Loaded:
    """A model of the registry: `does` is paint, read or embed."""

    name: str
    does: str
    front: Front
    info: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """Of all that its bytes depend on beside the request."""
        return self.info["fingerprint"]


def load(name: str, does: str, reference: str, engine: Engine, marks: str = "marks") -> Loaded:
    """A model in the engine; `marks`: how its pictures leave. Raises as `load` of its front
    does, and InvalidValue for another use."""
    if does not in LOADERS:
        raise InvalidValue(f"A model does not {does!r}.", do=f"Say one of {', '.join(LOADERS)}.")
    front, more = LOADERS[does](name, reference, engine)
    info = {"name": name, "does": does, **more}
    info["model_hash"] = _hash_of(reference)
    info["fingerprint"] = fingerprint(info["model_hash"], engine, marks)
    return Loaded(name, does, front, info)


def _painter(name: str, reference: str, engine: Engine) -> tuple[Front, dict[str, Any]]:
    front = TextToImage.load(reference, offline=True)
    engine.add_painter(name, front.networks)
    sampling, (width, height) = front.sampling, front.size
    info = {
        "size": [width, height], **_sides(front), "most_steps": min(MOST_STEPS, 200),
        "steps": sampling.steps, "guidance": sampling.guidance, "solver": sampling.solver,
        "solvers": sorted(SOLVERS), "chats": False, "begins": front.networks.shown,
        **_words(front.networks), **_window(front.networks),
    }  # fmt: skip
    return front, info


def _reader(name: str, reference: str, engine: Engine) -> tuple[Front, dict[str, Any]]:
    front = ImageToText.load(reference, offline=True)
    engine.add_reader(name, front.networks)
    return front, {"chats": isinstance(front.networks, VLMNetworks), **_words(front.networks)}


def _embedder(name: str, reference: str, engine: Engine) -> tuple[Front, dict[str, Any]]:
    front = DualEncoder.load(reference, offline=True)
    return front, {"chats": False, "width": front.networks.width, **_words(front.networks)}


LOADERS: dict[str, Callable[[str, str, Engine], tuple[Front, dict[str, Any]]]] = {
    "paint": _painter,
    "read": _reader,
    "embed": _embedder,
}


def _sides(front: TextToImage) -> dict[str, int]:
    """The sides that the model paints: multiples of what, from where to where."""
    offered = [side for side in range(8, MOST_SIDE + 1, 8) if _offers(front, side)]
    own = front.size[0]
    if len(offered) < 2:
        return {"multiple": own, "least": own, "most_side": own}
    apart = min(b - a for a, b in pairwise(offered))
    return {"multiple": apart, "least": offered[0], "most_side": offered[-1]}


def _offers(front: TextToImage, side: int) -> bool:
    try:
        front.networks.latent_shape(side, side)
    except InvalidValue:
        return False
    return True


def _words(networks: object) -> dict[str, list[str]]:
    """The words of a model that knows few, and what can be said with them."""
    tokenizer = getattr(networks, "tokenizer", None)
    if not isinstance(tokenizer, WordTokenizer):
        return {"words": [], "examples": []}
    known = [word for word in tokenizer.vocabulary if word not in SPECIALS]
    return {"words": sorted(known), "examples": list(PROMPTS)}


def _window(networks: object) -> dict[str, Any]:
    """How many tokens of a prompt a painter reads, and how they are counted; nothing for one that
    reads any number, or says itself what it has no room for."""
    tokenizer = tokenizer_of(networks)
    if isinstance(networks, TextToImageNetworks):
        return {"window": networks.painter.config.text.length - 2, "counts": "words"}
    if isinstance(networks, FlowTransformerNetworks) and tokenizer is not None:
        lengths = (one.lengths for one in networks.encoders.values() if isinstance(one, T5Reader))
        return {"window": max(chain(*lengths)) - 1, "counts": "pieces"}
    return {}


def tokenizer_of(networks: object) -> WordTokenizer | T5Tokenizer | None:
    """That of a painter whose prompts have a window."""
    if isinstance(networks, TextToImageNetworks):
        return networks.tokenizer
    if isinstance(networks, FlowTransformerNetworks):
        found = [one for one in networks.encoders.values() if isinstance(one, T5Reader)]
        return found[0].tokenizer if found else None
    return None


def _hash_of(reference: str) -> str:
    digest, place = hashlib.sha256(), folder_of(reference, offline=True)
    for path in [place] if place.is_file() else sorted(place.rglob("*.safetensors")):
        with Path(path).open("rb") as file:
            while content := file.read(1 << 24):
                digest.update(content)
    return digest.hexdigest()


def fingerprint(model_hash: str, engine: Engine, marks: str) -> str:
    """Bytes are the same where this is the same (`docs/service.md`): code, weights, torch, kind of
    processor, threads, how requests are put together, and marks and gate."""
    parts = [
        __version__, model_hash, torch.__version__, platform.machine(),
        torch.backends.cpu.get_cpu_capability(), str(torch.get_num_threads()),
        "exact" if engine.exact else f"fast {engine.most}", PIL.__version__, marks,
    ]  # fmt: skip
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
