"""Presets beside the schedulers of diffusers, set up as the published folders say."""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from diptych.checkpoints.presets import PRESETS
from diptych.diffusion.kernel import N, begin, step
from diptych.foundation.errors import InvalidValue

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
TOKENS = 4096
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
OLD_SD = SD | {"steps_offset": 1, "set_alpha_to_one": False}


def flow(shift: float) -> Callable[[int], Any]:
    return partial(_flow, diffusers.FlowMatchEulerDiscreteScheduler(shift=shift), {})


def _flow(scheduler: Any, options: dict[str, float], steps: int) -> Any:
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps), **options)
    return scheduler


def flux(place: str, name: str, *more: str) -> Callable[[int], Any]:
    """With mu as the pipeline's own function says, read from the installed file, which as a
    whole needs libraries that are not there."""
    source = Path(diffusers.__file__).parent / "pipelines" / place
    found = [
        one
        for one in ast.parse(source.read_text()).body
        if isinstance(one, ast.FunctionDef) and one.name == name
    ]
    space: dict[str, Any] = {}
    exec(compile(ast.Module(found, []), str(source), "exec"), space)

    def at(steps: int) -> Any:
        mu = space[name](TOKENS, *[steps] * len(more))
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
        return _flow(scheduler, {"mu": mu}, steps)

    return at


def stepped(kind: type, **options: object) -> Callable[[int], Any]:
    def at(steps: int) -> Any:
        scheduler = kind(**options)
        scheduler.set_timesteps(steps)
        return scheduler

    return at


LIBRARY: dict[str, Callable[[int], Any]] = {
    "sd1": stepped(diffusers.PNDMScheduler, skip_prk_steps=True, **OLD_SD),
    "sd2-base": stepped(diffusers.PNDMScheduler, skip_prk_steps=True, **OLD_SD),
    "sd2-v": stepped(
        diffusers.DDIMScheduler, clip_sample=False, prediction_type="v_prediction", **OLD_SD
    ),
    "sdxl": stepped(
        diffusers.EulerDiscreteScheduler, timestep_spacing="leading", steps_offset=1, **SD
    ),
    "sdxl-refiner": stepped(
        diffusers.EulerDiscreteScheduler, timestep_spacing="leading", steps_offset=1, **SD
    ),
    "sd-turbo": stepped(diffusers.EulerDiscreteScheduler, timestep_spacing="trailing", **SD),
    "sdxl-turbo": stepped(
        diffusers.EulerAncestralDiscreteScheduler, timestep_spacing="trailing", **SD
    ),
    "sdxl-lightning": stepped(diffusers.EulerDiscreteScheduler, timestep_spacing="trailing", **SD),
    "sdxl-lightning-1": stepped(
        diffusers.EulerDiscreteScheduler,
        timestep_spacing="trailing",
        prediction_type="sample",
        **SD,
    ),
    "lcm": stepped(diffusers.LCMScheduler, **SD),
    "pixart-alpha": stepped(diffusers.DPMSolverMultistepScheduler),
    "pixart-sigma": stepped(diffusers.DPMSolverMultistepScheduler),
    "dit": stepped(diffusers.DDIMScheduler, beta_schedule="linear", clip_sample=False),
    "adm": stepped(diffusers.DDIMScheduler, beta_schedule="linear", clip_sample=False),
    "ddpm": stepped(diffusers.DDPMScheduler, variance_type="fixed_large"),
    "edm": stepped(diffusers.EDMEulerScheduler),
    "sd3": flow(3.0),
    "sd3.5-medium": flow(3.0),
    "sd3.5-large": flow(3.0),
    "sd3.5-large-turbo": flow(3.0),
    "flux-dev": flux("flux/pipeline_flux.py", "calculate_shift"),
    "flux-schnell": flow(1.0),
    "flux2": flux("flux2/pipeline_flux2.py", "compute_empirical_mu", "steps"),
    "lumina-next": flow(1.0),
    "lumina2": flow(6.0),
    "sana": stepped(
        diffusers.DPMSolverMultistepScheduler,
        use_flow_sigmas=True,
        flow_shift=3.0,
        prediction_type="flow_prediction",
    ),
}
# What the library tells the network, where that is not the scheduler's own time.
TOLD: dict[str, Callable[[Any], Any]] = {
    "flux": lambda t: t / 1000,
    "lumina": lambda t: 1 - t / 1000,
}
# It rounds PixArt's times, and cuts Sana's, which begin at 0.999.
TOLERANCE = {"pixart-alpha": 0.5, "pixart-sigma": 0.5, "sana": 2.0}


def told(name: str, times: Any) -> Any:
    return TOLD.get(name.partition("-")[0].rstrip("2"), lambda t: t)(times)


@pytest.mark.parametrize("name", LIBRARY)
def test_the_network_is_told_the_times_of_the_library(name: str):
    preset = PRESETS[name]
    for steps in {preset.steps, preset.offered[0], 2, 3, 7, 8, 20}:
        if steps not in preset.offered:
            continue
        solver = "euler" if name == "edm" else None
        times = preset.table(steps, tokens=TOKENS, solver=solver).times
        theirs = told(name, LIBRARY[name](steps).timesteps.double()).numpy()
        assert len(times) == len(theirs)
        within = TOLERANCE.get(name, 1e-6 * max(abs(theirs)))
        np.testing.assert_allclose(times, theirs, rtol=0, atol=within)
        if name not in TOLERANCE:
            assert times[0] == pytest.approx(theirs[0], abs=1e-6)


def says(x: torch.Tensor, time: float) -> torch.Tensor:
    """Any network: what it says is nothing in particular."""
    return torch.tanh(0.7 * x) - 0.1 * torch.cos(3 * x) + 0.01 * time / (1 + abs(time))


