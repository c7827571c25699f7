from __future__ import annotations

import pytest
import torch

from skilldistill.errors import ConfigurationError
from skilldistill.learning.device import (
    QUICK_ROWS,
    pick_device,
    product_dtype,
    threads_to_learn,
)


def test_a_device_that_is_not_there_is_named() -> None:
    assert pick_device("cpu").type == "cpu"
    with pytest.raises(ConfigurationError, match="'warp'"):
        pick_device("warp")


CPU = torch.device("cpu")


def test_float32_is_used_where_bfloat16_is_not_wanted_or_unheard_of() -> None:
    assert product_dtype(False, CPU) == torch.float32
    assert product_dtype(True, torch.device("meta")) == torch.float32


@pytest.mark.parametrize(
    ("capabilities", "faster"),
    [
        ({"avx512_bf16": True, "sse4a": True}, True),  # AMD, Zen 4 and later
        ({"avx512_bf16": True, "amx_bf16": True, "sse4a": False}, True),  # Intel with AMX
        # Intel whose AMX a hypervisor hides: half of float32's rate
        ({"avx512_bf16": True, "amx_bf16": False, "sse4a": False}, False),
        ({"avx512_bf16": False, "amx_bf16": False, "sse4a": True}, False),  # AMD before Zen 4
        ({}, False),
    ],
)
def test_bfloat16_is_used_where_the_processor_is_faster_in_it(
    capabilities: dict[str, bool], faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert (product_dtype(True, CPU) == torch.bfloat16) == faster


def test_a_torch_that_does_not_tell_what_the_processor_has_gets_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert product_dtype(True, CPU) == torch.float32


@pytest.mark.parametrize(
    ("amx", "rows", "bf16", "device", "alone"),
    [
        (True, QUICK_ROWS, True, "cpu", True),
        (True, QUICK_ROWS + 1, True, "cpu", False),
        (True, QUICK_ROWS, False, "cpu", False),
        (True, QUICK_ROWS, True, "cuda", False),
        (False, QUICK_ROWS, True, "cpu", False),
    ],
)
def test_quick_steps_take_one_thread(
    amx: bool,
    rows: int,
    bf16: bool,
    device: str,
    alone: bool,
    two_threads: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx}, raising=False)
    with threads_to_learn(rows, bf16, torch.device(device)):
        assert torch.get_num_threads() == (1 if alone else 2)
    assert torch.get_num_threads() == 2
