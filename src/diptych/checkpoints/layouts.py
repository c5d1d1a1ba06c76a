"""Which layout a header is in, decided from names and shapes alone.

`LAYOUTS` is asked from the top; a file may hold several components, each below a prefix of its
own. What is known and not built is refused by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diptych.checkpoints.families import (
    blip,
    captioners,
    clip,
    clip_text,
    controls,
    dit,
    florence2,
    flux,
    gemma,
    lumina,
    pixart,
    qwen_vl,
    sd3,
    sd_unet,
    sd_vae,
    siglip,
    t5,
    unet_adm,
    vision,
    vlm,
)
from diptych.checkpoints.families.scheduler import V_MARK, ZERO_TERMINAL_MARK
from diptych.checkpoints.header import Header
from diptych.checkpoints.layout import Kind, Known, Layout, Part, by_json, no_rules
from diptych.foundation.errors import Unreadable
from diptych.models.autoencoder_sd import AutoencoderSD
from diptych.models.clip_text import CLIPText
from diptych.models.dit import DiT
from diptych.models.flux import Flux
from diptych.models.gemma_encoder import GemmaEncoder
from diptych.models.lumina2 import Lumina2
from diptych.models.lumina_next import LuminaNext
from diptych.models.pixart import PixArt
from diptych.models.sd3 import SD3
from diptych.models.t5_encoder import T5Encoder
from diptych.models.unet import UNet
from diptych.models.unet_adm import UNetADM

_OPENCLIP = ("token_embedding.weight", "ln_final.weight")
# CLIP's own: the number that ends a text. A folder's tokenizer may say another.
EOS = 49407
KINDS: dict[str, Kind] = {
    "dit": Kind(DiT, dit.config_of_json, lambda config: "dit"),
    "flux": Kind(Flux, flux.config_of_json, flux.family_of),
    "gemma": Kind(GemmaEncoder, gemma.config_of_json),
    "lumina2": Kind(Lumina2, lumina.lumina2_of_json, lambda config: "lumina2"),
    "lumina-next": Kind(LuminaNext, lumina.next_of_json, lambda config: "lumina-next"),
    "pixart": Kind(PixArt, pixart.config_of_json, pixart.family_of),
    "sd3": Kind(SD3, sd3.config_of_json, sd3.family_of),
    "t5": Kind(T5Encoder, t5.config_of_json),
    "unet-adm": Kind(UNetADM, unet_adm.config_of_json, unet_adm.family_of),
    "unet": Kind(UNet, sd_unet.config_of_json, sd_unet.family_of),
    "vae": Kind(AutoencoderSD, sd_vae.config_of_json),
    "text_encoder": Kind(CLIPText, lambda content: clip_text.config_of_json(content, EOS)),
    "text_encoder_2": Kind(CLIPText, lambda content: clip_text.config_of_json(content, EOS)),
    **blip.KINDS,
    **captioners.KINDS,
    **florence2.KINDS,
    **clip.KINDS,
    **controls.KINDS,
    **qwen_vl.KINDS,
    **vlm.KINDS,
    **siglip.KINDS,
    **vision.KINDS,
}


def _texts(component: str, prefixes: tuple[str, ...]) -> tuple[Layout, ...]:
    """A text encoder as folders have it, which whole files of SD 1 and SDXL took over."""
    return (
        Layout(
            "with text_model",
            component,
            ("text_model.embeddings.token_embedding.weight", "text_model.final_layer_norm.weight"),
            prefixes,
            lambda header: clip_text.config_of_header(clip_text.unnested(header), EOS),
            lambda config: clip_text.nested_rules(),
            (r"text_model\.embeddings\.position_ids", r"logit_scale"),
        ),
        Layout(
            "folder",
            component,
            ("embeddings.token_embedding.weight", "final_layer_norm.weight"),
            prefixes,
            lambda header: clip_text.config_of_header(header, EOS),
            no_rules,
            (r"embeddings\.position_ids",),
        ),
    )


LAYOUTS: tuple[Layout, ...] = (
    *blip.LAYOUTS,
    *captioners.LAYOUTS,
    *florence2.LAYOUTS,
    # Before the towers alone, whose names they hold below a prefix.
    *clip.LAYOUTS,
    *siglip.LAYOUTS,
    *controls.LAYOUTS,
    # Before Gemma, whose names its language model has.
    *qwen_vl.LAYOUTS,
    Layout(
        "original",
        "unet",
        ("input_blocks.0.0.weight", "middle_block.1.norm.weight", "out.2.weight"),
        ("model.diffusion_model.", ""),
        sd_unet.config_of_original,
        sd_unet.original_rules,
    ),
    Layout(
        "folder",
        "unet",
        ("conv_in.weight", "mid_block.attentions.0.norm.weight", "conv_norm_out.weight"),
        ("",),
        sd_unet.config_of_folder,
        no_rules,
    ),
    Layout(
        "original",
        "vae",
        ("encoder.down.0.block.0.norm1.weight", "decoder.mid.attn_1.q.weight"),
        ("first_stage_model.", "vae.", ""),
        sd_vae.config_of_original,
        lambda config: sd_vae.original_rules(len(config.widths), config.blocks),
    ),
    Layout(
        "folder of before 2023",
        "vae",
        ("encoder.down_blocks.0.resnets.0.norm1.weight",
         "encoder.mid_block.attentions.0.query.weight"),
        ("",),
        by_json,
        lambda config: sd_vae.old_folder_rules(),
    ),
    Layout(
        "folder",
        "vae",
        ("encoder.down_blocks.0.resnets.0.norm1.weight",
         "encoder.mid_block.attentions.0.to_q.weight"),
        ("",),
        by_json,
        no_rules,
    ),
    *_texts(
        "text_encoder",
        (
            "cond_stage_model.transformer.", "conditioner.embedders.0.transformer.",
            "text_encoders.clip_l.transformer.", "",
        ),
    ),
    *_texts("text_encoder_2", ("text_encoders.clip_g.transformer.", "")),
    Layout(
        "OpenCLIP",
        "text_encoder",
        _OPENCLIP,
        ("cond_stage_model.model.",),
        lambda header: clip_text.config_of_openclip(header, EOS, projects=False),
        lambda config: clip_text.openclip_rules(config.depth),
        # The last of 24 layers, and what projects: nothing in SD 2 reads them.
        (r"transformer\.resblocks\.23\..*", r"text_projection", r"logit_scale"),
    ),
    Layout(
        "OpenCLIP",
        "text_encoder_2",
        _OPENCLIP,
        # SDXL's second, and the refiner's only one.
        ("conditioner.embedders.1.model.", "conditioner.embedders.0.model."),
        lambda header: clip_text.config_of_openclip(header, EOS, projects=True),
        lambda config: clip_text.openclip_rules(config.depth),
        (r"logit_scale",),
    ),
    *dit.LAYOUTS,
    *flux.LAYOUTS,
    *gemma.LAYOUTS,
    *lumina.LAYOUTS,
    *pixart.LAYOUTS,
    *sd3.LAYOUTS,
    *t5.LAYOUTS,
    *unet_adm.LAYOUTS,
    *vlm.LAYOUTS,
    *vision.LAYOUTS,
)  # fmt: skip

# The components that a folder may have.
COMPONENTS = frozenset(layout.component for layout in LAYOUTS)


def kind_of(layout: Layout) -> Kind:
    """What a layout's tensors are put into."""
    return KINDS[layout.kind or layout.component]