# Those without fresh noise, at steps where the library does not round.
WAYS = dict.fromkeys(LIBRARY, 7) | {"sd-turbo": 4, "sdxl-lightning": 4, "sdxl-lightning-1": 1}
WAYS |= {"pixart-alpha": 27, "pixart-sigma": 27, "sd1": 10}
for _noisy_or_cut in ("sdxl-turbo", "lcm", "ddpm", "sana"):
    del WAYS[_noisy_or_cut]


@pytest.mark.parametrize("name", WAYS)
def test_the_way_is_that_of_the_library(name: str):
    """The same network, the same noise, the same end: path, prediction, solver, sign and end."""
    preset, scheduler = PRESETS[name], LIBRARY[name](WAYS[name])
    solver = "euler" if name == "edm" else None  # the library has no Heun for it
    table = preset.table(WAYS[name], tokens=TOKENS, solver=solver)
    ways, times = hasattr(scheduler, "scale_model_input"), scheduler.timesteps
    sample = torch.linspace(-2, 2, 9)[None] * getattr(scheduler, "init_noise_sigma", 1.0)
    # The library walks over y = x / alpha where it scales what the network sees.
    state = begin(scheduler.scale_model_input(sample, times[0]) if ways else sample)
    state = begin(sample) if name == "edm" else state
    for i, by in enumerate(table.coefficients(sample)):
        out = says(state.x * float(table.scale[i]), float(table.times[i]))
        state = step(state, out, by)
    for t in times:
        seen = scheduler.scale_model_input(sample, t) if ways else sample
        out = says(seen, float(told(name, t.double())))
        sample = scheduler.step(preset.sign * out, t, sample).prev_sample
    torch.testing.assert_close(state.x, sample, rtol=2e-4, atol=2e-4)


def test_the_fresh_noise_is_that_of_the_library():
    """Its share in the first step, from outputs and inputs of zero but for the noise."""
    turbo = PRESETS["sdxl-turbo"].table(4)
    scheduler = LIBRARY["sdxl-turbo"](4)
    down, total = scheduler.sigmas[1] ** 2 / scheduler.sigmas[0] ** 2, scheduler.sigmas[1]
    up = float(total * (1 - down).sqrt()) * turbo.nodes[1].alpha
    assert turbo.rows[0, N] == pytest.approx(up, rel=1e-5)
    ddpm, scheduler = PRESETS["ddpm"].table(), LIBRARY["ddpm"](1000)
    variances = [float(scheduler._get_variance(t)) for t in (999, 500, 1)]
    ours = [ddpm.rows[999 - t, N] ** 2 for t in (999, 500, 1)]
    np.testing.assert_allclose(ours, variances, rtol=1e-4)
    lcm, scheduler = PRESETS["lcm"].table(4), LIBRARY["lcm"](4)
    kept = scheduler.alphas_cumprod[scheduler.timesteps[1]]
    assert lcm.rows[0, N] == pytest.approx(float((1 - kept).sqrt()), rel=1e-5)
    assert lcm.rows[-1, N] == 0


def test_lcm_asks_at_places_it_was_trained_at():
    preset, trained = PRESETS["lcm"], set(range(19, 1000, 20))
    for steps in preset.offered:
        times = preset.table(steps).times
        assert set(times) <= trained and len(set(times)) == steps and times[0] == 999
        assert list(times) == LIBRARY["lcm"](steps).timesteps.tolist()
    with pytest.raises(InvalidValue, match="50"):
        preset.table(51)


# Pipelines whose defaults are the recommended steps and scale.
PIPELINES = {
    "sd1": "stable_diffusion/pipeline_stable_diffusion",
    "sd2-base": "stable_diffusion/pipeline_stable_diffusion",
    "sd2-v": "stable_diffusion/pipeline_stable_diffusion",
    "sdxl": "stable_diffusion_xl/pipeline_stable_diffusion_xl",
    "sdxl-refiner": "stable_diffusion_xl/pipeline_stable_diffusion_xl_img2img",
    "lcm": "latent_consistency_models/pipeline_latent_consistency_text2img",
    "pixart-alpha": "pixart_alpha/pipeline_pixart_alpha",
    "pixart-sigma": "pixart_alpha/pipeline_pixart_sigma",
    "dit": "dit/pipeline_dit",
    "ddpm": "ddpm/pipeline_ddpm",
    "sd3": "stable_diffusion_3/pipeline_stable_diffusion_3",
    "flux2": "flux2/pipeline_flux2",
    "lumina-next": "lumina/pipeline_lumina",
    "sana": "sana/pipeline_sana",
}


@pytest.mark.parametrize("name", PIPELINES)
def test_steps_and_guidance_are_the_pipelines(name: str):
    preset, said = PRESETS[name], defaults(PIPELINES[name])
    assert preset.steps == said["num_inference_steps"]
    if preset.embedded is None:
        assert preset.guidance == said.get("guidance_scale", 1)
    else:  # LCM's students are told the scale less 1
        told_less = 1 if name == "lcm" else 0
        assert preset.embedded == said["guidance_scale"] - told_less and preset.guidance == 1


def defaults(place: str) -> dict[str, Any]:
    """The plain default values of a pipeline's call, read from the installed file."""
    source = Path(diffusers.__file__).parent / "pipelines" / f"{place}.py"
    calls = [
        one
        for one in ast.walk(ast.parse(source.read_text()))
        if isinstance(one, ast.FunctionDef) and one.name == "__call__"
    ]
    names = [one.arg for one in calls[0].args.args][-len(calls[0].args.defaults) :]
    pairs = zip(names, calls[0].args.defaults, strict=True)
    return {name: one.value for name, one in pairs if isinstance(one, ast.Constant)}
