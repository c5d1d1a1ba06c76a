"""What adapters of single rows cost: a U-Net asked plainly, with hooks that do nothing, with merged
weights, with a LoRA in every second row, in every row, each row another, and with LoHa.

    python -m benchmarks.adapter_rows

CPU seconds of one call, least of several, and the ratio to the plain call.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

from diptych.adapters.adapter import Adapter, Place
from diptych.adapters.changes import Change, Hadamard, LowRank
from diptych.adapters.merging import merge
from diptych.adapters.rows import RowPlan, applied, planned
from diptych.models.unet import UNet, UNetConfig

ROWS, RANK = 4, 16
SIZES = {
    "tiny": UNetConfig.tiny(),
    "81 M": UNetConfig(widths=(96, 192, 384, 384), context_width=768),
}


def adapter(unet: nn.Module, kind: str, seed: int) -> Adapter:
    """Of every linear map of the attentions."""
    generator = torch.Generator().manual_seed(seed)
    changes: dict[Place, Change] = {}
    for path, module in unet.named_modules():
        if isinstance(module, nn.Linear) and "attn" in path:
            a = torch.randn(module.out_features, RANK, generator=generator) * 0.01
            b = torch.randn(RANK, module.in_features, generator=generator)
            changes[Place("unet", path)] = (
                LowRank(a, b) if kind == "lora" else Hadamard((a, b), (a, b))
            )
    return Adapter(f"{kind} {seed}", changes)


def seconds(run: Callable[[], object], times: int) -> float:
    """The least CPU time of a call."""
    run()
    found = []
    for _ in range(times):
        begin = time.process_time()
        run()
        found.append(time.process_time() - begin)
    return min(found)


def main() -> None:
    torch.set_num_threads(1)
    for name, config in SIZES.items():
        torch.manual_seed(0)
        unet = UNet(config).eval().requires_grad_(False)
        networks = {"unet": unet}
        given = (
            torch.randn(ROWS, 4, 16, 16), torch.full((ROWS,), 500.0),
            torch.randn(ROWS, 77, config.context_width),
        )  # fmt: skip

        def call(plans: Sequence[RowPlan | None], unet: UNet = unet, given=given) -> Callable:
            def run() -> None:
                with torch.inference_mode(), applied(plans):
                    unet(*given)

            return run

        times = 20 if name == "tiny" else 5
        plain = seconds(call([]), times)
        loras = [planned(networks, [(adapter(unet, "lora", i), 1.0)]) for i in range(ROWS)]
        loha = planned(networks, [(adapter(unet, "loha", 0), 1.0)])
        merged = merge(networks, [(adapter(unet, "lora", 0), 1.0)])
        as_merged = seconds(call([]), times)
        merged.undo()
        cases = {
            "hooks that do nothing": [],
            "LoRA in half of the rows": [loras[0], None] * (ROWS // 2),
            "LoRA in all rows": [loras[0]] * ROWS,
            "another LoRA in each row": loras,
            "LoHa in all rows": [loha] * ROWS,
        }
        print(f"{name}, {ROWS} rows of 16 x 16: {plain * 1e3:.1f} ms")
        print(f"  {'merged':<28}{as_merged / plain:5.2f} x")
        for case, plans in cases.items():
            print(f"  {case:<28}{seconds(call(plans), times) / plain:5.2f} x")


if __name__ == "__main__":
    main()
