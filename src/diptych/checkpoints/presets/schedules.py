"""Other families that were trained over a noise schedule."""

from __future__ import annotations

from diptych.checkpoints.presets.preset import LEADING, LIBRARY, ONE_STEP, Preset, cited
from diptych.diffusion.paths import VarianceExploding, linear_betas, vp_of_betas

_LINEAR = vp_of_betas(linear_betas())

SCHEDULES: dict[str, Preset] = {
    "pixart-alpha": Preset(
        path=_LINEAR,
        prediction="eps",
        spacing="linspace",
        solver="dpmpp-2m",
        steps=20,
        guidance=4.5,
        note="Of 8 output channels the first 4 are the noise. The library of reference rounds "
        "the times to whole steps.",
        sources=cited(
            {
                "path prediction spacing": "huggingface/diffusers, scripts/"
                "convert_pixart_alpha_to_diffusers.py: DPMSolverMultistepScheduler()",
                "solver steps guidance": "PixArt-alpha/PixArt-alpha, scripts/inference.py: "
                "dpms, order 2, multistep, 20 steps, cfg_scale 4.5",
            }
        ),
    ),
    "pixart-sigma": Preset(
        path=_LINEAR,
        prediction="eps",
        spacing="linspace",
        solver="dpmpp-2m",
        steps=20,
        guidance=4.5,
        note="Of 8 output channels the first 4 are the noise.",
        sources=cited(
            {
                "path prediction spacing solver": "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS, "
                "scheduler/scheduler_config.json",
                "steps guidance": LIBRARY + "PixArtSigmaPipeline.__call__",
            }
        ),
    ),
    "dit": Preset(
        path=_LINEAR,
        prediction="eps",
        spacing="leading",
        solver="ddim",
        steps=50,
        offered=range(2, 1001),
        limit=ONE_STEP,
        guidance=4.0,
        note="The publisher samples with learned variances in 250 steps, guidance on the first "
        "3 channels alone (unverified); here, as in diffusers, on all 4.",
        sources=cited(
            {
                "path prediction spacing solver": "huggingface/diffusers, scripts/"
                "convert_dit_to_diffusers.py, and defaults of DDIMScheduler 0.42.1",
                "steps": LIBRARY + "DiTPipeline.__call__",
                "guidance": "facebookresearch/DiT, sample.py",
                "offered": LEADING,
            }
        ),
    ),
    "edm": Preset(
        path=VarianceExploding(),
        prediction="edm",
        spacing="karras",
        solver="heun",
        steps=18,
        guidance=1.0,
        note="18 steps are for CIFAR-10; larger data sets were sampled in more.",
        sources=cited(
            {
                "path prediction": "Karras et al., 2022, table 1; diffusers 0.42.1, "
                "EDMEulerScheduler",
                "spacing solver steps": "NVlabs/edm, generate.py, edm_sampler",
                "guidance": "NVlabs/edm, generate.py: classes are given, not guided",
            }
        ),
    ),
    "adm": Preset(
        path=_LINEAR,
        prediction="eps",
        spacing="leading",
        solver="ddim",
        steps=25,
        offered=range(2, 1001),
        limit=ONE_STEP,
        guidance=1.0,
        note="Of 6 output channels the first 3 are the noise, the others a learned variance, which "
        "DDIM does without. At 64 pixels the schedule is the cosine, and a folder says so. "
        "Predicted pictures are clamped to -1..1.",
        sources=cited(
            {
                "path prediction spacing solver steps": "openai/guided-diffusion, README and "
                "guided_diffusion/respace.py, space_timesteps: linear, ddim25 (unverified)",
                "guidance": "Dhariwal and Nichol, 2021: classes are given, guidance is a "
                "classifier's",
                "offered": LEADING,
            }
        ),
    ),
    "ddpm": Preset(
        path=_LINEAR,
        prediction="eps",
        spacing="leading",
        solver="ddpm-large",
        steps=1000,
        offered=range(2, 1001),
        limit=ONE_STEP,
        guidance=1.0,
        note="CIFAR-10. The published sampler clamps each predicted picture to -1..1.",
        sources=cited(
            {
                "path prediction solver steps": "hojonathanho/diffusion, scripts/run_cifar.py: "
                "linear 0.0001 to 0.02, 1000 steps, eps, fixedlarge; google/ddpm-cifar10-32, "
                "scheduler_config.json",
                "spacing": LIBRARY + "DDPMScheduler, default of timestep_spacing",
                "guidance": "Ho et al., 2020: unconditional",
                "offered": LEADING,
            }
        ),
    ),
}
