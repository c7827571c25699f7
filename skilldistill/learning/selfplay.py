"""Opponents for training: frozen earlier selves, and how strong they are.

Ratings follow Elo's model: a player rated 400 points above another is expected to score ten
times as often (Elo, "The Rating of Chessplayers, Past and Present", 1978). The policy a run
starts from is rated :data:`START_RATING`, so ratings of different runs from it compare.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from skilldistill.domain import Policy
from skilldistill.policy.network import DistilledPolicyNetwork
from skilldistill.policy.player import NetworkPolicy

START_RATING = 1000.0
K_FACTOR = 32.0
"""Most points a match (many episodes, one score) can move a rating."""

Versus = Callable[[Policy, Policy], float]
"""Lets the first play against the second; returns the first's score in [0, 1]."""


@dataclass
class Member:
    """An earlier self."""

    steps: int
    weights: dict[str, Tensor]
    rating: float


@dataclass
class Pool:
    """Earlier selves of one network. The first member, the start, is never dropped."""

    size: int = 10
    members: list[Member] = field(default_factory=list)
    rating: float = START_RATING
    """Of the network in training."""

    def add(self, network: DistilledPolicyNetwork, steps: int) -> None:
        """Freeze a copy of ``network``; beyond ``size`` the second oldest member goes."""
        weights = {
            name: value.detach().to("cpu", copy=True)
            for name, value in network.state_dict().items()
        }
        self.members.append(Member(steps, weights, self.rating))
        if len(self.members) > self.size:
            del self.members[1]

    def draw(self, generator: torch.Generator) -> Member:
        """Half of the time the latest member, else any of them."""
        count = len(self.members)
        coin, pick = torch.rand(2, generator=generator).tolist()
        return self.members[-1] if coin < 0.5 else self.members[int(pick * count)]

    def rivals(self, count: int, generator: torch.Generator) -> list[Member]:
        """Members to be rated against: the start, the latest, and others at random."""
        others = self.members[1:-1]
        order = torch.randperm(len(others), generator=generator).tolist()
        ends = [self.members[0], self.members[-1]] if len(self.members) > 1 else self.members
        return [*ends, *(others[i] for i in order)][:count]

    def rate(
        self, player: Policy, frozen: FrozenSelf, rivals: list[Member], versus: Versus
    ) -> None:
        """Let ``player`` meet each rival (played by ``frozen``) and move the ratings.

        The start keeps its rating: it is what the others are measured by.
        """
        for rival in rivals:
            frozen.become(rival)
            surprise = versus(player, frozen) - expected_score(self.rating, rival.rating)
            self.rating += K_FACTOR * surprise
            if rival is not self.members[0]:
                rival.rating -= K_FACTOR * surprise


def expected_score(rating: float, rival: float) -> float:
    """The share of points Elo's model expects of a player rated ``rating`` against ``rival``."""
    return 1.0 / (1.0 + math.pow(10.0, (rival - rating) / 400.0))


class FrozenSelf:
    """A policy that plays whichever member of a pool it was last told to become."""

    def __init__(self, like: DistilledPolicyNetwork) -> None:
        self.network = like.twin()
        self._player = NetworkPolicy(self.network)
        self.act = self._player.act

    def become(self, member: Member) -> None:
        """Take over the weights of ``member``."""
        self.network.load_state_dict(member.weights)
