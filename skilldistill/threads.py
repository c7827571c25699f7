"""How many threads share a product."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

FEW_ROWS = 256
"""Rows up to which a network plays in one thread; actions do not depend on it."""


def threads_to_play(rows: int) -> AbstractContextManager[None]:
    """One thread for ``rows`` of up to :data:`FEW_ROWS`, else as many as there were."""
    return one_thread() if rows <= FEW_ROWS else nullcontext()


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
