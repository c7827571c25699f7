"""Adam over one vector instead of many small tensors.

A step over a network's dozen tensors costs several times what its arithmetic does. While a
:class:`FlatAdam` is open, the parameters of an optimiser's group, their gradients and Adam's two
moments are views of one vector each, and a step is one call. Closing it gives every parameter
and the optimiser's state tensors of their own again, so that whoever saves them sees nothing of
this.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam

MOMENTS = ("exp_avg", "exp_avg_sq")


class FlatAdam:
    """One group of an optimiser, laid out flat; made by :func:`flattened`.

    Args:
        optimizer: Adam, without AMSGrad, which would be a third moment.
        group: which of its parameter groups.

    Attributes:
        gradient: (numbers,) all gradients; each parameter's ``grad`` is a view of it.
    """

    def __init__(self, optimizer: torch.optim.Adam, group: int) -> None:
        self._settings = optimizer.param_groups[group]
        assert not self._settings["amsgrad"]
        self._state = optimizer.state
        self._parameters: list[Tensor] = self._settings["params"]
        states = [self._state[p] for p in self._parameters]
        known = bool(states[0])
        first = states[0]["step"] if known else torch.zeros((), device=self._parameters[0].device)
        self._steps = first.clone()
        self._values = _flat([p.detach() for p in self._parameters])
        self.gradient = torch.zeros_like(self._values)
        self._moments = [
            _flat([s[name] for s in states]) if known else torch.zeros_like(self._values)
            for name in MOMENTS
        ]
        for parameter, value, slope in zip(
            self._parameters, self._views(self._values), self._views(self.gradient), strict=True
        ):
            parameter.data, parameter.grad = value, slope

    def step(self) -> None:
        """Adam's step by :attr:`gradient`, at the group's learning rate as it is now."""
        settings = self._settings
        average, square = self._moments
        adam(
            [self._values], [self.gradient], [average], [square], [], [self._steps],
            fused=True, has_complex=False, amsgrad=False, maximize=settings["maximize"],
            weight_decay=settings["weight_decay"], lr=settings["lr"], eps=settings["eps"],
            beta1=settings["betas"][0], beta2=settings["betas"][1],
        )  # fmt: skip

    def clip(self, norm: float) -> None:
        """Scale :attr:`gradient` down to ``norm`` if it is longer."""
        longest = norm / (torch.linalg.vector_norm(self.gradient) + 1e-6)
        self.gradient.mul_(longest.clamp_(max=1.0))

    def close(self) -> None:
        """Give back tensors of their own, without gradients."""
        moments = [self._views(moment) for moment in self._moments]
        for parameter, average, square in zip(self._parameters, *moments, strict=True):
            parameter.data, parameter.grad = parameter.data.clone(), None
            self._state[parameter] = {
                "step": self._steps.clone(),
                MOMENTS[0]: average.clone(),
                MOMENTS[1]: square.clone(),
            }

    def _views(self, flat: Tensor) -> list[Tensor]:
        sizes = [parameter.numel() for parameter in self._parameters]
        parts: Any = torch.split(flat, sizes)
        return [part.view(p.shape) for part, p in zip(parts, self._parameters, strict=True)]


@contextmanager
def flattened(
    optimizer: torch.optim.Adam, groups: Sequence[int] = (0,)
) -> Iterator[list[FlatAdam]]:
    """Lay groups of an optimiser out flat for a while; other groups have no gradients meanwhile."""
    optimizer.zero_grad(set_to_none=True)
    flat = [FlatAdam(optimizer, group) for group in groups]
    try:
        yield flat
    finally:
        for group in flat:
            group.close()


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])
