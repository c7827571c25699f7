"""``experts add`` publishes what the file does, or nothing at all."""

from __future__ import annotations

import os
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from skilldistill import domain as domains
from skilldistill.config import ExpertsAddConfig
from skilldistill.errors import ConfigurationError, CorruptFile, SpaceMismatch, UnsupportedExpert
from skilldistill.experts.network import Expert
from skilldistill.stages.experts_add import experts_add
from skilldistill.workspace.store import Workspace
from tests.experts.bare_zoo import ZOO
from tests.experts.hostile import HOSTILE
from tests.experts.zoo import make_model, observations, save_zip


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setitem(domains._registered, "zoo", ZOO)
    return Workspace.create(tmp_path / "workspace")


def config(name: str, path: Path, **changes: object) -> ExpertsAddConfig:
    return ExpertsAddConfig(**{"name": name, "path": str(path), "domain": "zoo", **changes})  # type: ignore[arg-type]


def listing(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else b""
        for path in root.rglob("*")
        if "lock" not in path.name
    }


def test_the_published_expert_plays_like_the_model(workspace: Workspace, tmp_path: Path) -> None:
    model = make_model("aim")
    model.save(tmp_path / "policy.zip")
    result = experts_add(workspace, config("aim", tmp_path / "policy.zip"))
    expert = Expert.load(Path(result.path))
    played, _ = model.predict(observations("aim"), deterministic=True)
    np.testing.assert_allclose(expert.distribution(observations("aim")).mean, played, atol=1e-5)
    assert result.layers == (5, 64, 64, 2)
    assert not result.trusted
    artefact = workspace.resolve("expert:aim@1")
    assert artefact.metrics["skill"] == "aim"
    assert artefact.metrics["sha256"] == result.sha256 == expert.sha256


@pytest.mark.parametrize("trusted", [False, True])
def test_an_experts_normaliser_comes_with_it(
    trusted: bool, workspace: Workspace, tmp_path: Path
) -> None:
    unusual = {"activation_fn": partial(nn.LeakyReLU, 0.3)}  # what only its pickle tells
    path = save_zip(tmp_path, "aim", policy_kwargs=unusual if trusted else {})
    plain = experts_add(workspace, config("aim", path, trust_pickle=trusted))
    assert not plain.normalised
    np.savez(tmp_path / "seen.npz", mean=np.full(5, 0.25), var=np.full(5, 4.0))
    scaled = experts_add(
        workspace,
        config("aim", path, trust_pickle=trusted, normaliser=str(tmp_path / "seen.npz")),
    )
    assert (scaled.normalised, scaled.trusted) == (True, trusted)
    seen = observations("aim")
    np.testing.assert_allclose(
        Expert.load(Path(scaled.path)).distribution(seen).mean,
        Expert.load(Path(plain.path)).distribution((seen - 0.25) / 2).mean,
        atol=1e-5,
    )


@pytest.mark.parametrize("trusted", [False, True])
def test_an_agent_from_behind_vec_normalize_is_missed_its_statistics(
    trusted: bool, workspace: Workspace, tmp_path: Path
) -> None:
    model = make_model(
        "aim", policy_kwargs={"activation_fn": partial(nn.LeakyReLU, 0.3)} if trusted else {}
    )
    path = tmp_path / "policy.zip"
    model.save(path)
    assert not experts_add(workspace, config("aim", path, trust_pickle=trusted)).lacks_statistics
    model.set_env(VecNormalize(model.get_env()), force_reset=True)
    model.learn(1)
    model.save(path)
    missed = experts_add(workspace, config("aim", path, trust_pickle=trusted))
    assert missed.trusted == trusted
    assert missed.lacks_statistics
    np.savez(tmp_path / "seen.npz", mean=np.zeros(5), var=np.ones(5))
    given = config("aim", path, trust_pickle=trusted, normaliser=str(tmp_path / "seen.npz"))
    assert not experts_add(workspace, given).lacks_statistics


def test_another_name_needs_the_skill(workspace: Workspace, tmp_path: Path) -> None:
    path = save_zip(tmp_path, "aim")
    with pytest.raises(ConfigurationError) as caught:
        experts_add(workspace, config("sharp", path))
    assert "--skill" in caught.value.hint
    result = experts_add(workspace, config("sharp", path, skill="aim"))
    assert result.ref == "expert:sharp@1"
    assert Expert.load(Path(result.path)).name == "sharp"


