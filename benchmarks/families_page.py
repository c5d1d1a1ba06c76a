"""Writes docs/families.md: every published family that is read, its sizes, its layouts, and what
holds it to the reference.

python -m benchmarks.families_page
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from torch import nn

from diptych.checkpoints.layouts import LAYOUTS, UNBUILT, kind_of
from diptych.checkpoints.write import WHOLE
from diptych.models import (
    autoencoder_sd,
    autoencoder_tiny,
    clip,
    clip_text,
    clip_vision,
    controlnet,
    controlnet_union,
    dit,
    flux,
    gemma_encoder,
    ip_adapter,
    lumina2,
    lumina_next,
    pixart,
    sd3,
    siglip,
    t2i_adapter,
    t5_encoder,
    unet,
    unet_adm,
    vision_tower,
    vlm,
)
from diptych.models.qwen_vl import network
from diptych.nn.unfilled import without_memory

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "families.md"
OPENING = """# Families

What is read of published models, network by network: how large it is, in which layouts its files \
may be, and which command holds it to the reference library (in float64, every \
weight drawn, to a billionth of the output; sizes are counted without memory and equal those \
published). [Published models](checkpoints.md) says how they are used, \
[Model families](presets.md) how they are sampled and what their presets are, \
[Shipped models](models.md) what comes with the package.

This page is written by a command, and a test holds it to the code:

```bash shown
python -m benchmarks.families_page
```

