from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from skilldistill.errors import CorruptFile, NotFound
from skilldistill.policy import checkpoint
from skilldistill.policy.network import DistilledPolicyNetwork
from skilldistill.policy.player import NetworkPolicy
from tests.tiny import DOMAIN


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    network = DistilledPolicyNetwork.for_domain(DOMAIN, 16)
    checkpoint.save(tmp_path / "c", network, config={"lr": 0.1}, metrics={"loss": float("nan")})
    return tmp_path / "c"


def edit(directory: Path, **changes: Any) -> None:
    card = json.loads((directory / "policy.json").read_text())
    (directory / "policy.json").write_text(json.dumps({**card, **changes}))


def rewrite(directory: Path, **tensors: torch.Tensor) -> None:
    """Replace tensors and the recorded hash: a file that is sound, but lies."""
    import hashlib

    path = directory / "policy.safetensors"
    save_file({**load_file(path), **tensors}, path)
    edit(directory, weights_sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def test_a_network_comes_back_as_it_was(saved: Path) -> None:
    torch.manual_seed(1)
    network = DistilledPolicyNetwork.for_domain(DOMAIN, 16)
    found = checkpoint.load(saved)
    assert found.domain is DOMAIN
    assert found.network.hidden_dim == 16
    assert found.config == {"lr": 0.1}
    assert found.metrics == {"loss": None}  # JSON has no NaN
    obs = torch.randn(9, 3)
    assert torch.equal(found.network.logits(obs), network.logits(obs))
    assert checkpoint.weights(found.network) == checkpoint.weights(network)


def test_the_card_describes_actions_as_older_versions_wrote_them(saved: Path) -> None:
    """A key more, and every checkpoint there is would be one for other spaces."""
    spaces = json.loads((saved / "policy.json").read_text())["spaces"]
    assert spaces["actions"] == [
        {"name": dim.name, "kind": dim.kind, "low": dim.low, "high": dim.high}
        for dim in DOMAIN.actions
    ]


def test_equal_weights_make_equal_bytes(saved: Path, tmp_path: Path) -> None:
    found = checkpoint.load(saved)
    again = checkpoint.save(tmp_path / "again", found.network)
    assert again.sha256 == found.sha256


def test_a_missing_file_is_not_found(saved: Path) -> None:
    (saved / "policy.safetensors").unlink()
    with pytest.raises(NotFound, match=r"policy\.safetensors"):
        checkpoint.load(saved)
    with pytest.raises(NotFound, match=r"policy\.json"):
        checkpoint.load(saved / "nowhere")


def test_a_pipe_is_not_waited_for(saved: Path) -> None:
    (saved / "policy.safetensors").unlink()
    os.mkfifo(saved / "policy.safetensors")
    with pytest.raises(CorruptFile, match="is a pipe"):
        checkpoint.load(saved)


def test_a_changed_byte_is_found(saved: Path) -> None:
    path = saved / "policy.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(CorruptFile, match="SHA-256 differs"):
        checkpoint.load(saved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "does not describe"),
        ({"format_version": 2}, "format version 2"),
        ({"hidden_dim": 10**9}, "out of range"),
        ({"hidden_dim": "16"}, "'hidden_dim' is missing or not"),
        ({"hidden_dim": 32}, "do not fit"),
        ({"spaces": {}}, "other spaces"),
    ],
)
def test_a_card_that_lies_is_refused(saved: Path, changes: dict[str, Any], message: str) -> None:
    edit(saved, **changes)
    with pytest.raises(CorruptFile, match=message) as caught:
        checkpoint.load(saved)
    assert caught.value.hint


@pytest.mark.parametrize("text", ["{", "[" * 100_000])
def test_a_card_that_is_no_json_is_refused(saved: Path, text: str) -> None:
    (saved / "policy.json").write_text(text)
    with pytest.raises(CorruptFile, match="is not JSON") as caught:
        checkpoint.load(saved)
    assert "skilldistill verify" in caught.value.hint
    (saved / "policy.json").write_text("[]")
    with pytest.raises(CorruptFile, match="does not describe") as caught:
        checkpoint.load(saved)
    assert "skilldistill ls --kind checkpoint" in caught.value.hint


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"log_std": torch.full((1,), float("nan"))}, "finite"),
        ({"log_std": torch.zeros(1, dtype=torch.float64)}, "float32"),
        ({"log_std": torch.zeros(2)}, "log_std do not fit"),
        ({"extra": torch.zeros(1)}, "extra do not fit"),
        ({"head_output.weight": torch.ones(2, 16)}, "connects one head to another"),
    ],
)
def test_tensors_that_lie_are_refused(
    saved: Path, tensors: dict[str, torch.Tensor], message: str
) -> None:
    rewrite(saved, **tensors)
    with pytest.raises(CorruptFile, match=message) as caught:
        checkpoint.load(saved)
    assert "skilldistill verify" in caught.value.hint


def test_a_file_that_holds_no_tensors_is_refused(saved: Path) -> None:
    import hashlib

    (saved / "policy.safetensors").write_bytes(b"nothing")
    edit(saved, weights_sha256=hashlib.sha256(b"nothing").hexdigest())
    with pytest.raises(CorruptFile, match="holds no tensors"):
        checkpoint.load(saved)


def test_the_documented_numpy_plays_a_checkpoint_without_the_package(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "file-formats.md"
    (code,) = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    assert "import skilldistill" not in code
    torch.manual_seed(3)
    network = DistilledPolicyNetwork.for_domain(DOMAIN, 32)
    observations = np.random.default_rng(0).normal(2, 30, (400, 3)).astype(np.float32)
    network.fit_inputs(torch.from_numpy(observations[:50]) / 4)  # some inputs are clipped
    checkpoint.save(tmp_path / "p", network, config={}, metrics={})
    documented: dict[str, Any] = {}
    exec(code, documented)
    actions = documented["read_policy"](tmp_path / "p")(observations)
    expected = NetworkPolicy(network).predict(observations)
    assert 0 < expected[:, 0].mean() < 1
    np.testing.assert_array_equal(actions[:, 0], expected[:, 0])
    np.testing.assert_allclose(actions[:, 1], expected[:, 1], atol=1e-5)
    mean = network.distribution(torch.from_numpy(observations)).mean().detach().numpy()
    np.testing.assert_allclose(actions[:, 1], mean[:, 1], atol=1e-5)