# Names that stand in whole-model files beside the components, and say nothing that is used.
IGNORABLE = (
    r"model_ema\..*", r".*num_batches_tracked", r"(log_one_minus_)?alphas_cumprod(_prev)?",
    r"betas", r"(sqrt|log|posterior)_.*", r"lvlb_weights", r"scale_factor",
    r"denoiser\.sigmas", r"text_encoders\.\w+\.logit_scale",
)  # fmt: skip
# Names that are a word and hold nothing.
MARKS = (V_MARK, ZERO_TERMINAL_MARK)

# Known by one name, and not built here yet.
UNBUILT: dict[str, str] = {
    "distilled_guidance_layer.in_proj.weight": "Chroma",
    "double_stream_modulation_img.lin.weight": "FLUX.2",
    "double_stream_modulation_img.linear.weight": "FLUX.2",
    "layers.0.adaLN_modulation.0.weight": "Z-Image",
    "text.transformer.embeddings.word_embeddings.weight": "OpenCLIP with another text tower",
    "visual.blocks.0.attn.q_bias": "EVA-CLIP",
    "visual.layer1.0.conv1.weight": "CLIP with a ResNet",
    "visual.trunk.cls_token": "OpenCLIP over a tower of timm with a class token",
    "visual.trunk.stem.0.weight": "OpenCLIP over a ConvNeXt of timm",
}
_MARKS_OF_ADAPTERS = ("lora_", "hada_", "lokr_", "dora_scale", ".lora_A.", "emb_params")


def parts_of(
    header: Header, *, content: Mapping[str, Any] | None = None, component: str = ""
) -> tuple[list[Part], Header]:
    """The components of a file, and what belongs to none. `content` is the config.json of a
    component's folder, which then decides the config; `component`: which alone it may be.

    Raises Unreadable for a family that is known and not built, where nothing is known, and where
    what tells the config is missing.
    """
    _refuse_unbuilt(header)
    parts: list[Part] = []
    left = dict(header)
    for layout in (row for row in LAYOUTS if component in ("", row.component)):
        for prefix in layout.prefixes:
            below = {
                name.removeprefix(prefix): one
                for name, one in left.items()
                if name.startswith(prefix)
            }
            if not all(mark in below for mark in layout.marks):
                continue
            if any(part.component == layout.component for part in parts):
                break
            if content is None:
                config, assumed = _config(layout, below)
            else:
                config, assumed = layout.settled(kind_of(layout).of_json(content), below), {}
            mine = {name: one for name, one in left.items() if name.startswith(prefix)}
            parts.append(Part(layout.component, layout, prefix, mine, config, assumed))
            left = {name: one for name, one in left.items() if name not in mine}
            break
    if not parts:
        some = ", ".join(sorted(header)[:3])
        raise Unreadable(
            f"No family is known by these {len(header)} tensors: {some}, ...",
            do="docs/checkpoints.md lists what is known.",
        )
    return parts, left


def _config(layout: Layout, below: Header) -> Known:
    try:
        return layout.config(below)
    except (LookupError, StopIteration, ValueError) as error:
        raise Unreadable(
            f"The {layout.component} ({layout.name}) is not whole: its names and shapes do not "
            f"tell its config ({error!s}).",
            do="Is the file cut short?",
        ) from error


def _refuse_unbuilt(header: Header) -> None:
    for name, family in UNBUILT.items():
        if any(key.endswith(name) for key in header):
            raise Unreadable(
                f"This is {family}, which is not built here yet.",
                do="docs/checkpoints.md lists what is.",
            )
    if any(mark in key for key in header for mark in _MARKS_OF_ADAPTERS):
        raise Unreadable(
            "This is an adapter and no model.",
            do="Add it to one: TextToImage.add, or diptych generate --lora.",
        )
