"""The SB3 policy: its distribution, its actions, and its zip."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import PPO
from torch import Tensor

from skilldistill import domain as domains
from skilldistill.errors import ConfigurationError
from skilldistill.learning.vecenv import SB3VecEnv
from skilldistill.policy.heads import ActionLayout
from skilldistill.policy.network import DistilledPolicyNetwork
from skilldistill.policy.player import NetworkPolicy
from skilldistill.policy.sb3 import (
    DistilledPolicy,
    MixedDistribution,
    make_critic,
    unified_spaces,
)
from tests import tiny

LAYOUT = ActionLayout(tiny.DOMAIN)  # one button, one turn within ±0.5
outputs = st.tuples(st.floats(-8, 8), st.floats(-3, 3))
log_stds = st.floats(-3, 0.5)


def mixed(z: tuple[float, float], log_std: float, rows: int = 1) -> MixedDistribution:
    return MixedDistribution(LAYOUT).proba_distribution(
        torch.tensor([z], dtype=torch.float64).expand(rows, 2),
        torch.tensor([log_std], dtype=torch.float64),
    )


def torch_parts(
    z: tuple[float, float], log_std: float
) -> tuple[torch.distributions.Bernoulli, torch.distributions.Normal]:
    button = torch.distributions.Bernoulli(logits=torch.tensor(z[0], dtype=torch.float64))
    mean = 0.5 * torch.tanh(torch.tensor(z[1], dtype=torch.float64))
    std = 0.5 * torch.tensor(log_std, dtype=torch.float64).exp()
    return button, torch.distributions.Normal(mean, std)


@given(z=outputs, log_std=log_stds, press=st.booleans(), turn=st.floats(-1, 1))
def test_log_probability_and_entropy_are_torchs(
    z: tuple[float, float], log_std: float, press: bool, turn: float
) -> None:
    button, normal = torch_parts(z, log_std)
    distribution = mixed(z, log_std)
    action = torch.tensor([[float(press), turn]], dtype=torch.float64)
    expected = button.log_prob(action[0, 0]) + normal.log_prob(action[0, 1])
    assert distribution.log_prob(action).item() == pytest.approx(expected.item(), abs=1e-5)
    entropy = button.entropy() + normal.entropy()
    assert distribution.entropy().item() == pytest.approx(entropy.item(), abs=1e-6)


@settings(max_examples=25)
@given(z=outputs, log_std=log_stds)
def test_density_integrates_to_one_and_its_entropy_is_the_integral(
    z: tuple[float, float], log_std: float
) -> None:
    distribution = mixed(z, log_std, rows=4001)
    mean, std = 0.5 * np.tanh(z[1]), 0.5 * np.exp(log_std)
    turns = torch.linspace(mean - 12 * std, mean + 12 * std, 4001, dtype=torch.float64)
    mass, entropy = 0.0, 0.0
    for press in (0.0, 1.0):
        grid = torch.stack([torch.full_like(turns, press), turns], dim=1)
        log_prob = distribution.log_prob(grid)
        density = log_prob.exp()
        mass += torch.trapezoid(density, turns).item()
        entropy += torch.trapezoid(-density * log_prob, turns).item()
    assert mass == pytest.approx(1.0, abs=1e-6)
    assert distribution.entropy()[0].item() == pytest.approx(entropy, abs=1e-5)


def test_samples_follow_the_probabilities() -> None:
    torch.manual_seed(0)
    n = 40_000
    logits = torch.tensor([[0.4, 0.7]]).expand(n, 2)
    distribution = MixedDistribution(LAYOUT)
    actions = distribution.actions_from_params(logits, torch.tensor([-1.0]))
    assert set(actions[:, 0].unique().tolist()) == {0.0, 1.0}
    assert actions[:, 0].mean().item() == pytest.approx(1 / (1 + np.exp(-0.4)), abs=0.01)
    assert actions[:, 1].mean().item() == pytest.approx(0.5 * np.tanh(0.7), abs=0.005)
    assert actions[:, 1].std().item() == pytest.approx(0.5 * np.exp(-1.0), rel=0.02)
    drawn, log_prob = distribution.log_prob_from_params(logits[:5], torch.tensor([-1.0]))
    torch.testing.assert_close(log_prob, distribution.log_prob(drawn))


@given(z=outputs)
def test_the_mode_is_likeliest(z: tuple[float, float]) -> None:
    distribution = mixed(z, -1.0)
    mode = distribution.mode()
    best = distribution.log_prob(mode).item()
    for press, offset in itertools.product((0.0, 1.0), (-0.1, 0.0, 0.1)):
        other = torch.tensor([[press, mode[0, 1].item() + offset]], dtype=torch.float64)
        assert distribution.log_prob(other).item() <= best + 1e-9


# the policy ----------------------------------------------------------------------------------


def policy_for(domain: domains.Domain, **settings: object) -> DistilledPolicy:
    observations, actions = unified_spaces(domain)
    return DistilledPolicy(
        observations, actions, lambda _: 3e-4, domain=domain.name, hidden_dim=32, **settings
    )


def test_deterministic_predictions_are_the_distilled_policys() -> None:
    torch.manual_seed(1)
    network = DistilledPolicyNetwork.for_domain(tiny.DOMAIN, 32)
    policy = policy_for(tiny.DOMAIN)
    policy.network.load_state_dict(network.state_dict())
    observations = np.random.default_rng(0).uniform(-1, 1, (500, 3)).astype(np.float32)
    played, _ = policy.predict(observations, deterministic=True)
    expected = NetworkPolicy(network).predict(observations)
    np.testing.assert_allclose(played, expected, atol=1e-6)


def test_samples_and_modes_are_legal() -> None:
    policy = policy_for(tiny.DOMAIN)
    with torch.no_grad():
        policy.network.log_std.fill_(2.0)  # far wider than the range
    observations = np.zeros((300, 3), dtype=np.float32)
    for deterministic in (True, False):
        actions, _ = policy.predict(observations, deterministic=deterministic)
        assert actions.dtype == np.float32
        assert (policy.action_space.low <= actions).all()
        assert (actions <= policy.action_space.high).all()
        assert set(np.unique(actions[:, 0])) <= {0.0, 1.0}
    single, _ = policy.predict(observations[0])
    assert single.shape == (2,)


def test_forward_and_evaluation_agree() -> None:
    torch.manual_seed(0)
    policy = policy_for(tiny.DOMAIN)
    observations = torch.rand(20, 3)
    actions, values, log_prob = policy(observations)
    again, evaluated, entropy = policy.evaluate_actions(observations, actions)
    torch.testing.assert_close(again, values)
    torch.testing.assert_close(evaluated, log_prob)
    torch.testing.assert_close(policy.predict_values(observations), values)
    assert values.shape == (20, 1)
    assert entropy is not None
    assert entropy.shape == (20,)


def test_values_never_reach_the_actor() -> None:
    policy = policy_for(tiny.DOMAIN)
    policy.predict_values(torch.rand(8, 3)).sum().backward()
    assert all(parameter.grad is None for parameter in policy.network.parameters())
    assert all(parameter.grad is not None for parameter in policy.critic.parameters())
    groups = [{id(p) for p in group["params"]} for group in policy.optimizer.param_groups]
    assert groups == [
        {id(p) for p in policy.network.parameters()},
        {id(p) for p in policy.critic.parameters()},
    ]


def test_saved_alone_it_comes_back(tmp_path: Path) -> None:
    policy = policy_for(tiny.DOMAIN, critic_dims=(16,))
    policy.save(str(tmp_path / "policy.pth"))
    loaded = DistilledPolicy.load(str(tmp_path / "policy.pth"), device="cpu")
    for name, value in policy.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


def test_critic_is_a_plain_network() -> None:
    critic = make_critic(3, (8, 4))
    value: Tensor = critic(torch.zeros(2, 3))
    assert value.shape == (2, 1)
    assert [tuple(p.shape) for p in critic.parameters()] == [
        (8, 3), (8,), (4, 8), (4,), (1, 4), (1,),
    ]  # fmt: skip


def test_a_critic_begins_as_sb3s_does() -> None:
    *hidden, last = (
        layer for layer in make_critic(3, (8, 4)) if isinstance(layer, torch.nn.Linear)
    )
    for layer in hidden:
        narrow = layer.weight if layer.weight.shape[0] < layer.weight.shape[1] else layer.weight.T
        gram = narrow @ narrow.T
        assert torch.allclose(gram, 2 * torch.eye(len(gram)), atol=1e-5)
    assert last.weight.detach().norm().item() == pytest.approx(1.0, abs=1e-5)
    assert not any(layer.bias.any() for layer in (*hidden, last))


def test_wrong_spaces_and_settings_are_refused() -> None:
    observations, actions = unified_spaces(tiny.DOMAIN)

    def build(*parts: spaces.Space[object], **settings: object) -> DistilledPolicy:
        return DistilledPolicy(*parts, lambda _: 0.1, domain="tiny", **settings)

    with pytest.raises(ConfigurationError, match="3 observations"):
        build(spaces.Box(-1, 1, (4,)), actions)
    with pytest.raises(ConfigurationError, match="acts in"):
        build(observations, spaces.Discrete(2))
    with pytest.raises(ConfigurationError, match="acts in"):
        build(observations, spaces.Box(-1, 1, (2,)))
    with pytest.raises(ConfigurationError, match="exploration"):
        build(observations, actions, use_sde=True)
    with pytest.raises(ConfigurationError, match="net_arch"):
        build(observations, actions, net_arch=[64])


def test_plain_ppo_trains_and_reloads_it(tmp_path: Path) -> None:
    env = SB3VecEnv(tiny.DOMAIN.make_vector_env("both", 4, seed=0))
    model = PPO(
        DistilledPolicy,
        env,
        n_steps=16,
        batch_size=64,
        n_epochs=2,
        device="cpu",
        policy_kwargs={"domain": "tiny", "hidden_dim": 16},
    )
    model.learn(128)
    model.save(tmp_path / "ppo.zip")
    loaded = PPO.load(tmp_path / "ppo.zip", env=env, device="cpu")
    observations = np.random.default_rng(0).uniform(-1, 1, (10, 3)).astype(np.float32)
    expected, _ = model.predict(observations, deterministic=True)
    np.testing.assert_array_equal(loaded.predict(observations, deterministic=True)[0], expected)
    loaded.learn(64)


def test_a_zip_opens_where_nothing_but_sb3_was_imported(tmp_path: Path) -> None:
    domain = domains.find("duel")  # tests.tiny is nobody's installed domain
    env = SB3VecEnv(domain.make_vector_env(domain.combined, 2, seed=0))
    policy_kwargs = {"hidden_dim": 32}
    model = PPO(
        DistilledPolicy, env, n_steps=8, batch_size=16, policy_kwargs=policy_kwargs, device="cpu"
    )
    model.save(tmp_path / "ppo.zip")
    batch = np.random.default_rng(3).uniform(-1, 1, (7, 20)).astype(np.float32)
    script = (
        "import sys, json, numpy as np\n"
        "from stable_baselines3 import PPO\n"
        f"model = PPO.load({str(tmp_path / 'ppo.zip')!r}, device='cpu')\n"
        "batch = np.random.default_rng(3).uniform(-1, 1, (7, 20)).astype(np.float32)\n"
        "print(json.dumps(model.predict(batch, deterministic=True)[0].tolist()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    played = np.array(json.loads(done.stdout))
    expected, _ = model.predict(batch, deterministic=True)
    np.testing.assert_allclose(played, expected, atol=1e-6)
    assert played.shape == (7, 9)
