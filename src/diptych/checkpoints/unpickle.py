"""The one program that opens a pickle: by PyTorch's weights-only loader, in a process of its own
that has little memory, little time and no network. Run as `python -m diptych.checkpoints.unpickle
FILE OUT SECONDS MEGABYTES`; prints one JSON object.
"""

from __future__ import annotations

import ctypes
import json
import pickle
import re
import resource
import sys
from collections.abc import Mapping
from typing import Any

# What a whole training state has around its weights.
_NESTS = ("state_dict", "model", "params_ema", "params", "module")
_TOO_LARGE = "it needs more memory than its size allows"
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000


def main(arguments: list[str]) -> int:
    source, out, seconds, megabytes = arguments
    alone(int(seconds), int(megabytes))
    import torch
    from safetensors.torch import save_file

    torch.set_num_threads(1)
    try:
        content = torch.load(source, map_location="cpu", weights_only=True)
        tensors, left = weights_of(content)
        save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, out)
    except MemoryError:
        print(json.dumps({"error": _TOO_LARGE}))
        return 1
    except pickle.UnpicklingError as error:
        asked = re.search(r"(?:GLOBAL|class) ([\w.]+)", str(error))
        more = f", {asked[1]}" if asked else ""
        print(json.dumps({"error": f"it asks for more than tensors{more}"}))
        return 1
    except Exception as error:  # whatever else a broken file brings up
        said = str(error).strip().splitlines() or [type(error).__name__]
        large = "allocate memory" in said[0]  # which PyTorch raises as a plain RuntimeError
        print(json.dumps({"error": _TOO_LARGE if large else said[0][:200]}))
        return 1
    print(json.dumps({"tensors": len(tensors), "left": left}))
    return 0


def alone(seconds: int, megabytes: int) -> None:
    """Take from this process what it does not need."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    unshare = getattr(ctypes.CDLL(None), "unshare", None)
    if unshare is not None:  # where the system allows it; the loader itself opens no connection
        unshare(_NEW_USER | _NEW_NETWORK)


def weights_of(content: Any) -> tuple[dict[str, Any], list[str]]:
    """The tensors of a file, and the names of what else it holds. Raises ValueError."""
    import torch

    left: list[str] = []
    while isinstance(content, Mapping):
        nest = next((n for n in _NESTS if isinstance(content.get(n), Mapping)), None)
        if nest is None:
            break
        left += [str(name) for name in content if name != nest]
        content = content[nest]
    if not isinstance(content, Mapping):
        raise ValueError("it holds no table of weights")
    tensors = {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}
    left += [str(name) for name in content if str(name) not in tensors]
    if not tensors:
        raise ValueError("it holds no tensors")
    return tensors, left


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
