"""Stable Diffusion 1, 2 and XL, and what was distilled from them.

Where a list of times leaves noise itself out, the first picture is pure noise all the same: so
these models were published.
"""

from __future__ import annotations

from diptych.checkpoints.presets.preset import LEADING, LIBRARY, ONE_STEP, Preset, cited
from diptych.diffusion.paths import Node, Path, scaled_linear_betas, vp_of_betas

_LATENT = vp_of_betas(scaled_linear_betas())
_SD_LIST = {"offset": 1, "ends": "trained"}
_FROM_TWO = range(2, 1000)


def subset_of_50(path: Path, steps: int) -> list[Node]:
    """Of the 50 steps a student was trained at, 19, 39, ... 999, `steps` even by number from
    noise on, then data."""
    times = [path.last - 20 * (50 * i // steps) for i in range(steps)]
    return [*(path.at(time) for time in times), path.node(0.0)]


STABLE: dict[str, Preset] = {
    "sd1": Preset(
        path=_LATENT,
        prediction="eps",
        spacing="leading",
        spacing_options=_SD_LIST,
        solver="pndm",
        steps=50,
        offered=_FROM_TWO,
        limit=ONE_STEP,
        guidance=7.5,
        note="The last step leaves the noise of training step 0 in the latent.",
        sources=cited(
            {
                "path prediction spacing_options solver": "stable-diffusion-v1-5, "
                "scheduler/scheduler_config.json (read in copies): PNDM, skip_prk_steps, "
                "steps_offset 1, set_alpha_to_one false",
                "spacing": LIBRARY + "PNDMScheduler, default of timestep_spacing; CompVis/"
                "stable-diffusion, ldm/modules/diffusionmodules/util.py, make_ddim_timesteps",
                "steps guidance": LIBRARY + "StableDiffusionPipeline.__call__",
                "offered": LEADING,
            }
        ),
    ),
    "sd2-base": Preset(
        path=_LATENT,
        prediction="eps",
        spacing="leading",
        spacing_options=_SD_LIST,
        solver="pndm",
        steps=50,
        offered=_FROM_TWO,
        limit=ONE_STEP,
        guidance=7.5,
        note="The 512 pixel models of SD 2.0 and 2.1.",
        sources=cited(
            {
                "path prediction spacing_options solver": "stable-diffusion-2-1-base, "
                "scheduler/scheduler_config.json (read in a copy): PNDM, epsilon",
                "spacing": LIBRARY + "PNDMScheduler, default of timestep_spacing",
                "steps guidance": LIBRARY + "StableDiffusionPipeline.__call__",
                "offered": LEADING,
            }
        ),
    ),
    "sd2-v": Preset(
        path=_LATENT,
        prediction="v",
        spacing="leading",
        spacing_options=_SD_LIST,
        solver="ddim",
        steps=50,
        offered=_FROM_TWO,
        limit=ONE_STEP,
        guidance=7.5,
        note="The 768 pixel models of SD 2.0 and 2.1.",
        sources=cited(
            {
                "path prediction spacing_options solver": "stable-diffusion-2-1, "
                "scheduler/scheduler_config.json (read in a copy): DDIM, v_prediction, "
                "steps_offset 1, set_alpha_to_one false",
                "spacing": LIBRARY + "DDIMScheduler, default of timestep_spacing",
                "steps guidance": LIBRARY + "StableDiffusionPipeline.__call__",
                "offered": LEADING,
            }
        ),
    ),
    "sdxl": Preset(
        path=_LATENT,
        prediction="eps",
        spacing="leading",
        spacing_options={"offset": 1},
        solver="euler",
        steps=50,
        offered=_FROM_TWO,
        limit=ONE_STEP,
        guidance=5.0,
        note="The publisher's own program takes DPM-Solver++ 2M from step 999 on, at scale 6 "
        "(Stability-AI/generative-models, SamplingParams and LegacyDDPMDiscretization).",
        sources=cited(
            {
                "path prediction spacing spacing_options solver": "stabilityai/"
                "stable-diffusion-xl-base-1.0, scheduler/scheduler_config.json",
                "steps guidance": LIBRARY + "StableDiffusionXLPipeline.__call__",
                "offered": LEADING,
            }
        ),
    ),
    "sdxl-refiner": Preset(
        path=_LATENT,
        prediction="eps",
        spacing="leading",
        spacing_options={"offset": 1},
        solver="euler",
        steps=50,
        offered=_FROM_TWO,
        limit=ONE_STEP,
        guidance=5.0,
        note="Trained on the 200 least noisy steps (Podell et al., 2023, section 2.5; not read "
        "again): it takes over a picture of the base model, it does not begin one.",
        sources=cited(
            {
                "path prediction spacing spacing_options solver": LIBRARY + "loaders/"
                "single_file_utils.py, _legacy_load_scheduler for xl_refiner",
                "steps guidance": LIBRARY + "StableDiffusionXLImg2ImgPipeline.__call__",
                "offered": LEADING,
            }
        ),
    ),
    "sd-turbo": Preset(
        path=_LATENT,
        prediction="eps",
        spacing="trailing",
        solver="euler",
        steps=1,
        offered=range(1, 5),
        limit="the model was distilled to at most 4",
        guidance=1.0,
        note="The publisher's own sampler is ancestral and goes by 999, 899, 799, 699.",
        sources=cited(
            {
                "path prediction spacing solver": "stabilityai/sd-turbo, "
                "scheduler/scheduler_config.json",
                "steps offered guidance": "Stability-AI/generative-models, scripts/demo/turbo.py: "
                "1 to 4 steps, begun at 1, no unconditional pass",
            }
        ),
    ),
    "sdxl-turbo": Preset(
        path=_LATENT,
        prediction="eps",
        spacing="trailing",
        solver="euler-ancestral",
        steps=1,
        offered=range(1, 5),
        limit="the model was distilled to at most 4",
        guidance=1.0,
        note="The publisher's own sampler goes by 999, 899, 799, 699.",
        sources=cited(
            {
                "path prediction spacing solver": "stabilityai/sdxl-turbo, "
                "scheduler/scheduler_config.json",
                "steps": "Stability-AI/generative-models, scripts/demo/turbo.py",
                "offered guidance": "huggingface/diffusers, docs/source/en/api/pipelines/"
                "stable_diffusion/sdxl_turbo.md: 1 to 4 steps, guidance off",
            }
        ),
    ),
    "sdxl-lightning": Preset(
        path=_LATENT,
        prediction="eps",
        spacing="trailing",
        solver="euler",
        steps=4,
        offered=(2, 4, 8),
        limit="each checkpoint was trained for its own number (one step: sdxl-lightning-1)",
        guidance=1.0,
        note="Take the number of steps that stands in the checkpoint's name.",
        sources=cited(
            {
                "path": "stabilityai/stable-diffusion-xl-base-1.0, scheduler/"
                "scheduler_config.json, which the card keeps",
                "prediction spacing solver steps offered guidance": "ByteDance/SDXL-Lightning, "
                "README.md (read in excerpts)",
            }
        ),
    ),
    "sdxl-lightning-1": Preset(
        path=_LATENT,
        prediction="x0",
        spacing="trailing",
        solver="euler",
        steps=1,
        offered=(1,),
        limit="this checkpoint was trained for one (others: sdxl-lightning)",
        guidance=1.0,
        note="The checkpoint of one step predicts the picture, not the noise.",
        sources=cited(
            {
                "path": "stabilityai/stable-diffusion-xl-base-1.0, scheduler/"
                "scheduler_config.json, which the card keeps",
                "prediction spacing solver steps offered guidance": "ByteDance/SDXL-Lightning, "
                "README.md (read in excerpts)",
            }
        ),
    ),
    "lcm": Preset(
        path=_LATENT,
        prediction="eps",
        spacing=subset_of_50,
        solver="lcm",
        steps=4,
        offered=range(1, 51),
        limit="the student was trained at 50 places",
        guidance=1.0,
        embedded=7.5,
        note="The network is told w, the usual scale less 1. Programs of 2023 took another subset "
        "of the 50: every floor(50 / n)-th, at 4 steps 999, 759, 519, 279.",
        sources=cited(
            {
                "path prediction offered": "SimianLuo/LCM_Dreamshaper_v7, scheduler/"
                "scheduler_config.json",
                "spacing": LIBRARY + "LCMScheduler.set_timesteps",
                "solver": LIBRARY + "LCMScheduler.step; Luo et al., 2023, section 4.1",
                "steps guidance embedded": LIBRARY + "LatentConsistencyModelPipeline.__call__: "
                "guidance_scale 8.5, w = 8.5 - 1",
            }
        ),
    ),
}
