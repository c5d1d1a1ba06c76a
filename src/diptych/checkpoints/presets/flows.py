"""Families of rectified flow: times from 1, noise, to 0, evenly spaced and then shifted.

Published lists of the form linspace(1, 1 / n, n) and then 0 are `trailing`; the exponential
shift by mu is the shift e^mu.
"""

from __future__ import annotations

from diptych.checkpoints.presets.preset import LIBRARY, Preset, cited
from diptych.diffusion.paths import FlowPath
from diptych.diffusion.spacings import shift_for_tokens, shift_for_tokens_and_steps

_SD3_IN_1000 = FlowPath(time_scale=1000.0)
_SD3_TIME = "Stability-AI/sd3.5, sd3_impls.py, ModelSamplingDiscreteFlow"
_SD3_LIST = (
    "our choice: the published lists (Stability-AI/sd3.5, get_sigmas; "
    "FlowMatchEulerDiscreteScheduler without sigmas) shift their last time twice and spend a step "
    "below 0.01"
)
_SD3_EULER = (
    "The publisher's program extrapolates (2M) in ln sigma of the flow, which dpmpp-2m does not."
)
_BFL = "black-forest-labs/flux, src/flux/"

FLOWS: dict[str, Preset] = {
    "sd3": Preset(
        path=_SD3_IN_1000,
        prediction="velocity",
        spacing="trailing",
        shift=3.0,
        solver="euler",
        steps=28,
        guidance=7.0,
        note="The publisher's program says shift 1, scale 5 and 50 steps for this model, and in a "
        "comment that released models use 3.",
        sources=cited(
            {
                "path prediction": _SD3_TIME,
                "spacing": _SD3_LIST,
                "shift solver": "stable-diffusion-3-medium-diffusers, scheduler/"
                "scheduler_config.json (read in copies)",
                "steps guidance": LIBRARY + "StableDiffusion3Pipeline.__call__",
            }
        ),
    ),
    "sd3.5-medium": Preset(
        path=_SD3_IN_1000,
        prediction="velocity",
        spacing="trailing",
        shift=3.0,
        solver="euler",
        steps=50,
        guidance=5.0,
        note="Optional: skip-layer guidance of 2.5 on layers 7 to 9 between 1 and 30 % of the "
        f"steps. {_SD3_EULER}",
        sources=cited(
            {
                "path prediction": _SD3_TIME,
                "spacing": _SD3_LIST,
                "solver": "stable-diffusion-3.5-medium, scheduler/scheduler_config.json "
                "(read in a copy)",
                "shift steps guidance": "Stability-AI/sd3.5, sd3_infer.py, CONFIGS",
            }
        ),
    ),
    "sd3.5-large": Preset(
        path=_SD3_IN_1000,
        prediction="velocity",
        spacing="trailing",
        shift=3.0,
        solver="euler",
        steps=40,
        guidance=4.5,
        note=_SD3_EULER,
        sources=cited(
            {
                "path prediction": _SD3_TIME,
                "spacing": _SD3_LIST,
                "solver": LIBRARY + "StableDiffusion3Pipeline takes "
                "FlowMatchEulerDiscreteScheduler",
                "shift steps guidance": "Stability-AI/sd3.5, sd3_infer.py, CONFIGS",
            }
        ),
    ),
    "sd3.5-large-turbo": Preset(
        path=_SD3_IN_1000,
        prediction="velocity",
        spacing="trailing",
        shift=3.0,
        solver="euler",
        steps=4,
        guidance=1.0,
        sources=cited(
            {
                "path prediction": _SD3_TIME,
                "spacing": _SD3_LIST,
                "shift solver steps guidance": "Stability-AI/sd3.5, sd3_infer.py, CONFIGS",
            }
        ),
    ),
    "flux-dev": Preset(
        path=FlowPath(),
        prediction="velocity",
        spacing="trailing",
        shift=lambda tokens, steps: shift_for_tokens(tokens),
        solver="euler",
        steps=50,
        guidance=1.0,
        embedded=3.5,
        rounds_time=True,
        note="The network multiplies time and guidance by 1,000 itself. diffusers takes 28 steps.",
        sources=cited(
            {
                "path prediction solver rounds_time": _BFL + "sampling.py, denoise",
                "spacing shift": _BFL + "sampling.py, get_schedule",
                "steps guidance embedded": _BFL + "cli.py, main",
            }
        ),
    ),
    "flux-schnell": Preset(
        path=FlowPath(),
        prediction="velocity",
        spacing="trailing",
        shift=1.0,
        solver="euler",
        steps=4,
        guidance=1.0,
        rounds_time=True,
        note="The network has no input for guidance.",
        sources=cited(
            {
                "path prediction solver rounds_time guidance": _BFL + "sampling.py, denoise",
                "spacing": _BFL + "sampling.py, get_schedule",
                "shift": _BFL + "cli.py, main; black-forest-labs/FLUX.1-schnell, scheduler/"
                "scheduler_config.json",
                "steps": _BFL + "cli.py, main",
            }
        ),
    ),
    "flux-fill": Preset(
        path=FlowPath(),
        prediction="velocity",
        spacing="trailing",
        shift=lambda tokens, steps: shift_for_tokens(tokens),
        solver="euler",
        steps=50,
        guidance=1.0,
        embedded=30.0,
        rounds_time=True,
        note="FLUX.1 Fill [dev]: it is shown the picture without the part that is painted, and the "
        "mask.",
        sources=cited(
            {
                "path prediction solver rounds_time": _BFL + "sampling.py, denoise",
                "spacing shift": _BFL + "sampling.py, get_schedule",
                "steps guidance embedded": _BFL
                + "cli_fill.py, main; "
                + LIBRARY
                + "FluxFillPipeline.__call__",
            }
        ),
    ),
    "flux-control": Preset(
        path=FlowPath(),
        prediction="velocity",
        spacing="trailing",
        shift=lambda tokens, steps: shift_for_tokens(tokens),
        solver="euler",
        steps=50,
        guidance=1.0,
        embedded=10.0,
        rounds_time=True,
        note="FLUX.1 Depth [dev] and Canny [dev], which have the same shapes: it is shown a map. "
        "For edges the published guidance is 30.",
        sources=cited(
            {
                "path prediction solver rounds_time": _BFL + "sampling.py, denoise",
                "spacing shift": _BFL + "sampling.py, get_schedule",
                "steps guidance embedded": _BFL + "cli_control.py, main",
            }
        ),
    ),
    "flux2": Preset(
        path=FlowPath(),
        prediction="velocity",
        spacing="trailing",
        shift=shift_for_tokens_and_steps,
        solver="euler",
        steps=50,
        guidance=1.0,
        embedded=4.0,
        rounds_time=True,
        note="FLUX.2 [dev]. The network multiplies time and guidance by 1,000 itself.",
        sources=cited(
            {
                "path prediction solver rounds_time": "black-forest-labs/flux2, src/flux2/"
                "sampling.py, denoise",
                "spacing shift": "black-forest-labs/flux2, src/flux2/sampling.py, get_schedule "
                "and compute_empirical_mu",
                "steps guidance embedded": "black-forest-labs/flux2, scripts/cli.py, Config; "
                "diffusers 0.42.1, Flux2Pipeline.__call__",
            }
        ),
    ),
    "lumina-next": Preset(
        path=FlowPath(reversed=True),
        prediction="velocity",
        spacing="trailing",
        shift=1.0,
        solver="euler",
        steps=30,
        guidance=4.0,
        sign=-1.0,
        note="Time is told from noise (0) to data (1) and the network says data - noise; guidance "
        "on the first 3 channels alone. The publisher's settings: 60 steps, shift 4.",
        sources=cited(
            {
                "path prediction sign guidance": "Alpha-VLLM/Lumina-T2X, lumina_next_t2i/"
                "transport/transport.py and sample.py; diffusers 0.42.1, LuminaPipeline.__call__",
                "spacing": "our choice: even times; the list of "
                "FlowMatchEulerDiscreteScheduler without sigmas ends at 0.001, a step too early",
                "shift solver": "huggingface/diffusers, scripts/convert_lumina_to_diffusers.py: "
                "FlowMatchEulerDiscreteScheduler()",
                "steps": LIBRARY + "LuminaPipeline.__call__",
            }
        ),
    ),
    "lumina2": Preset(
        path=FlowPath(reversed=True),
        prediction="velocity",
        spacing="trailing",
        shift=6.0,
        solver="euler",
        steps=50,
        guidance=4.0,
        sign=-1.0,
        note="Time and output as lumina-next. Guidance in the first quarter of the steps alone "
        "(cfg_trunc_ratio 0.25), its result scaled to the length of the conditional one.",
        sources=cited(
            {
                "path prediction spacing sign": LIBRARY + "Lumina2Pipeline.__call__",
                "shift solver": "Alpha-VLLM/Lumina-Image-2.0, scheduler/scheduler_config.json",
                "steps guidance": "Alpha-VLLM/Lumina-Image-2.0, README.md",
            }
        ),
    ),
    "sana": Preset(
        path=_SD3_IN_1000,
        prediction="velocity",
        spacing="trailing",
        shift=3.0,
        solver="dpmpp-2m",
        steps=20,
        guidance=4.5,
        note="At 4,096 pixels the shift is 6. diffusers begins at 0.999 and cuts the times it "
        "tells the network to whole numbers.",
        sources=cited(
            {
                "path": LIBRARY + "SanaPipeline.__call__: t times timestep_scale, which is 1",
                "prediction spacing solver": "Efficient-Large-Model/Sana_1600M_512px_diffusers, "
                "scheduler/scheduler_config.json",
                "shift": "NVlabs/Sana, configs/sana_app_config/Sana_1600M_app.yaml",
                "steps guidance": LIBRARY + "SanaPipeline.__call__",
            }
        ),
    ),
    "diptych-flow": Preset(
        path=FlowPath(),
        prediction="velocity",
        spacing="trailing",
        shift=2.0,
        solver="euler",
        steps=20,
        guidance=2.0,
        note="The shipped scenes-t2i.",
        sources=cited(
            {
                "path prediction": "diptych.objectives.flow_matching, flow_loss",
                "spacing solver": "diptych.pipelines.text_to_image, Sampling",
                "shift steps guidance": "diptych/shipped/scenes-t2i/pipeline.json",
            }
        ),
    ),
}
