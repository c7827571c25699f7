"""Where matrices are multiplied, and in which precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from skilldistill.errors import ConfigurationError


def pick_device(name: str) -> torch.device:
    """The torch device called ``name``; ``auto`` is a GPU where there is one, else the CPU.

    Raises:
        ConfigurationError: torch has no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()  # `meta` makes tensors, but holds nothing
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigurationError(
            f"device {name!r} cannot be used: {error}", hint="use --device auto or --device cpu"
        ) from error
    return device


def product_dtype(bf16: bool, device: torch.device) -> torch.dtype:
    """bfloat16 if it is wanted and the device multiplies faster in it, else float32."""
    if device.type == "cuda":
        faster = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        faster = device.type == "cpu" and _processor_gains()
    return torch.bfloat16 if bf16 and faster else torch.float32


def _processor_gains() -> bool:
    """Whether the processor multiplies faster in bfloat16: by what it has, not by a stopwatch.

    Measured, the answer could change from run to run, and a resumed run would be another one.
    """
    # not in every torch, and not all of it on every processor: float32 is right everywhere
    known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    # AVX512's bfloat16 gives twice float32's rate on AMD, who alone have SSE4a, and half of it on
    # Intel, where it takes AMX
    amd = bool(known.get("sse4a"))
    return bool(known.get("amx_bf16")) or (amd and bool(known.get("avx512_bf16")))
