"""What shows pictures to a U-Net beside diffusers and transformers: the Union ControlNet, T2I- and
IP-Adapters and CLIP's picture transformer, float64, every weight drawn."""

from __future__ import annotations

import pytest
import torch
from diffusers import ControlNetUnionModel
from diffusers import T2IAdapter as TheirAdapter
from diffusers.models import embeddings
from torch import Tensor, nn
from transformers import CLIPVisionConfig as TheirVisionConfig
from transformers import CLIPVisionModelWithProjection

from diptych.models.clip_vision import (
    CLIP_VISION_L,
    OPENCLIP_VISION_H,
    CLIPVision,
    CLIPVisionConfig,
)
from diptych.models.controlnet import ControlNetConfig
from diptych.models.controlnet_union import (
    CONTROLNET_UNION_SDXL,
    ControlNetUnion,
    ControlNetUnionConfig,
)
from diptych.models.ip_adapter import IPAdapter, IPAdapterConfig
from diptych.models.t2i_adapter import (
    T2I_ADAPTER_SD1,
    T2I_ADAPTER_SDXL,
    T2IAdapter,
    T2IAdapterConfig,
)
from diptych.models.unet import UNetConfig
from tests.oracles.networks import ExactTimes, all_apart, apart, drawn, gradients, randomized, twin

SMALL = {"full": (8, 16), "xl": (8, 16, 24, 24), "light": (8, 16)}


@pytest.mark.parametrize("kind", SMALL)
def test_t2i_adapter(kind: str):
    config = T2IAdapterConfig(widths=SMALL[kind], blocks=2, factor=4, kind=kind)
    names = {"full": "full_adapter", "xl": "full_adapter_xl", "light": "light_adapter"}
    theirs = randomized(
        TheirAdapter(
            channels=list(config.widths), num_res_blocks=2, downscale_factor=4,
            adapter_type=names[kind],
        )
    )  # fmt: skip
    ours = twin(T2IAdapter(config), theirs)
    picture = drawn(2, 3, 20, 12).requires_grad_()  # odd cells
    with torch.no_grad():
        assert all_apart(ours(picture), theirs(picture)) < 1e-9
    pair = (gradients(lambda n=n: n(picture)[-1], [picture]) for n in (ours, theirs))
    one, other = pair
    assert all_apart(one, other) < 1e-9


def test_full_sizes():
    with torch.device("meta"):
        sizes = [
            sum(p.numel() for p in made.parameters())
            for made in (
                T2IAdapter(T2I_ADAPTER_SD1), T2IAdapter(T2I_ADAPTER_SDXL),
                ControlNetUnion(CONTROLNET_UNION_SDXL),
            )
        ]  # fmt: skip
        their_vision = TheirVisionConfig(
            hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=16,
            patch_size=14, projection_dim=1024, hidden_act="gelu",
        )  # fmt: skip
        vision = CLIPVisionModelWithProjection(their_vision)
        ours = CLIPVision(OPENCLIP_VISION_H)
    assert sizes == [77_369_280, 79_028_160, 1_257_287_280]
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in vision.parameters())
    assert CLIP_VISION_L.tokens == 257


VISION = CLIPVisionConfig.tiny()


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@torch.no_grad()
def test_clip_vision(activation: str):
    config = CLIPVisionConfig.tiny(activation=activation)
    theirs = randomized(
        CLIPVisionModelWithProjection(
            TheirVisionConfig(
                hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=4,
                image_size=16, patch_size=4, projection_dim=20, hidden_act=activation,
            )
        )
    )  # fmt: skip
    ours = CLIPVision(config).double().eval()
    state = {name.removeprefix("vision_model."): t for name, t in theirs.state_dict().items()}
    ours.load_state_dict({k: v for k, v in state.items() if "position_ids" not in k})
    image = drawn(2, 3, 16, 16)
    found, wanted = ours(image), theirs(image, output_hidden_states=True)
    assert apart(found.projected, wanted.image_embeds) < 1e-9
    assert all_apart(found.layers, wanted.hidden_states) < 1e-9


class RowByRow(nn.Module):
    """Their block lets a row look at the others of the batch: asked one by one here."""

    def __init__(self, theirs: nn.Module):
        super().__init__()
        self.theirs = theirs

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.theirs(row[None]) for row in x])


