"""How many threads share a product."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

FEW_ROWS = 256
"""Rows up to which a network plays in one thread; actions do not depend on it."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in this thread alone.

    A second one saves a fraction of a millisecond per tick at best. Where another process wants
    the same core, each of a tick's products waits for its turn, which is a hundred times as long.
    """
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
