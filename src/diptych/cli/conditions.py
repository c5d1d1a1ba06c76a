"""What `generate` is given beside words: pictures to follow or to read like words, adapters, and a
refiner."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from diptych.pipelines.looking import Consistent
    from diptych.pipelines.painter_front import TextToImage


class Given(NamedTuple):
    """NETWORK:PICTURE[:STRENGTH], as it is written on the command line."""

    network: str
    picture: str
    strength: float


def add_arguments(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("beside words, for published models")
    group.add_argument(
        "--control", action="append", default=[], metavar="NET:PICTURE[:STRENGTH]",
        help="follow a picture by a ControlNet or T2I-Adapter; as often as you like",
    )  # fmt: skip
    group.add_argument(
        "--image-prompt", action="append", default=[], metavar="NET:PICTURE[:STRENGTH]",
        help="read a picture like words, by an IP-Adapter",
    )  # fmt: skip
    group.add_argument("--image-encoder", metavar="PATH", help="that the IP-Adapter reads with")
    group.add_argument(
        "--image-guidance", type=float, metavar="W", help="how much an edited picture counts (1.5)"
    )
    group.add_argument(
        "--true-guidance", type=float, metavar="W",
        help="how hard FLUX keeps away from a negative prompt, in twice the time (1: not)",
    )  # fmt: skip
    group.add_argument(
        "--lora", action="append", default=[], metavar="FILE[:STRENGTH]",
        help="change the model by a LoRA or one of its like; as often as you like",
    )  # fmt: skip
    group.add_argument(
        "--word", action="append", default=[], metavar="FILE",
        help="know a word learnt from pictures, called as its file",
    )  # fmt: skip
    group.add_argument(
        "--consistent", metavar="STEP[:LAYER]",
        help="all prompts show what the first shows, as 4:10 for Stable Diffusion 1",
    )  # fmt: skip
    group.add_argument("--refiner", metavar="MODEL", help="a second model for the last steps")
    group.add_argument(
        "--switch", type=float, metavar="SHARE", help="when it takes over (0.8 of the way)"
    )
    group.add_argument("--clip-skip", type=int, metavar="N", help="layers of words less (0)")


def conditions_of(args: Namespace, said: Mapping[str, Any], model: TextToImage) -> dict[str, Any]:
    """What is said of these, loaded, as arguments of a call; `said` has what a picture says too.
    Raises NotFound, Unreadable, InvalidValue."""
    from diptych.foundation.errors import InvalidValue
    from diptych.imaging.pictures import read_picture
    from diptych.pipelines.conditioning import Reading
    from diptych.pipelines.painter_front import TextToImage
    from diptych.pipelines.steering import Control, ImagePrompt

    asked: dict[str, Any] = {name: said.get(name) for name in ("image_guidance", "true_guidance")}
    for flag, kind in (("control", Control), ("image_prompt", ImagePrompt)):
        made = []
        for text in getattr(args, flag):
            one = given(text, f"--{flag.replace('_', '-')}")
            picture = read_picture(one.picture)
            if one.network not in model.attached:
                encoder = args.image_encoder if flag == "image_prompt" else None
                model.add(one.network, one.network, encoder=encoder)
            made.append(kind(network=one.network, picture=picture, strength=one.strength))
        asked[f"{flag}s"] = made
    if args.image_encoder and not args.image_prompt:
        raise InvalidValue("--image-encoder reads an --image-prompt.", do="Give one.")
    for path in args.word:
        model.add(path)
    asked["loras"] = []
    for path, strength in map(with_strength, args.lora):
        if model.follows_by(path):
            model.add(path, strength=strength)
        else:
            asked["loras"].append((path, strength))
    if said.get("clip_skip"):
        asked["reading"] = Reading(clip_skip=said["clip_skip"])
    if args.consistent:
        asked["consistent"] = consistent_of(args.consistent)
    if args.switch is not None and not args.refiner:
        raise InvalidValue("--switch says when a --refiner takes over.", do="Name one.")
    if args.refiner:
        kind = said.get("dtype") or None
        asked["refiner"] = TextToImage.load(
            args.refiner, device=args.device, dtype=kind, offline=args.offline
        )
        asked["switch"] = 0.8 if args.switch is None else args.switch
    return asked


def consistent_of(said: str) -> Consistent:
    """STEP[:LAYER] taken apart. Raises InvalidValue."""
    from diptych.foundation.errors import InvalidValue
    from diptych.pipelines.looking import Consistent

    step, colon, layer = said.partition(":")
    if not step.isdecimal() or (colon and not layer.isdecimal()):
        raise InvalidValue(f"--consistent {said!r} is no step.", do="Write 4, or 4:10.")
    return Consistent(int(step), int(layer) if colon else None)


def given(said: str, flag: str) -> Given:
    """Taken apart at colons: of a path with a colon the longest that exists counts. Raises
    InvalidValue."""
    from diptych.foundation.errors import InvalidValue

    parts, strength = said.split(":"), 1.0
    if len(parts) > 2 and _is_number(parts[-1]):
        strength = float(parts.pop())
    places = range(1, len(parts))
    for place in places:
        network, picture = ":".join(parts[:place]), ":".join(parts[place:])
        if Path(picture).is_file() or place == places[-1]:
            return Given(network, picture, strength)
    raise InvalidValue(
        f"{flag} {said!r} names no picture.", do=f"{flag} canny.safetensors:edges.png:0.8"
    )


def with_strength(said: str) -> tuple[str, float]:
    """FILE[:STRENGTH] taken apart."""
    path, colon, last = said.rpartition(":")
    return (path, float(last)) if colon and _is_number(last) else (said, 1.0)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
