"""Where matrices are multiplied, and in which precision."""

from __future__ import annotations

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
    """bfloat16 if it is wanted and the device multiplies it natively, else float32."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # private, and on x86 only: without an answer, float32 is right everywhere
        ask = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
        native = device.type == "cpu" and ask is not None and bool(ask())
    return torch.bfloat16 if bf16 and native else torch.float32