"""


@dataclass(frozen=True)
class Entry:
    """A network's class, the module that has its published sizes, the tests that prove it, and of
    those that paint the names of their presets."""

    build: type[nn.Module]
    module: ModuleType
    proof: str
    presets: tuple[str, ...] = ()


NETWORKS: dict[str, Entry] = {
    "Stable Diffusion 1, 2, XL": Entry(
        unet.UNet, unet, "test_unet",
        (
            "sd1", "sd2-base", "sd2-v", "sdxl", "sdxl-refiner", "sd-turbo", "sdxl-turbo",
            "sdxl-lightning", "sdxl-lightning-1", "lcm",
        ),
    ),
    "Stable Diffusion 3": Entry(
        sd3.SD3, sd3, "test_sd3", ("sd3", "sd3.5-medium", "sd3.5-large", "sd3.5-large-turbo")
    ),
    "FLUX.1": Entry(
        flux.Flux, flux, "test_flux", ("flux-dev", "flux-schnell", "flux-fill", "flux-control")
    ),
    "PixArt": Entry(pixart.PixArt, pixart, "test_pixart", ("pixart-alpha", "pixart-sigma")),
    "DiT": Entry(dit.DiT, dit, "test_dit", ("dit",)),
    "Lumina-Next": Entry(
        lumina_next.LuminaNext, lumina_next, "test_lumina_next", ("lumina-next",)
    ),
    "Lumina-Image 2": Entry(lumina2.Lumina2, lumina2, "test_lumina2", ("lumina2",)),
    "DDPM, ADM": Entry(unet_adm.UNetADM, unet_adm, "test_unet_adm", ("ddpm", "adm")),
    "autoencoders": Entry(autoencoder_sd.AutoencoderSD, autoencoder_sd, "test_autoencoder_sd"),
    "tiny autoencoders": Entry(
        autoencoder_tiny.AutoencoderTiny, autoencoder_tiny, "test_autoencoder_tiny"
    ),
    "CLIP, words": Entry(clip_text.CLIPText, clip_text, "test_clip_text"),
    "CLIP, pictures": Entry(clip_vision.CLIPVision, clip_vision, "test_image_conditions"),
    "CLIP, OpenCLIP, MetaCLIP": Entry(clip.CLIP, clip, "test_dual_encoders"),
    "SigLIP, SigLIP 2 of fixed size": Entry(siglip.SigLIP, siglip, "test_dual_encoders"),
    "vision towers: ViT, DINOv2, InternViT, SigLIP": Entry(
        vision_tower.VisionTower, vision_tower, "test_vision_tower"
    ),
    "T5": Entry(t5_encoder.T5Encoder, t5_encoder, "test_t5"),
    "Gemma": Entry(gemma_encoder.GemmaEncoder, gemma_encoder, "test_gemma_encoder"),
    "ControlNet": Entry(controlnet.ControlNet, controlnet, "test_controlnet"),
    "ControlNet Union": Entry(
        controlnet_union.ControlNetUnion, controlnet_union, "test_image_conditions"
    ),
    "T2I-Adapter": Entry(t2i_adapter.T2IAdapter, t2i_adapter, "test_image_conditions"),
    "IP-Adapter": Entry(ip_adapter.IPAdapter, ip_adapter, "test_image_conditions"),
    "LLaVA, SmolVLM, InternVL, PaliGemma": Entry(vlm.VLM, vlm, "test_vlm"),
    "Qwen2-VL, Qwen2.5-VL": Entry(network.QwenVL, network, "test_reading_pipelines"),
}  # fmt: skip
# What is painted whole, from files, beside the reference's pipelines.
PICTURES: dict[str, str] = {
    "Stable Diffusion 1": "test_stable_diffusion",
    "Stable Diffusion 2, XL": "test_stable_diffusion_2_and_xl",
    "image to image, inpainting, instructions, base and refiner": "test_editing_pipelines",
    "ControlNet, its Union, T2I-Adapter, IP-Adapter, FaceID": "test_control_pipelines",
    "Stable Diffusion 3 and 3.5; FLUX dev and schnell, LoRAs for depth and edges": (
        "test_flow_pipelines"
    ),
    "FLUX Fill, Depth, Canny; Stable Diffusion 3 without T5": "test_flow_published",
    "PixArt, Lumina-Next, Lumina-Image 2, DiT": "test_transformer_pipelines",
    "DDPM; ADM by class": "test_pixel_pipelines",
    "LoRA and relatives, learnt words": "test_adapters",
}
# What is answered whole, token by token.
ANSWERS: dict[str, str] = {
    "LLaVA 1.5, NeXT, OneVision; Idefics 3, SmolVLM; InternVL; PaliGemma; Qwen2-VL, Qwen2.5-VL": (
        "test_reading_pipelines"
    ),
    "CLIP, SigLIP and SigLIP 2: vectors, labels": "test_published_dual",
}


def page() -> str:
    """The whole document."""
    heads = (
        "network", "published sizes, millions of parameters", "layouts of files", "presets",
        "proof",
    )  # fmt: skip
    rows = [heads, tuple("---" for _ in heads), *(_row(*item) for item in NETWORKS.items())]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    written = "".join(
        f"| {family} | {', '.join(f'`{name}`' for name in places)} |\n"
        for family, places in WHOLE.items()
    )
    painted = "".join(f"| {what} | {_proof(name)} |\n" for what, name in PICTURES.items())
    answered = "".join(f"| {what} | {_proof(name)} |\n" for what, name in ANSWERS.items())
    refused = ", ".join(sorted(set(UNBUILT.values())))
    return (
        f"{OPENING}{table}\n## Written as one file\n\n| family | components |\n|---|---|\n{written}"
        "\n## Whole pictures\n\nThe same folder or file, words and seed give the picture that "
        "diffusers gives, to half a byte and a ten-thousandth.\n\n| what | proof |\n|---|---|\n"
        f"{painted}\n## Whole answers\n\nThe same folder, picture and question give the tokens "
        f"that transformers gives.\n\n| what | proof |\n|---|---|\n{answered}\n## Not there yet"
        f"\n\nRefused by name: {refused}; GGUF, 8-bit floats. "
        "IP-Adapters that read a face and its picture (FaceID Plus) are not read.\n"
    )


def _row(name: str, entry: Entry) -> tuple[str, ...]:
    # Rows of one network and several families are told by `family, layout`.
    layouts = [row.name.split(", ", 1)[-1] for row in LAYOUTS if kind_of(row).build is entry.build]
    return (
        name, "; ".join(_sizes(entry)), ", ".join(dict.fromkeys(layouts)) or "not read from files",
        ", ".join(f"`{one}`" for one in entry.presets), _proof(entry.proof),
    )  # fmt: skip


def _proof(name: str) -> str:
    """The command that proves it."""
    return f"`pytest tests/oracles/{name}.py`"


def _sizes(entry: Entry) -> list[str]:
    """`NAME count` of each config that stands in the network's file."""
    found: list[str] = []
    for name, config in vars(entry.module).items():
        if name.isupper() and type(config).__module__ == entry.module.__name__:
            with without_memory():
                network = entry.build(config)
            count = sum(parameter.numel() for parameter in network.parameters())
            found.append(f"{name} {count / 1e6:,.2f}")
    return found


def main() -> None:
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
