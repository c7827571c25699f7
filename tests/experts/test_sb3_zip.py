"""Experts read from zips do exactly what Stable-Baselines3 does with them."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import struct
import zipfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

from skilldistill import domain as domains
from skilldistill.errors import (
    BeyondTrust,
    CorruptFile,
    NotFound,
    SpaceMismatch,
    UnsafeFile,
    UnsupportedExpert,
)
from skilldistill.experts import sb3_zip
from skilldistill.experts.activations import TORCH_NAMES
from skilldistill.experts.network import Expert
from skilldistill.experts.normaliser import read_normaliser
from skilldistill.experts.sb3_live import distribution_parameters
from skilldistill.experts.sb3_zip import from_sb3, read_trusted, read_zip
from tests.experts.bare_zoo import BOUND, ZOO
from tests.experts.hostile import HOSTILE
from tests.experts.zoo import AIM_SPACE, SPACES, Still, make_model, observations


def read(model: BaseAlgorithm, skill: str, tmp_path: Path, **kwargs: Any) -> Expert:
    path = tmp_path / "expert.zip"
    model.save(path)
    return read_zip(path, ZOO.skill(skill), ZOO, **kwargs)


def check_equal(expert: Expert, model: BaseAlgorithm, skill: str) -> None:
    seen = observations(skill)
    outputs, std = expert.parameters(seen)
    mean, deviation = distribution_parameters(model, seen)
    np.testing.assert_allclose(outputs, mean, atol=1e-5, rtol=1e-5)
    if std is not None:
        np.testing.assert_allclose(std, deviation, atol=1e-5, rtol=1e-5)
    targets = expert.distribution(seen)
    played, _ = model.predict(seen, deterministic=True)
    if expert.head == "bernoulli":
        probability = 1 / (1 + np.exp(-mean.astype(np.float64)))
        np.testing.assert_allclose(targets.mean, probability, atol=1e-5)
        clear = np.abs(targets.mean - 0.5) > 1e-4
        pressed = played.reshape(targets.mean.shape)
        np.testing.assert_array_equal((targets.mean > 0.5)[clear], pressed[clear] > 0)
        assert not targets.std.any()
    else:
        np.testing.assert_allclose(targets.mean, played, atol=1e-5)
        assert (targets.std > 0).all()


HEADS: dict[str, tuple[str, Any]] = {
    "gaussian": ("aim", AIM_SPACE),
    "bernoulli": ("move", spaces.MultiBinary(6)),
    "categorical": ("click", spaces.Discrete(2)),
    "multi_categorical": ("move", spaces.MultiDiscrete([2] * 6)),
    "one_bernoulli": ("click", spaces.MultiBinary(1)),
    "one_categorical": ("click", spaces.MultiDiscrete([2])),
}


def test_an_expert_names_its_zip_and_that_zips_hash(tmp_path: Path) -> None:
    for load in (read_zip, read_trusted):
        make_model("aim").save(tmp_path / "expert.zip")
        expert = load(tmp_path / "expert.zip", ZOO.skill("aim"), ZOO)
        content = (tmp_path / "expert.zip").read_bytes()
        assert expert.source["file"] == "expert.zip"
        assert expert.source["sha256"] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.ELU])
@pytest.mark.parametrize("head", HEADS)
def test_equals_sb3(head: str, activation: type, depth: int, tmp_path: Path) -> None:
    skill, actions = HEADS[head]
    widths = [32, 24, 48][:depth]
    settings = {"net_arch": {"pi": widths, "vf": [8]}, "activation_fn": activation}
    model = make_model(skill, actions=actions, policy_kwargs=settings, seed=depth)
    check_equal(read(model, skill, tmp_path), model, skill)


@pytest.mark.parametrize(
    "activation",
    [getattr(nn, name) for name in TORCH_NAMES if name not in ("Tanh", "ReLU", "ELU")],
    ids=lambda a: a.__name__,
)
def test_other_activations_equal_sb3(activation: type, tmp_path: Path) -> None:
    model = make_model("aim", policy_kwargs={"activation_fn": activation})
    check_equal(read(model, "aim", tmp_path), model, "aim")
    check_equal(from_sb3(model, ZOO.skill("aim"), ZOO), model, "aim")


@pytest.mark.parametrize(
    "make",
    [
        functools.partial(nn.Hardtanh, -50, 50),
        functools.partial(nn.Softplus, 1, 50),
        functools.partial(nn.GELU, approximate="tanh"),
    ],
    ids=lambda make: make.func.__name__,
)
def test_settings_of_activations_that_layers_cannot_hold_are_refused(
    make: Any, tmp_path: Path
) -> None:
    """Even where random observations would not tell the difference."""
    model = make_model("aim", policy_kwargs={"activation_fn": make})
    with pytest.raises(UnsupportedExpert, match="of its own"):
        from_sb3(model, ZOO.skill("aim"), ZOO)


def test_the_alpha_of_celu_is_kept(tmp_path: Path) -> None:
    celu = functools.partial(nn.CELU, 0.4)
    model = make_model("aim", policy_kwargs={"activation_fn": celu})
    check_equal(from_sb3(model, ZOO.skill("aim"), ZOO), model, "aim")


@pytest.mark.parametrize("squash", [True, False])
@pytest.mark.parametrize("full_std", [True, False])
@pytest.mark.parametrize("use_expln", [True, False])
def test_state_dependent_noise_equals_sb3(
    squash: bool, full_std: bool, use_expln: bool, tmp_path: Path
) -> None:
    settings = {"squash_output": squash, "full_std": full_std, "use_expln": use_expln}
    model = make_model("aim", use_sde=True, policy_kwargs={**settings, "log_std_init": -0.3})
    expert = read(model, "aim", tmp_path)
    assert expert.head == ("squashed" if squash else "gaussian")
    check_equal(expert, model, "aim")


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("skill", SPACES)
def test_a2c_and_features_extractors_equal_sb3(skill: str, shared: bool, tmp_path: Path) -> None:
    settings = {"share_features_extractor": shared, "net_arch": [64, 64]}
    model = make_model(skill, algorithm="A2C", policy_kwargs=settings)
    expert = read(model, skill, tmp_path)
    assert expert.source["algorithm"] == "A2C"
    check_equal(expert, model, skill)


def test_squashed_targets_have_the_spread_of_sampled_actions(tmp_path: Path) -> None:
    settings = {"squash_output": True, "log_std_init": -1.0}
    model = make_model("aim", use_sde=True, policy_kwargs=settings)
    expert = read(model, "aim", tmp_path)
    seen = observations("aim", rows=1)
    outputs, std = expert.parameters(seen)
    assert std is not None
    rng = np.random.default_rng(0)
    played = BOUND * np.tanh(outputs + std * rng.normal(size=(200_000, 2)))
    np.testing.assert_allclose(expert.distribution(seen).std[0], played.std(axis=0), rtol=0.02)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_normaliser_equals_vecnormalize(suffix: str, tmp_path: Path) -> None:
    model = make_model("aim")
    env = VecNormalize(DummyVecEnv([lambda: Still(model.observation_space, AIM_SPACE)]), clip_obs=2)
    rng = np.random.default_rng(0)
    env.obs_rms.mean, env.obs_rms.var = rng.normal(size=5), rng.uniform(0.01, 0.3, 5)
    arrays = {
        "mean": env.obs_rms.mean,
        "var": env.obs_rms.var,
        "epsilon": np.array(env.epsilon),
        "clip_obs": np.array(env.clip_obs, dtype=np.float64),
    }
    path = tmp_path / f"vecnormalize{suffix}"
    if suffix == ".npz":
        np.savez(path, **arrays)
    else:
        from safetensors.numpy import save_file

        save_file(arrays, path)
    expert = read(model, "aim", tmp_path, normaliser=path)
    seen = observations("aim")
    played, _ = model.predict(env.normalize_obs(seen), deterministic=True)
    np.testing.assert_allclose(expert.distribution(seen).mean, played, atol=1e-5)


def npy(header: str, body: bytes = bytes(40), version: tuple[int, int] = (1, 0)) -> bytes:
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H", len(header)) + header.encode() + body


def with_shape(shape: str) -> str:
    return f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}"


@pytest.mark.parametrize(
    "member",
    [
        npy(with_shape("(" + "-" * 9000 + "5,)")),
        npy(with_shape("(" * 4000 + "5" + ")" * 4000)),
        npy(with_shape("(True,)"), bytes(8)),
        npy(with_shape("(-5,)")),
        npy(with_shape("(5,)L")),
        npy(with_shape("(99999999999999999999,)")),
        npy(with_shape("(5,)"), version=(9, 0)),
        npy("{[]: 1}"),
        npy("{'descr"),
        b"",
    ],
    ids=lambda member: member[10:80].decode("latin-1") or "nothing",
)
def test_arrays_with_a_mad_header_are_refused(member: bytes, tmp_path: Path) -> None:
    path = tmp_path / "n.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mean.npy", member)
        archive.writestr("var.npy", npy(with_shape("(5,)")))
    with pytest.raises(CorruptFile):
        read_normaliser(path)


def test_other_entries_beside_the_statistics_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "n.npz"
    np.savez(path, mean=np.zeros(5), var=np.ones(5), training=np.array(True), name=np.array("x"))
    assert read_normaliser(path).mean.shape == (5,)


@pytest.mark.parametrize("kind", ["a_pipe", "an_endless_device", "a_circle_of_links"])
def test_a_normaliser_that_is_no_file_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "n.npz"
    HOSTILE[kind](path, {}, tmp_path / "canary")
    with pytest.raises(CorruptFile):
        read_normaliser(path)
    with pytest.raises(NotFound):
        read_normaliser(tmp_path / "none.npz")


def test_a_pickled_normaliser_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "vecnormalize.pkl"
    path.write_bytes(b"\x80\x04N.")
    with pytest.raises(UnsafeFile) as caught:
        read(make_model("aim"), "aim", tmp_path, normaliser=path)
    assert "np.savez" in caught.value.hint
    hidden = tmp_path / "vecnormalize.npz"
    np.savez(hidden, mean=np.array([object()] * 5), var=np.ones(5))
    with pytest.raises(UnsafeFile, match="pickled objects"):
        read(make_model("aim"), "aim", tmp_path, normaliser=hidden)


@pytest.mark.parametrize(
    "arrays",
    [
        {"mean": np.zeros(5)},
        {"mean": np.zeros(4), "var": np.ones(4)},
        {"mean": np.zeros(5), "var": np.full(5, np.nan)},
        {"mean": np.zeros(5), "var": np.full(5, -1.0)},
        {"mean": np.zeros((5, 1)), "var": np.ones(5)},
        {"mean": np.zeros(5), "var": np.ones(5), "clip_obs": np.array(-1.0)},
    ],
)
def test_senseless_normalisers_are_refused(arrays: dict[str, Any], tmp_path: Path) -> None:
    np.savez(tmp_path / "n.npz", **arrays)
    with pytest.raises(CorruptFile):
        read(make_model("aim"), "aim", tmp_path, normaliser=tmp_path / "n.npz")


@pytest.mark.parametrize(
    ("skill", "kwargs", "parts"),
    [
        ("move", {"skill": "move", "actions": spaces.MultiBinary(4)}, ["(4)", "MultiBinary(6)"]),
        ("move", {"skill": "move", "obs_dim": 7}, ["Box(-1, 1, (7,))", "Box((20,))"]),
        ("click", {"skill": "aim", "obs_dim": 9}, ["Box(-0.628", "Discrete(2)"]),
        (
            "click",
            {"skill": "click", "actions": spaces.Discrete(3)},
            ["Discrete(3)", "Discrete(2)"],
        ),
        (
            "click",
            {"skill": "click", "actions": spaces.Discrete(2, start=1)},
            ["starting at (1,)", "Discrete(2)"],
        ),
        (
            "aim",
            {"skill": "aim", "actions": spaces.Box(-1, 1, (2,), np.float32)},
            ["Box(-1, 1, (2,))", "Box(-0.628"],
        ),
        ("aim", {"skill": "aim", "actions": spaces.MultiBinary(2)}, ["MultiBinary(2)", "Box("]),
    ],
)
def test_other_spaces_are_refused_naming_both(
    skill: str, kwargs: dict[str, Any], parts: list[str], tmp_path: Path
) -> None:
    with pytest.raises(SpaceMismatch) as caught:
        read(make_model(**kwargs), skill, tmp_path)
    for part in parts:
        assert part in str(caught.value)
    assert caught.value.exit_code == 3
    assert caught.value.hint == "train it in an environment with that skill's spaces"


def test_the_skills_own_environment_is_named(tmp_path: Path) -> None:
    duel = domains.find("duel")
    make_model("aim").save(tmp_path / "expert.zip")
    with pytest.raises(SpaceMismatch) as caught:
        read_zip(tmp_path / "expert.zip", duel.skill("movement"), duel)
    assert caught.value.hint == "it has the spaces of skill aiming: give --skill aiming"
    make_model("aim", obs_dim=11).save(tmp_path / "expert.zip")
    with pytest.raises(SpaceMismatch) as caught:
        read_zip(tmp_path / "expert.zip", duel.skill("clicking"), duel)
    own = "train it in skilldistill/Clicking-v0 with that skill's spaces"
    assert caught.value.hint == own


def test_a_skill_that_has_the_files_spaces_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpaceMismatch) as caught:
        read(make_model("aim"), "click", tmp_path)
    assert caught.value.hint == "it has the spaces of skill aim: give --skill aim"


def edit(
    path: Path,
    change_data: Callable[[dict[str, Any]], None] = lambda data: None,
    change_weights: Callable[[dict[str, Any]], None] = lambda weights: None,
) -> None:
    """Rewrite a zip's JSON text and weights."""
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    data = json.loads(members["data"])
    change_data(data)
    members["data"] = json.dumps(data).encode()
    weights = torch.load(io.BytesIO(members["policy.pth"]), weights_only=True)
    change_weights(weights)
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    members["policy.pth"] = buffer.getvalue()
    with zipfile.ZipFile(path, "w") as new:
        for name, content in members.items():
            new.writestr(name, content)


