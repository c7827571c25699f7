from __future__ import annotations

import pytest
import torch

from skilldistill.errors import ConfigurationError
from skilldistill.learning.device import pick_device, product_dtype


def test_a_device_that_is_not_there_is_named() -> None:
    assert pick_device("cpu").type == "cpu"
    with pytest.raises(ConfigurationError, match="'warp'"):
        pick_device("warp")


def test_bfloat16_is_used_only_where_it_is_wanted_and_native() -> None:
    cpu = torch.device("cpu")
    assert product_dtype(False, cpu) == torch.float32
    assert product_dtype(True, torch.device("meta")) == torch.float32
    native = torch.cpu._is_avx512_bf16_supported()
    assert (product_dtype(True, cpu) == torch.bfloat16) == native