def test_an_expert_of_ours_can_be_added_from_its_folder(
    workspace: Workspace, tmp_path: Path
) -> None:
    first = experts_add(workspace, config("aim", save_zip(tmp_path, "aim")))
    again = experts_add(workspace, config("copy", Path(first.path), skill="aim"))
    assert again.sha256 == first.sha256
    with pytest.raises(ConfigurationError):
        experts_add(workspace, config("click", Path(first.path)))


@pytest.mark.parametrize(
    ("changes", "flag"),
    [({"trust_pickle": True}, "--trust-pickle"), ({"normaliser": "n.npz"}, "--normaliser")],
)
def test_flags_that_mean_nothing_for_a_folder_are_refused(
    changes: dict[str, object], flag: str, workspace: Workspace, tmp_path: Path
) -> None:
    first = experts_add(workspace, config("aim", save_zip(tmp_path, "aim")))
    with pytest.raises(ConfigurationError, match=flag):
        experts_add(workspace, config("aim", Path(first.path), **changes))


@pytest.mark.parametrize("name", ["random", "composite", "shipped", "latest", "lazy", "a/b"])
def test_names_that_mean_something_else_are_refused(
    name: str, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(domains._registered, "zoo", replace(ZOO, opponents=("lazy",)))
    with pytest.raises(ConfigurationError, match=name) as caught:
        experts_add(workspace, config(name, save_zip(tmp_path, "aim"), skill="aim"))
    assert caught.value.hint


@pytest.mark.parametrize("member", ["expert.json", "expert.safetensors"])
def test_a_folder_with_a_pipe_in_it_is_refused(
    member: str, workspace: Workspace, tmp_path: Path
) -> None:
    folder = Path(experts_add(workspace, config("aim", save_zip(tmp_path, "aim"))).path)
    (folder / member).unlink()
    os.mkfifo(folder / member)
    with pytest.raises(CorruptFile, match="pipe"):
        experts_add(workspace, config("aim", folder))


def test_what_cannot_be_rebuilt_says_how_to_trust_it(workspace: Workspace, tmp_path: Path) -> None:
    path = save_zip(tmp_path, "aim", policy_kwargs={"activation_fn": lambda: nn.LeakyReLU(0.3)})
    before = listing(workspace.root)
    with pytest.raises(UnsupportedExpert) as caught:
        experts_add(workspace, config("aim", path))
    assert "--trust-pickle" in caught.value.hint
    assert caught.value.hint.startswith("if its network is a chain of plain layers and known")
    assert listing(workspace.root) == before
    assert experts_add(workspace, config("aim", path, trust_pickle=True)).trusted


class Sine(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin(x)


def test_where_trust_did_not_help_another_training_is_advised(
    workspace: Workspace, tmp_path: Path
) -> None:
    path = save_zip(tmp_path, "aim", policy_kwargs={"activation_fn": Sine})
    with pytest.raises(UnsupportedExpert, match="a layer of type Sine") as caught:
        experts_add(workspace, config("aim", path, trust_pickle=True))
    assert caught.value.hint.startswith("train the expert with linear layers and Identity, Tanh,")


def test_a_policy_for_other_spaces_is_not_offered_to_trust(
    workspace: Workspace, tmp_path: Path
) -> None:
    with pytest.raises(SpaceMismatch) as caught:
        experts_add(workspace, config("click", save_zip(tmp_path, "aim")))
    assert "--trust-pickle" not in caught.value.hint


@pytest.mark.parametrize("trust", [False, True])
def test_hostile_files_leave_the_workspace_as_it_was(
    trust: bool, workspace: Workspace, tmp_path: Path
) -> None:
    with zipfile.ZipFile(save_zip(tmp_path, "aim")) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    canary = tmp_path / "canary"
    before = listing(workspace.root)
    kinds = [
        "pickle_within_policy",
        "path_traversal",
        "truncated",
        "nan_weights",
        "absolute_member",
    ]
    for kind in kinds:
        path = tmp_path / f"{kind}.zip"
        HOSTILE[kind](path, members, canary)
        with pytest.raises(CorruptFile) as caught:
            experts_add(workspace, config("aim", path, trust_pickle=trust))
        assert caught.value.exit_code == 3
        assert listing(workspace.root) == before
    assert not canary.exists()
    assert not (tmp_path / "escaped").exists()