@torch.no_grad()
def test_controlnet_union():
    unet = UNetConfig.tiny(
        linear_projection=True, heads=(2, 4), depths=(0, 2), mid_depth=2, vector_width=60
    )
    config = ControlNetUnionConfig.tiny(control=ControlNetConfig.tiny(unet=unet))
    theirs = ControlNetUnionModel(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), block_out_channels=(32, 64),
        layers_per_block=1, norm_num_groups=8, cross_attention_dim=32, attention_head_dim=(2, 4),
        transformer_layers_per_block=(1, 2), use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=60, conditioning_embedding_out_channels=(8, 16),
        num_control_type=3, num_trans_channel=32, num_trans_head=4, num_proj_channel=32,
    )  # fmt: skip
    theirs = randomized(theirs)
    ours = twin(ControlNetUnion(config), theirs)
    theirs.time_proj = ExactTimes(32)
    theirs.add_time_proj = ExactTimes(8)
    theirs.control_type_proj = ExactTimes(8)
    theirs.transformer_layes = nn.ModuleList(RowByRow(one) for one in theirs.transformer_layes)
    x, t, context = drawn(2, 4, 8, 6), torch.tensor([3.0, 871.0]).double(), drawn(2, 5, 32, seed=1)
    hint, pooled, numbers = drawn(2, 3, 16, 12, seed=2), drawn(2, 12, seed=3), drawn(2, 6, seed=4)
    vector = torch.cat([pooled, ExactTimes(8)(numbers.flatten()).reshape(2, -1)], dim=1)
    for kind in (0, 2):
        given = torch.nn.functional.one_hot(torch.tensor([kind, kind]), 3).double()
        down, middle = theirs(
            x, t, context, [hint], given, [kind],
            added_cond_kwargs={"text_embeds": pooled, "time_ids": numbers}, return_dict=False,
        )  # fmt: skip
        found = ours(x, t, context, hint, torch.tensor([kind, kind]), vector)
        assert all_apart(found, [*down, middle]) < 1e-9


def _named(theirs: nn.Module, names: dict[str, str]) -> dict[str, Tensor]:
    """Their state by the names of the published files."""
    found = {}
    for name, tensor in theirs.state_dict().items():
        for a, b in names.items():
            name = name.replace(a, b)
        found[name] = tensor
    return found


PROJECTIONS = {
    "plain": (
        embeddings.ImageProjection(20, 32, 3), {"image_embeds": "proj"}, (20,)
    ),
    "full": (
        embeddings.IPAdapterFullImageProjection(20, 32),
        {"ff.net.0.proj": "proj.0", "ff.net.2": "proj.2", "norm.": "proj.3."}, (5, 20),
    ),
    "face": (
        embeddings.IPAdapterFaceIDImageProjection(20, 32, 2, 3),
        {"ff.net.0.proj": "proj.0", "ff.net.2": "proj.2"}, (20,),
    ),
    "plus": (
        embeddings.IPAdapterPlusImageProjection(20, 32, 48, 2, 64, 2, 3),
        {"ln0": "0.norm1", "ln1": "0.norm2", "attn.to_out.0": "0.to_out", "attn.": "0.",
         "ff.1.net.0.proj": "1.1", "ff.1.net.2": "1.3", "ff.0": "1.0"}, (5, 20),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", PROJECTIONS)
@torch.no_grad()
def test_ip_adapter(kind: str):
    theirs, names, shape = PROJECTIONS[kind]
    theirs = randomized(theirs, seed=3)
    config = IPAdapterConfig.tiny(kind=kind, hidden=40 if kind == "face" else 48)
    ours = randomized(IPAdapter(config))
    state = _named(theirs, names)
    if kind == "plus":  # keys and values are one matrix in the files
        for i in range(2):
            k, v = (state.pop(f"layers.{i}.0.to_{one}.weight") for one in "kv")
            state[f"layers.{i}.0.to_kv.weight"] = torch.cat([k, v])
    ours.image_proj.load_state_dict(state)
    encoded = drawn(2, *shape)
    tokens = theirs(encoded)
    for (k, v), layer in zip(ours(encoded), ours.ip_adapter.values(), strict=True):
        assert apart(k, tokens @ layer.to_k_ip.weight.T) < 1e-9
        assert apart(v, tokens @ layer.to_v_ip.weight.T) < 1e-9