@pytest.mark.parametrize("change", ["another number", "a missing tensor"])
def test_weights_that_torch_reads_differently_are_refused(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "expert.zip"
    make_model("aim").save(path)
    load = torch.load

    def differently(*args: Any, **kwargs: Any) -> Any:
        weights = load(*args, **kwargs)
        bias = weights.pop("action_net.bias")
        return weights if change == "a missing tensor" else {**weights, "action_net.bias": bias + 1}

    monkeypatch.setattr(torch, "load", differently)
    with pytest.raises(CorruptFile, match=r"torch reads 'action_net\.bias' differently"):
        read_zip(path, ZOO.skill("aim"), ZOO)


def test_zips_of_sb3_1_with_shared_layers_and_gym_spaces(tmp_path: Path) -> None:
    """Up to SB3 1.7 the first layers could be shared with the critic, and spaces came from gym."""
    model = make_model("aim", policy_kwargs={"net_arch": [16, 12]})
    path = tmp_path / "old.zip"
    model.save(path)

    def change_data(data: dict[str, Any]) -> None:
        data["policy_kwargs"] = {"net_arch": [16, {"pi": [12], "vf": [12]}]}
        for field in ("observation_space", "action_space"):
            entry = data[field]
            entry[":type:"] = entry[":type:"].replace("gymnasium", "gym")
            entry["shape"] = entry.pop("_shape")

    def change_weights(weights: dict[str, Any]) -> None:
        for what in ("weight", "bias"):
            weights[f"mlp_extractor.shared_net.0.{what}"] = weights.pop(
                f"mlp_extractor.policy_net.0.{what}"
            )
            weights[f"mlp_extractor.policy_net.0.{what}"] = weights.pop(
                f"mlp_extractor.policy_net.2.{what}"
            )

    edit(path, change_data, change_weights)
    check_equal(read_zip(path, ZOO.skill("aim"), ZOO), model, "aim")


class Doubled(BaseFeaturesExtractor):
    """Features no list of layers can express."""

    def __init__(self, space: Any) -> None:
        super().__init__(space, 5)

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        return seen * seen


class Dense(BaseFeaturesExtractor):
    def __init__(self, space: Any) -> None:
        super().__init__(space, 7)
        self.net = nn.Sequential(nn.Linear(5, 7), nn.ReLU())

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        return self.net(seen)


def test_what_the_text_cannot_tell_is_refused_until_trusted(tmp_path: Path) -> None:
    leaky = functools.partial(nn.LeakyReLU, 0.3)
    for settings in ({"activation_fn": leaky}, {"features_extractor_class": Dense}):
        model = make_model("aim", policy_kwargs=settings)
        with pytest.raises(UnsupportedExpert):
            read(model, "aim", tmp_path)
        expert = read_trusted(tmp_path / "expert.zip", ZOO.skill("aim"), ZOO)
        assert expert.source["kind"] == "sb3_trusted"
        check_equal(expert, model, "aim")


class Squared(Dense):
    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        return self.net(seen) ** 2


@pytest.mark.parametrize(("extractor", "reason"), [(Doubled, "Doubled"), (Squared, "does more")])
def test_trusting_does_not_accept_what_layers_cannot_express(
    extractor: type, reason: str, tmp_path: Path
) -> None:
    model = make_model("aim", policy_kwargs={"features_extractor_class": extractor})
    model.save(tmp_path / "expert.zip")
    with pytest.raises(UnsupportedExpert, match=reason):
        read_trusted(tmp_path / "expert.zip", ZOO.skill("aim"), ZOO)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_weights_of_other_precision(dtype: torch.dtype, tmp_path: Path) -> None:
    model = make_model("aim")
    model.policy.to(dtype)
    path = tmp_path / "expert.zip"
    model.save(path)
    model.policy.to(torch.float32)
    check_equal(read_zip(path, ZOO.skill("aim"), ZOO), model, "aim")


def test_trusting_does_not_load_a_policy_of_another_skill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import stable_baselines3

    make_model("aim").save(tmp_path / "expert.zip")
    monkeypatch.setattr(
        stable_baselines3.PPO, "load", lambda *a, **k: pytest.fail("the pickle was loaded")
    )
    with pytest.raises(SpaceMismatch):
        read_trusted(tmp_path / "expert.zip", ZOO.skill("click"), ZOO)


def test_a_long_kind_of_space_is_named_in_short(tmp_path: Path) -> None:
    path = tmp_path / "expert.zip"
    make_model("aim").save(path)
    name = f"<class 'gymnasium.spaces.{'A' * 10_000}'>"
    edit(path, lambda data: data["observation_space"].update({":type:": name}))
    with pytest.raises(SpaceMismatch) as caught:
        read_zip(path, ZOO.skill("aim"), ZOO)
    assert len(str(caught.value)) < 300


class Marking(Dense):
    """Leaves a trace when it is loaded."""

    trace: Path

    def __init__(self, space: Any) -> None:
        super().__init__(space)
        self.trace.touch()


def test_trusting_runs_nothing_of_a_policy_for_another_skill(tmp_path: Path) -> None:
    """One that the text alone cannot describe, so that SB3 would have to load it."""
    Marking.trace = tmp_path / "trace"
    path = tmp_path / "expert.zip"
    make_model("aim", policy_kwargs={"features_extractor_class": Marking}).save(path)
    Marking.trace.unlink()
    with pytest.raises(SpaceMismatch):
        read_trusted(path, ZOO.skill("click"), ZOO)
    assert not Marking.trace.exists()
    assert read_trusted(path, ZOO.skill("aim"), ZOO).source["kind"] == "sb3_trusted"
    assert Marking.trace.exists()


def test_what_is_trusted_is_what_was_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another file under the same name, put there between the check and the loading."""
    import stable_baselines3

    path = tmp_path / "expert.zip"
    model = make_model("aim", policy_kwargs={"features_extractor_class": Dense})
    model.save(path)
    load = stable_baselines3.PPO.load

    def exchange(*args: Any, **kwargs: Any) -> Any:
        path.write_bytes(b"something else")
        return load(*args, **kwargs)

    monkeypatch.setattr(stable_baselines3.PPO, "load", exchange)
    check_equal(read_trusted(path, ZOO.skill("aim"), ZOO), model, "aim")


class Leaving(Dense):
    """Ends the program, saying that all is well."""

    armed = ""

    def __init__(self, space: Any) -> None:
        super().__init__(space)
        if self.armed == "made":
            raise SystemExit(0)

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        if self.armed == "played":
            raise SystemExit(0)
        return super().forward(seen)


@pytest.mark.parametrize("when", ["made", "played"])
def test_a_trusted_file_cannot_end_the_program(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "expert.zip"
    make_model("aim", policy_kwargs={"features_extractor_class": Leaving}).save(path)
    monkeypatch.setattr(Leaving, "armed", when)
    with pytest.raises(UnsupportedExpert, match="SystemExit"):
        read_trusted(path, ZOO.skill("aim"), ZOO)


def test_long_histories_of_episodes_do_not_matter(tmp_path: Path) -> None:
    """SB3 pickles them into the zip, where nobody loads them."""
    model = make_model("aim", stats_window_size=10_000)
    rng = np.random.default_rng(0)
    model.ep_info_buffer = deque(
        {"r": float(rng.normal()), "l": int(rng.integers(400)), "t": float(rng.uniform(0, 1e4))}
        for _ in range(10_000)
    )
    check_equal(read(model, "aim", tmp_path), model, "aim")


@pytest.mark.parametrize(
    "left_out", ["policy_kwargs", "action_space", "observation_space", "use_sde"]
)
def test_what_was_left_out_when_saving_is_said(left_out: str, tmp_path: Path) -> None:
    path = tmp_path / "expert.zip"
    make_model("aim", use_sde=True).save(path, exclude=[left_out])
    with pytest.raises(UnsupportedExpert, match=left_out) as caught:
        read_zip(path, ZOO.skill("aim"), ZOO)
    beyond_trust = left_out.endswith("_space")
    assert caught.type is (BeyondTrust if beyond_trust else UnsupportedExpert)
    assert ("cannot help" in caught.value.hint) == beyond_trust
    if left_out != "policy_kwargs":  # without them SB3 takes its defaults, which are right here
        with pytest.raises(UnsupportedExpert, match=left_out):
            read_trusted(path, ZOO.skill("aim"), ZOO)


def test_without_state_dependent_noise_its_flag_is_not_needed(tmp_path: Path) -> None:
    model = make_model("aim")
    model.save(tmp_path / "expert.zip", exclude=["use_sde"])
    check_equal(read_zip(tmp_path / "expert.zip", ZOO.skill("aim"), ZOO), model, "aim")


def test_a_missing_clip_range_does_not_make_ppo_an_a2c(tmp_path: Path) -> None:
    make_model("aim").save(tmp_path / "expert.zip", exclude=["clip_range"])
    expert = read_zip(tmp_path / "expert.zip", ZOO.skill("aim"), ZOO)
    assert expert.source["algorithm"] == "PPO"


def test_trust_loads_nothing_of_another_algorithm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = spaces.Box(-1, 1, (5,), np.float32)
    env = Still(space, SPACES["aim"])
    SAC("MlpPolicy", env, buffer_size=1, policy_kwargs={"net_arch": [4]}).save(tmp_path / "sac.zip")
    monkeypatch.setattr(sb3_zip, "_load", lambda *_: pytest.fail("its pickles were loaded"))
    with pytest.raises(BeyondTrust, match="policy class") as caught:
        read_trusted(tmp_path / "sac.zip", ZOO.skill("aim"), ZOO)
    assert "train the expert with PPO or A2C" in caught.value.hint


@pytest.mark.parametrize("activation", [nn.PReLU, nn.RReLU])
def test_trust_is_not_offered_where_it_cannot_help(activation: type, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedExpert, match="Mish") as caught:
        read(make_model("aim", policy_kwargs={"activation_fn": activation}), "aim", tmp_path)
    assert "cannot help" in caught.value.hint
    with pytest.raises(UnsupportedExpert):
        read_trusted(tmp_path / "expert.zip", ZOO.skill("aim"), ZOO)


@pytest.mark.parametrize("ends", [b"\r\n", b"\t\n"])
def test_system_information_may_come_from_windows(ends: bytes, tmp_path: Path) -> None:
    path = tmp_path / "expert.zip"
    make_model("aim").save(path)
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    members["system_info.txt"] = members["system_info.txt"].replace(b"\n", ends)
    with zipfile.ZipFile(path, "w") as new:
        for name, content in members.items():
            new.writestr(name, content)
    read_zip(path, ZOO.skill("aim"), ZOO)


@pytest.mark.parametrize("skill", SPACES)
def test_live_models_equal_sb3(skill: str) -> None:
    model = make_model(skill)
    expert = from_sb3(model, ZOO.skill(skill), ZOO)
    check_equal(expert, model, skill)


def test_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_zip(tmp_path / "none.zip", ZOO.skill("aim"), ZOO)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda data: data["policy_class"].update(__module__="my_policies"), UnsupportedExpert),
        (lambda data: data.pop("policy_class"), UnsupportedExpert),
        (lambda data: data.pop("policy_kwargs"), CorruptFile),
        (lambda data: data["action_space"].update(low="[nan ... nan]"), UnsupportedExpert),
        (lambda data: data["action_space"].update(low="[-0.6]"), CorruptFile),
        (lambda data: data["action_space"].update(low=10**400), UnsupportedExpert),
        (lambda data: data["observation_space"].update({":type:": "<class 'x.Y'>"}), CorruptFile),
        (lambda data: data.update(use_sde="yes"), CorruptFile),
        (lambda data: data.update(use_sde=True), CorruptFile),
        (lambda data: data.update(policy_kwargs={"squash_output": True}), CorruptFile),
        (lambda data: data.update(policy_kwargs={"net_arch": [64, 65]}), CorruptFile),
        (
            lambda data: data.update(policy_kwargs={"activation_fn": "<class 'os.system'>"}),
            UnsupportedExpert,
        ),
    ],
)
def test_text_that_contradicts_the_weights_is_refused(
    change: Callable[[dict[str, Any]], None], error: type[CorruptFile], tmp_path: Path
) -> None:
    path = tmp_path / "expert.zip"
    make_model("aim").save(path)
    edit(path, change)
    with pytest.raises(error):
        read_zip(path, ZOO.skill("aim"), ZOO)
