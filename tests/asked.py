"""A stop check that looks around whenever it is asked."""

from __future__ import annotations

import torch


class ThreadsAsked:
    """Never stops anything; remembers with how many threads torch was working."""

    def __init__(self) -> None:
        self.found: set[int] = set()

    def __call__(self) -> int:
        self.found.add(torch.get_num_threads())
        return 0
