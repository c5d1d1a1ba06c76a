"""What a published folder holds beside weights, where it is made from a single file, which says
none of it: the pipeline's class, the schedule, the tokenizers. Rows of data, one a family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from diptych.foundation.errors import InvalidValue


@dataclass(frozen=True)
class FolderForm:
    """`pipeline`: by channels that come in, 0 for any; `schedule` and `index`: what
    scheduler_config.json and model_index.json say; `clips`: of CLIP's tokenizers the folder, its
    encoder's component and what pads; `t5`: the same of T5's, "" for none; `side` of the latent,
    with the prediction that it is of; `optional`: components that may be missing."""

    pipeline: Mapping[int, str]
    schedule: Mapping[str, Any]
    clips: Mapping[str, tuple[str, str]]
    t5: tuple[str, str] = ("", "")
    words: str = "T5TokenizerFast"
    index: Mapping[str, Any] = field(default_factory=dict)
    side: Mapping[str, int] = field(default_factory=dict)
    optional: tuple[str, ...] = ()

    def pipeline_of(self, channels: int) -> str:
        """The pipeline's class for a network that takes so many channels. Raises InvalidValue."""
        name = self.pipeline.get(channels, self.pipeline.get(0))
        if name is None:
            known = ", ".join(map(str, self.pipeline))
            raise InvalidValue(f"No pipeline takes {channels} channels.", do=f"Known: {known}.")
        return name

    def schedule_of(self, prediction: str, *, zero_terminal: bool) -> dict[str, Any]:
        """scheduler_config.json; `prediction` and `zero_terminal` as a single file's marks."""
        said = dict(self.schedule)
        if prediction == "v" and "beta_schedule" in said:
            said["prediction_type"] = "v_prediction"
            said.pop("skip_prk_steps", None)
            if said["_class_name"] == "PNDMScheduler":
                said["_class_name"] = "DDIMScheduler"
        if zero_terminal:
            said |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
        return said


_LATENT = {
    "num_train_timesteps": 1000, "beta_schedule": "scaled_linear", "beta_start": 0.00085,
    "beta_end": 0.012, "steps_offset": 1, "prediction_type": "epsilon",
}  # fmt: skip
_PNDM = {"_class_name": "PNDMScheduler", **_LATENT, "set_alpha_to_one": False,
         "skip_prk_steps": True, "clip_sample": False}  # fmt: skip
_EULER = {"_class_name": "EulerDiscreteScheduler", **_LATENT, "timestep_spacing": "leading"}
_FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000}
_BY_SIZE = _FLOW | {
    "shift": 3.0, "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15,
    "base_image_seq_len": 256, "max_image_seq_len": 4096,
}  # fmt: skip
_UNCHECKED = {
    "safety_checker": [None, None], "feature_extractor": [None, None],
    "requires_safety_checker": False,
}  # fmt: skip
_END, _ZERO = "<|endoftext|>", "!"  # what pads: CLIP's own, OpenCLIP's
_FIRST = {"tokenizer": ("text_encoder", _END)}
_SECOND = {"tokenizer_2": ("text_encoder_2", _ZERO)}
_INPAINT, _PIX2PIX = "StableDiffusionInpaintPipeline", "StableDiffusionInstructPix2PixPipeline"
_SD1 = FolderForm(
    {4: "StableDiffusionPipeline", 9: _INPAINT, 8: _PIX2PIX}, _PNDM, _FIRST, index=_UNCHECKED,
    side={"eps": 64, "v": 64},
)  # fmt: skip
_SDXL = FolderForm(
    {
        4: "StableDiffusionXLPipeline", 9: "StableDiffusionXLInpaintPipeline",
        8: "StableDiffusionXLInstructPix2PixPipeline",
    },
    _EULER, _FIRST | _SECOND,
    index={"force_zeros_for_empty_prompt": True}, side={"eps": 128, "v": 128},
)  # fmt: skip
_SD3 = FolderForm(
    {0: "StableDiffusion3Pipeline"}, _FLOW | {"shift": 3.0}, _FIRST | _SECOND,
    ("tokenizer_3", "text_encoder_3"), optional=("text_encoder_3",),
)  # fmt: skip
_FLUX = FolderForm(
    {0: "FluxPipeline"}, _BY_SIZE, _FIRST, ("tokenizer_2", "text_encoder_2"),
)  # fmt: skip
_PIXART = FolderForm(
    {4: "PixArtSigmaPipeline"},
    {"_class_name": "DPMSolverMultistepScheduler", "num_train_timesteps": 1000,
     "beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02,
     "prediction_type": "epsilon"},
    {}, ("tokenizer", "text_encoder"),
)  # fmt: skip

FORMS: dict[str, FolderForm] = {
    "sd1": _SD1,
    "sd2": replace(
        _SD1, clips={"tokenizer": ("text_encoder", _ZERO)}, side={"eps": 64, "v": 96}
    ),
    "sdxl": _SDXL,
    "sdxl-refiner": replace(
        _SDXL,
        pipeline={4: "StableDiffusionXLImg2ImgPipeline"},
        clips=_SECOND,
        index={"requires_aesthetics_score": True, "force_zeros_for_empty_prompt": False,
               "text_encoder": [None, None], "tokenizer": [None, None]},
    ),
    "sd3": _SD3,
    "sd3.5-medium": _SD3,
    "sd3.5-large": _SD3,
    "flux-dev": _FLUX,
    "flux-schnell": replace(_FLUX, schedule=_FLOW | {"shift": 1.0}),
    "flux-fill": replace(_FLUX, pipeline={0: "FluxFillPipeline"}),
    "flux-control": replace(_FLUX, pipeline={0: "FluxControlPipeline"}),
    "pixart-alpha": replace(_PIXART, pipeline={4: "PixArtAlphaPipeline"}),
    "pixart-sigma": _PIXART,
    "lumina2": FolderForm(
        {0: "Lumina2Pipeline"}, _FLOW | {"shift": 6.0}, {}, ("tokenizer", "text_encoder"),
        words="GemmaTokenizerFast",
    ),
}  # fmt: skip
