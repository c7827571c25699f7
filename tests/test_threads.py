"""Playing keeps to one thread where a second one saves next to nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from skilldistill.policy.network import DistilledPolicyNetwork
from skilldistill.policy.player import NetworkPolicy
from skilldistill.threads import FEW_ROWS, one_thread
from tests import tiny


def test_the_number_of_threads_comes_back(two_threads: None) -> None:
    with one_thread():
        assert torch.get_num_threads() == 1
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    with pytest.raises(KeyError), one_thread():
        raise KeyError
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("rows", "expected"), [(1, 1), (FEW_ROWS, 1), (FEW_ROWS + 1, 2)])
def test_few_rows_are_played_in_one_thread(
    two_threads: None, rows: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = DistilledPolicyNetwork.for_domain(tiny.DOMAIN, 16)
    asked: list[int] = []
    logits = network.logits

    def note(observations: torch.Tensor) -> torch.Tensor:
        asked.append(torch.get_num_threads())
        return logits(observations)

    monkeypatch.setattr(network, "logits", note)
    NetworkPolicy(network).predict(np.zeros((rows, 3), dtype=np.float32))
    assert asked == [expected]
    assert torch.get_num_threads() == 2


def test_actions_do_not_depend_on_the_number_of_threads(two_threads: None) -> None:
    torch.manual_seed(0)
    network = DistilledPolicyNetwork.for_domain(tiny.DOMAIN, 256)
    seen = torch.randn(200, 3)
    with torch.no_grad():
        several = network.logits(seen)
        with one_thread():
            assert torch.equal(network.logits(seen), several)
