"""`TextToImage`: words become pictures in one call."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from diptych.checkpoints.account import LoadReport
from diptych.checkpoints.presets import PRESETS
from diptych.compression.int8 import to_int8
from diptych.foundation.errors import InvalidValue
from diptych.foundation.memory import keep_freed_memory, uncollected
from diptych.foundation.progress import Report, silent
from diptych.foundation.version import __version__
from diptych.imaging.recipe import PictureRecipe
from diptych.nn.packing import pack
from diptych.nn.reuse import Approximation
from diptych.pipelines.adapting import Adapters, Loras, is_control, what_is
from diptych.pipelines.attachments import (
    Attachment,
    loras_of,
    read_attachment,
    told_of,
    with_networks,
)
from diptych.pipelines.beginning import begin_of, marks_of
from diptych.pipelines.conditioning import Reading
from diptych.pipelines.device import device_of, dtype_of
from diptych.pipelines.folders import read_text_to_image
from diptych.pipelines.looking import Consistent, HiDiffusion
from diptych.pipelines.painting import Extras, Painting, Request
from diptych.pipelines.passes import Enlarge, Second, enlarged, refined
from diptych.pipelines.previews import fitted
from diptych.pipelines.published import is_published, read_published
from diptych.pipelines.reference import folder_of
from diptych.pipelines.reusing import INT8
from diptych.pipelines.sampling import Sampling
from diptych.pipelines.steering import Control, ImagePrompt
from diptych.pipelines.text_to_image import PaintState, Way, paint
from diptych.pipelines.tiles import Tiling, decoded, in_windows

if TYPE_CHECKING:
    import torch
    from torch import Tensor


# A step's number, and small pictures of what is held to come.
Preview = Callable[[int, list[Image.Image]], None]


class TextToImage:
    """A model that paints. A call changes nothing in it; threads may share it once all is added."""

    def __init__(
        self,
        networks: Painting,
        sampling: Sampling,
        name: str,
        folder: Path | None,
        reports: tuple[LoadReport, ...] = (),
    ):
        self.networks, self.sampling, self.name, self._folder = networks, sampling, name, folder
        self.reports = reports
        self.attached: dict[str, Attachment] = {}
        self.adapters = Adapters()
        self.in_int8, self.offline = False, False

    @classmethod
    def load(
        cls,
        reference: str,
        *,
        device: str | None = None,
        dtype: str | torch.dtype | None = None,
        variant: str = "",
        allow: Sequence[str] = (),
        offline: bool = False,
        report: Report = silent,
    ) -> TextToImage:
        """A shipped name, a folder, a .safetensors file or a hub id.

        The device is the best there is; the dtype (float32, bfloat16, float16) what fits it:
        float32 on a CPU. Of published folders and files `variant` chooses weights as `fp16`, and
        `allow` names tensors that may be of no use; `.reports` then has the account of each
        component. `offline`: nothing is asked of the network, now or in `add`; a hub id is one that
        was downloaded before. Raises NotFound, Unreadable, InvalidValue.
        """
        keep_freed_memory()
        place = device_of(device)
        kind = dtype_of(dtype, place)
        path = folder_of(reference, offline=offline)
        if is_published(path):
            with uncollected():
                painting, sampling, reports = read_published(
                    path, kind, variant=variant, allow=allow, report=report
                )
            painting.to(place, kind)
            made = cls(painting, sampling, Path(reference).stem, path, reports)
            made.offline = offline
            return made
        if variant or allow:
            raise InvalidValue(
                f"{reference!r} is a folder of ours: it has no variants and lacks nothing.",
                do="Leave variant and allow out.",
            )
        networks, sampling = read_text_to_image(path)
        networks.to(place, kind)
        return cls(networks, sampling, Path(reference).name, path)

    def add(
        self,
        path: str | Path,
        name: str = "",
        *,
        encoder: str | Path | None = None,
        variant: str = "",
        allow: Sequence[str] = (),
        strength: float = 1.0,
    ) -> LoadReport:
        """Make a file or folder known by a name, the file's own where none is given: a ControlNet,
        T2I- or IP-Adapter, this with the folder or file of its image `encoder`; a LoRA or one of
        its relatives; or a word learnt from pictures, of which the name is the word. `allow` takes
        names of tensors that may be of no use. A LoRA for depth or edges (FLUX) goes into the
        weights with its `strength`: from then on the model follows the picture `init`, always.

        Raises NotFound, Unreadable, InvalidValue."""
        place = folder_of(str(path), offline=self.offline)
        what = what_is(place)
        if what and (encoder is not None or variant):
            raise InvalidValue(f"A {what} has no encoder and no variant.", do="Leave them out.")
        if what == "lora":
            self._need_floats()
        if what == "word":
            self.networks, report = self.adapters.add_word(self.networks, place, name, allow)
            return report
        name = name or Path(path).stem
        if name in {*self.attached, *self.adapters.loras}:
            raise InvalidValue(f"There is {name!r} already.", do="Give it another name.")
        if is_control(place, self.networks):
            self.networks, report = self.adapters.merge_control(
                self.networks, place, name, strength, allow
            )
            guidance = PRESETS["flux-control"].embedded or self.sampling.guidance
            self.sampling = replace(self.sampling, guidance=guidance)
            return report
        if strength != 1:
            raise InvalidValue("Only a LoRA to be merged has it here.", do="Say it in the call.")
        if what == "lora":
            return self.adapters.add_lora(self.networks, place, name, allow)
        self.attached[name] = read_attachment(
            place, self.networks.modules()[0],
            encoder=None if encoder is None else folder_of(str(encoder), offline=self.offline),
            variant=variant, allow=allow,
        )  # fmt: skip
        return self.attached[name].report

    def follows_by(self, path: str | Path) -> bool:
        """Whether a file is a LoRA that makes this model follow pictures."""
        return Path(path).exists() and is_control(Path(path), self.networks)

    def pack(self) -> None:
        """Keep convolution weights once more in the order that a CPU's kernels want: faster, and
        another picture by rounding alone."""
        for network in self.networks.modules():
            pack(network)

    def to_int8(self) -> int:
        """Put eight bits in the place of the wide linear maps of the network that paints: a quarter
        of their memory, on a CPU faster, and other pictures, which say so. How many. Raises
        InvalidValue where there are none, and off the CPU."""
        count = to_int8(self.networks.modules()[0])
        self.in_int8 = True
        return count

    def _need_floats(self) -> None:
        if self.in_int8:
            raise InvalidValue("A model in eight bits takes no LoRA.", do="Leave int8 or it out.")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels of the model's own pictures."""
        return self.networks.size

    @cached_property
    def model_hash(self) -> str:
        """The first ten digits of the SHA-256 over the weights' files."""
        digest = hashlib.sha256()
        if self._folder is not None:
            one = self._folder.is_file()
            for path in [self._folder] if one else sorted(self._folder.rglob("*.safetensors")):
                with path.open("rb") as file:
                    while content := file.read(1 << 24):
                        digest.update(content)
        return digest.hexdigest()[:10]

    def chosen(
        self,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        shift: float | None = None,
        solver: str | None = None,
        spacing: str | None = None,
        noise: str | None = None,
        strength: float | None = None,
        image_guidance: float | None = None,
        true_guidance: float | None = None,
    ) -> Sampling:
        """The model's recommended sampling with these changes. Raises InvalidValue, NotFound."""
        said = {
            "steps": steps, "guidance": guidance, "shift": shift, "solver": solver,
            "spacing": spacing, "noise": noise, "strength": strength,
            "image_guidance": image_guidance, "true_guidance": true_guidance,
        }  # fmt: skip
        return replace(self.sampling, **{k: v for k, v in said.items() if v is not None})

    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        negative_prompt: str = "",
        seed: int | Sequence[int] = 0,
        steps: int | None = None,
        guidance: float | None = None,
        shift: float | None = None,
        solver: str | None = None,
        spacing: str | None = None,
        noise: str | None = None,
        init: Image.Image | None = None,
        mask: Image.Image | None = None,
        strength: float | None = None,
        image_guidance: float | None = None,
        true_guidance: float | None = None,
        controls: Sequence[Control] = (),
        image_prompts: Sequence[ImagePrompt] = (),
        loras: Loras | Sequence[Loras] = (),
        reading: Reading | None = None,
        approximation: Approximation | None = None,
        refiner: TextToImage | None = None,
        switch: float = 0.8,
        enlarge: Enlarge | None = None,
        hidiffusion: HiDiffusion | None = None,
        consistent: Consistent | None = None,
        tiling: Tiling | None = None,
        tiled_decode: Tiling | None = None,
        preview: Preview | None = None,
        width: int | None = None,
        height: int | None = None,
        report: Report = silent,
    ) -> Image.Image | list[Image.Image]:
        """A prompt gives a picture, a list of prompts a list.

        One seed for many prompts means seed, seed + 1, ... Each picture's `.info["recipe"]` is its
        `PictureRecipe`. The prompt is a class where the model knows classes, and empty where it
        reads nothing. An empty `negative_prompt` is an absent one, for which Stable Diffusion XL is
        given zeros and not the empty text. From a picture `init` the last `strength` (0.6) of the
        steps are made; with a `mask` of its size, white where it is painted anew, all of them, and
        the rest stays to the pixel. A model that edits by instruction is shown `init` instead, and
        `image_guidance` says how much it counts. A model that is told its guidance, as FLUX, reads
        a negative prompt with a `true_guidance` above 1, in twice the time. `controls` are pictures
        that are followed, `image_prompts` pictures that are read like words. `loras` are adapters
        with their strengths, [("name or file", 0.8), ...], for all pictures, or a list of such
        lists. An `approximation` uses again what was computed in the step before, which is faster
        and paints other pictures; all by which a picture is not the exact one is in its recipe. A
        `refiner` of the same latents takes over when a share of `switch` of the way has gone, and
        goes without adapters; `enlarge` paints a second time at a larger size. `hidiffusion` paints
        larger than a model of Stable Diffusion was trained on, in one pass; `consistent` lets the
        pictures of all prompts show what the first shows, from one seed. `tiling` asks the network,
        `tiled_decode` the decoder, window by window. `preview` is called after every step with its
        number and small pictures of what is held to come; an error that it raises ends the call.
        Raises InvalidValue for what the model cannot read or paint.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        seeds = [seed + i for i in range(len(prompts))] if isinstance(seed, int) else list(seed)
        if consistent is not None and isinstance(seed, int):
            seeds = [seed] * len(prompts)
        self.check(prompts, seeds)
        if consistent is not None and len(set(seeds)) > 1:
            raise InvalidValue("Pictures that are alike begin from one seed.", do="Give one.")
        sampling = self.chosen(
            steps=steps, guidance=guidance, shift=shift, solver=solver, spacing=spacing,
            noise=noise, strength=self.strength_of(init, mask, strength),
            image_guidance=image_guidance, true_guidance=true_guidance,
        )  # fmt: skip
        begin = None if init is None else begin_of(init, mask)
        size = self.sized(init, width, height)
        if image_guidance is not None and self.networks.shown != "beside":
            raise InvalidValue(
                "An image guidance is for models that edit by words.", do="Leave it out."
            )
        followed, read = with_networks(self.attached, controls, image_prompts)
        if loras:
            self._need_floats()
        each = self.adapters.of_each(self.networks, loras, len(prompts))
        adapted = self.adapters.weighted(each)
        if own := loras_of(self.attached, image_prompts):
            self._need_floats()
            adapted = tuple((*one, *own) for one in adapted or [()] * len(prompts))
        request = Request(
            prompts=prompts, seeds=seeds, sampling=sampling, negative_prompt=negative_prompt,
            size=size, begin=begin,
            extras=Extras(
                followed, read, reading or Reading(), adapted, approximation, hidiffusion,
                consistent,
            ),
        )  # fmt: skip
        way = self._way(tiling, tiled_decode, preview)
        if refiner is not None:
            if enlarge is not None:
                raise InvalidValue("A refiner and enlarge are two passes each.", do="Choose one.")
            second = Second(
                refiner.networks, refiner.sampling, refiner._way(tiling, tiled_decode, preview)
            )
            pixels = refined(self.networks, second, request, switch, report, way)
        elif enlarge is not None:
            pixels, size = enlarged(self.networks, request, enlarge, report, way)
        else:
            pixels = paint(self.networks, request, report, way)
        more = told_of(request.extras, controls, image_prompts)
        more |= self.apart(approximation, refiner)
        if begin is not None:
            more |= marks_of(begin)
        if self.networks.shown == "beside":
            more["image_guidance"] = sampling.image_guidance
        if refiner is not None:
            more["refiner"] = f"{refiner.name} {refiner.model_hash} from {switch:g}"
        if enlarge is not None:
            more["enlarge"] = f"{enlarge.by} x {enlarge.scale:g}, strength {enlarge.strength:g}"
        if hidiffusion is not None:
            more["hidiffusion"] = str(hidiffusion)
        if consistent is not None:
            more["consistent"] = f"with {prompts[0]!r} {consistent}"
        if tiling is not None:
            more["tiling"] = f"{tiling.tile} cells, {tiling.overlap} shared"
        pictures = [Image.fromarray(picture) for picture in pixels]
        for k, picture in enumerate(pictures):
            learnt = self.adapters.told(each[k], prompts[k], negative_prompt)
            recipe = self.recipe(prompts[k], negative_prompt, seeds[k], sampling, size)
            picture.info["recipe"] = replace(recipe, **more, **learnt)
        return pictures[0] if isinstance(prompt, str) else pictures

    def _way(self, tiling: Tiling | None, decode: Tiling | None, preview: Preview | None) -> Way:
        networks = self.networks
        small = None if preview is None else fitted(networks)

        def watch(state: PaintState, x0: Tensor) -> None:
            if preview is not None and small is not None:
                preview(state.step, [Image.fromarray(one) for one in small(x0)])

        return Way(
            None if tiling is None else in_windows(networks, tiling),
            None if decode is None else lambda latent: decoded(networks.decode, latent, decode),
            None if preview is None else watch,
        )

    def check(self, prompts: list[str], seeds: list[int]) -> None:
        """Raises InvalidValue for an empty prompt, unless the model reads none, or seeds that are
        too few or out of range."""
        needed = self.networks.reads != "nothing"
        if not prompts or (needed and any(not text.strip() for text in prompts)):
            say = "Say the name or number of a class." if self.networks.reads == "classes" else ""
            say = say or 'Say what to paint: "a red circle".'
            raise InvalidValue("There is no prompt: it is empty.", do=say)
        if len(seeds) != len(prompts):
            raise InvalidValue(f"There are {len(prompts)} prompts and {len(seeds)} seeds.")
        if any(not 0 <= number < 2**63 for number in seeds):
            raise InvalidValue("A seed is out of range.", do="Choose 0 to 2**63 - 1.")

    def sized(
        self, init: Image.Image | None, width: int | None, height: int | None
    ) -> tuple[int, int]:
        """Width and height: those that are said, or the picture's, or the model's own."""
        own = self.size if init is None else init.size
        size = (own[0] if width is None else width, own[1] if height is None else height)
        if min(size) < 1:
            raise InvalidValue(f"{size[0]} x {size[1]} is no size.", do="Choose 1 or more.")
        if init is not None and init.size != size:
            raise InvalidValue(
                f"The picture to begin from is {init.width} x {init.height}, and {size[0]} x "
                f"{size[1]} is asked for.",
                do="Leave the size out, or scale the picture.",
            )
        return size

    def strength_of(
        self, init: Image.Image | None, mask: Image.Image | None, strength: float | None
    ) -> float | None:
        """What is said, or 0.6 of the steps from a picture that is noised, and all of them where a
        mask holds the rest or the network is shown it."""
        if init is None and (mask is not None or strength is not None):
            raise InvalidValue(
                "A mask or a strength belongs to a picture to begin from.", do="Name it."
            )
        if self.networks.shown == "beside" and strength not in (None, 1):
            raise InvalidValue(
                "This model is shown the picture and begins at noise.", do="Leave strength out."
            )
        if init is None or strength is not None:
            return strength
        return 0.6 if mask is None and not self.networks.shown else 1.0

    def apart(
        self, approximation: Approximation | None, refiner: TextToImage | None
    ) -> dict[str, Any]:
        """What a recipe says of how a picture is not the exact one."""
        said = [INT8] if self.in_int8 else []
        said += [f"{INT8} refiner"] if refiner is not None and refiner.in_int8 else []
        said += [] if approximation is None else [str(approximation)]
        kind = str(self.networks.dtype).removeprefix("torch.")
        return {"approximations": tuple(said), "dtype": kind}

    def recipe(
        self,
        prompt: str,
        negative_prompt: str,
        seed: int,
        sampling: Sampling,
        size: tuple[int, int],
    ) -> PictureRecipe:
        """What a plain picture of this model says of itself."""
        return PictureRecipe(
            prompt=prompt,
            negative_prompt=negative_prompt,
            seed=seed,
            steps=sampling.steps,
            guidance=sampling.guidance,
            shift=sampling.shift,
            solver=sampling.solver,
            spacing=sampling.spacing,
            noise=sampling.noise,
            strength=sampling.strength,
            true_guidance=sampling.true_guidance if self.networks.true_guided else None,
            loras=self.adapters.merged,
            width=size[0],
            height=size[1],
            model=self.name,
            model_hash=self.model_hash,
            version=__version__,
        )
