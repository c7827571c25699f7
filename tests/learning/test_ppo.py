"""The rollout and the update, against slow and obvious versions of themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from skilldistill.errors import Interrupted
from skilldistill.learning.ppo import FinetunePPO
from skilldistill.learning.update import Rehearsal
from skilldistill.learning.vecenv import SB3VecEnv
from skilldistill.policy.heads import ActionDistribution, Gaussian, per_head
from skilldistill.policy.network import DistilledPolicyNetwork
from skilldistill.policy.sb3 import DistilledPolicy, MixedDistribution
from skilldistill.threads import FEW_ROWS
from tests import tiny
from tests.asked import ThreadsAsked


class Nothing(BaseCallback):
    def _on_step(self) -> bool:
        return True


def make(arenas: int = 4, ticks: int = 48, **settings: Any) -> FinetunePPO:
    env = SB3VecEnv(tiny.DOMAIN.make_vector_env("both", arenas, seed=3))
    kwargs = {
        "n_steps": ticks,
        "batch_size": 64,
        "n_epochs": 2,
        "device": "cpu",
        "seed": 5,
        "policy_kwargs": {"domain": "tiny", "hidden_dim": 16},
        **settings,
    }
    model = FinetunePPO(DistilledPolicy, env, **kwargs)
    model._last_obs = env.reset()
    model._last_episode_starts = np.ones(arenas, dtype=bool)
    return model


def tie(model: FinetunePPO, *coefs: float) -> None:
    reference = DistilledPolicyNetwork.for_domain(tiny.DOMAIN, 16)
    reference.load_state_dict(model.policy.network.state_dict())
    with torch.no_grad():
        reference.head_output.bias.add_(0.3)
        reference.log_std.add_(0.2)
    model.reference = reference.requires_grad_(False)
    model.kl_coefs = torch.tensor(coefs)


def gradients_of(model: FinetunePPO) -> list[torch.Tensor]:
    """Of one minibatch that holds all rows."""
    for parameter in model.policy.parameters():
        parameter.grad = torch.full_like(parameter, torch.nan)
    with torch.no_grad():
        update = model._update(model._rows())
        (batch,) = update.minibatches(10_000, model.generator)
        update.backward(batch)
    return [parameter.grad.clone() for parameter in model.policy.parameters()]


def play(model: FinetunePPO) -> None:
    assert model.collect_rollouts(model.env, Nothing(model), model.rollout_buffer, model.n_steps)


def test_a_rollout_records_what_the_policy_says_of_it() -> None:
    model = make()
    play(model)
    buffer = model.rollout_buffer
    observations = torch.from_numpy(buffer.observations.reshape(-1, 3))
    actions = torch.from_numpy(buffer.actions.reshape(-1, 2))
    with torch.no_grad():
        values, log_prob, _ = model.policy.evaluate_actions(observations, actions)
    np.testing.assert_allclose(buffer.log_probs.ravel(), log_prob.numpy(), atol=1e-5)
    np.testing.assert_allclose(buffer.values.ravel(), values.squeeze(1).numpy(), atol=1e-6)
    assert set(np.unique(buffer.actions[..., 0])) <= {0.0, 1.0}
    assert model.num_timesteps == 4 * 48
    assert model.last["episodes"] == 8
    assert model.last["episode_length"] == tiny.HORIZON
    starts = np.flatnonzero(buffer.episode_starts[:, 0])
    assert starts.tolist() == [0, 20, 40]


def test_actions_are_drawn_from_the_policys_distribution() -> None:
    model = make(arenas=64, ticks=200)
    with torch.no_grad():
        for parameter in model.policy.network.parameters():
            parameter.zero_()
        model.policy.network.head_output.bias.copy_(torch.tensor([-0.4, 0.2]))
        model.policy.network.log_std.fill_(-1.0)
    play(model)
    actions = model.rollout_buffer.actions.reshape(-1, 2)
    assert actions[:, 0].mean() == pytest.approx(1 / (1 + np.exp(0.4)), abs=0.015)
    assert actions[:, 1].mean() == pytest.approx(0.5 * np.tanh(0.2), abs=0.01)
    assert actions[:, 1].std() == pytest.approx(0.5 * np.exp(-1.0), rel=0.03)


@pytest.mark.parametrize("judged", ["once", "twice", "by a critic that has learnt since"])
def test_advantages_are_gae_with_the_value_beyond_a_time_limit(judged: str) -> None:
    model = make(arenas=2, ticks=50, batch_size=100, gamma=0.9, gae_lambda=0.8)
    with torch.no_grad():  # an actor with a bent for one side ends every episode at the wall
        for parameter in model.policy.network.head_output.parameters():
            parameter.zero_()
    finals: dict[int, np.ndarray] = {}
    original = model.env.step_arrays
    ticks = iter(range(50))

    def spy(actions: np.ndarray) -> Any:
        tick = original(actions)
        number = next(ticks)
        if tick.ended is not None:
            finals[number] = tick.ended.observations
        rewards.append(tick.rewards.copy())
        return tick

    rewards: list[np.ndarray] = []
    model.env.step_arrays = spy
    play(model)
    assert list(finals) == [19, 39], "both arenas run out of time twice"
    assert len(np.unique(np.concatenate(list(finals.values())), axis=0)) == 4
    before = model.rollout_buffer.values.copy()
    if judged != "once":
        model.train_actor = False
        if judged != "twice":
            model.train()
        model.appraise()
        assert np.array_equal(model.rollout_buffer.values, before) == (judged == "twice")
    with torch.no_grad():
        beyond = {
            tick: model.policy.predict_values(torch.from_numpy(observations))[:, 0].numpy()
            for tick, observations in {**finals, 49: model._last_obs}.items()
        }
    values, expected = model.rollout_buffer.values, np.zeros((50, 2))
    advantage = np.zeros(2)
    for t in reversed(range(50)):
        following = beyond[t] if t in beyond else values[t + 1]
        delta = rewards[t] + 0.9 * following - values[t]
        advantage = delta + (0.0 if t in finals else 0.9 * 0.8) * advantage
        expected[t] = advantage
    np.testing.assert_allclose(model.rollout_buffer.advantages, expected, atol=1e-5)
    returns = expected + values
    np.testing.assert_allclose(model.rollout_buffer.returns, returns, atol=1e-5)
    explained = 1 - np.var(returns - values) / np.var(returns)
    assert model.last["explained_variance"] == pytest.approx(explained, abs=1e-4)


def test_nothing_is_hoped_for_beyond_an_episode_that_terminates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = make(ticks=tiny.HORIZON, batch_size=80, gamma=1.0, gae_lambda=1.0)
    assert isinstance(model.env, SB3VecEnv)
    (env,) = model.env.envs
    original = env.step

    def die(actions: np.ndarray) -> Any:
        observations, rewards, terminated, truncated, infos = original(actions)
        return observations, rewards, truncated, terminated, infos

    monkeypatch.setattr(env, "step", die)
    play(model)
    assert model.rollout_buffer.values.all(), "the critic expects something everywhere"
    whole = model.rollout_buffer.returns[0].mean()
    assert whole == pytest.approx(model.last["episode_return"], abs=1e-5)


@pytest.mark.parametrize("entropy", [0.0, 0.01])
def test_gradients_worked_out_by_hand_are_those_of_the_textbooks_loss(entropy: float) -> None:
    model = make(ent_coef=entropy)
    play(model)
    tie(model, 0.7, 0.3)
    with torch.no_grad():  # away from where the rollout was played: ratios differ from 1
        for parameter in model.policy.network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        model.policy.network.head_output.weight.mul_(model.policy.network.output_blocks)
    rows = model._rows()
    policy = model.policy
    values, log_prob, entropies = policy.evaluate_actions(rows.observations, rows.actions)
    ratio = (log_prob - rows.log_prob).exp()
    clipped = ratio.clamp(0.8, 1.2) * rows.advantages
    surrogate = torch.min(ratio * rows.advantages, clipped).mean()
    now = policy.distribution(rows.observations).distribution
    reference = model._reference_distribution(rows)
    divergence = per_head(now.kl(reference), policy.network.layout).mean(dim=0)
    assert entropies is not None
    loss = (
        -surrogate
        + 0.5 * ((values[:, 0] - rows.returns) ** 2).mean()
        - entropy * entropies.mean()
        + divergence @ torch.tensor([0.7, 0.3])
    )
    flat = (ratio - 1).abs() > 0.2
    assert 0.02 < flat.float().mean() < 0.9, "the clip was put to the test"
    parameters = list(policy.parameters())
    wanted = torch.autograd.grad(loss, parameters)
    for found, expected in zip(gradients_of(model), wanted, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("arenas", "expected"), [(FEW_ROWS, 1), (FEW_ROWS + 1, 2)])
def test_few_arenas_are_played_in_one_thread(arenas: int, expected: int, two_threads: None) -> None:
    model = make(arenas, 1, batch_size=arenas)
    model.stop = asked = ThreadsAsked()  # before every tick
    play(model)
    assert asked.found == {expected}
    assert torch.get_num_threads() == 2


def test_rounding_changes_gradients_little() -> None:
    model = make()
    play(model)
    tie(model, 0.7, 0.3)
    exact = torch.cat([gradient.flatten() for gradient in gradients_of(model)])
    model.dtype = torch.bfloat16
    rounded = torch.cat([gradient.flatten() for gradient in gradients_of(model)])
    assert not torch.equal(rounded, exact)
    assert float(torch.cosine_similarity(rounded, exact, dim=0)) > 0.999


def test_the_rehearsals_gradients_are_those_of_its_divergence() -> None:
    model = make()
    play(model)
    tie(model, 0.0, 0.0)
    torch.manual_seed(2)
    states = torch.rand(40, 3) * 2 - 1
    assert model.reference is not None
    weights = torch.tensor([[0.7, 0.0], [0.0, 0.4]]).repeat(20, 1)
    plain = gradients_of(model)
    model.rehearsal = Rehearsal(states, model.reference.logits(states), weights, 5)
    model.generator.manual_seed(11)
    got = gradients_of(model)
    model.generator.manual_seed(11)
    torch.randperm(len(model._rows().returns), generator=model.generator)
    practice = torch.randint(40, (1, 5), generator=model.generator)[0]
    now = model.policy.distribution(states[practice]).distribution
    held = (
        MixedDistribution(model.reference.layout)
        .proba_distribution(model.reference.logits(states[practice]), model.reference.log_std)
        .distribution
    )
    # the deviation is learned from the rollout's states alone
    student = ActionDistribution(
        now.bernoulli, Gaussian(now.gaussian.mean, now.gaussian.std.detach()), now.layout
    )
    divergence = (student.kl(held) * weights[practice]).sum(dim=1).mean()
    extra = torch.autograd.grad(divergence, list(model.policy.parameters()), allow_unused=True)
    for both, one, more in zip(got, plain, extra, strict=True):
        torch.testing.assert_close(
            both - one, torch.zeros_like(one) if more is None else more, atol=1e-5, rtol=1e-3
        )


def test_rehearsal_keeps_what_the_rollout_never_shows() -> None:
    drifts = []
    for rows in (0, 64):
        model = make(n_epochs=20)
        model.actor_lr = 3e-3
        play(model)
        reference = DistilledPolicyNetwork.for_domain(tiny.DOMAIN, 16)
        reference.load_state_dict(model.policy.network.state_dict())
        model.reference = reference.requires_grad_(False)
        model.kl_coefs = torch.zeros(2)
        states = torch.randn(200, 3) - 3.0
        outputs = reference.logits(states)
        if rows:
            model.rehearsal = Rehearsal(states, outputs, torch.full((200, 2), 10.0), rows)
        model.train()
        drifts.append((model.policy.network.logits(states) - outputs).abs().mean().item())
    assert drifts[1] < 0.3 * drifts[0]


def test_a_critics_update_leaves_every_bit_of_the_actor() -> None:
    model = make()
    play(model)
    tie(model, 1.0, 1.0)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.train_actor = False
    model.train()
    after = model.policy.state_dict()
    for name, value in before.items():
        assert torch.equal(after[name], value) == name.startswith("network."), name


def test_gradients_of_actor_and_critic_are_clipped_apart() -> None:
    model = make(max_grad_norm=1e-3, n_epochs=1, batch_size=192)
    play(model)
    model.rollout_buffer.returns *= 1e4  # the critic's gradient is huge, the actor's is not
    model.train()
    state = model.policy.optimizer.state
    for part in (model.policy.network, model.policy.critic):
        # after one step Adam's average is a tenth of the gradient
        norms = torch.stack([state[parameter]["exp_avg"].norm() for parameter in part.parameters()])
        assert norms.norm().item() == pytest.approx(1e-4, rel=1e-2)


def test_an_update_follows_the_reward() -> None:
    model = make(arenas=16, ticks=64, n_epochs=8, gamma=0.5)
    model.actor_lr = 3e-3
    play(model)
    first = model.rollout_buffer.rewards.mean()
    for _ in range(15):
        model.train()
        play(model)
    assert model.rollout_buffer.rewards.mean() > first + 0.1
    assert model.last["explained_variance"] > 0.2


def test_a_large_step_ends_the_update_early() -> None:
    model = make(n_epochs=10, target_kl=1e-6)
    model.actor_lr = 1e-2
    play(model)
    model.train()
    assert model._n_updates == 1
    assert model.last["approx_kl"] > 1e-6


@pytest.mark.parametrize(("share", "passes"), [(1.4, 2), (1.6, 1)])
def test_a_step_may_go_half_beyond_the_target(share: float, passes: int) -> None:
    def learn(**settings: Any) -> FinetunePPO:
        model = make(batch_size=192, **settings)
        model.actor_lr = 1e-2
        play(model)
        model.train()
        return model

    model = learn(n_epochs=1)
    buffer = model.rollout_buffer
    with torch.no_grad():
        _, now, _ = model.policy.evaluate_actions(
            torch.from_numpy(buffer.observations.reshape(-1, 3)),
            torch.from_numpy(buffer.actions.reshape(-1, 2)),
        )
    change = now.numpy() - buffer.log_probs.ravel()
    gone = float(np.mean(np.exp(change) - 1 - change))
    assert learn(n_epochs=2, target_kl=gone / share)._n_updates == passes


def test_divergence_from_the_reference_is_recorded_per_head() -> None:
    model = make()
    tie(model, 0.0, 0.0)
    play(model)
    model.train()
    assert model.last["kl_ring"] > 0
    assert model.last["kl_steer"] > 0


def test_a_strong_tie_holds_the_policy() -> None:
    distances = []
    for coefficient in (0.0, 100.0):
        model = make(n_epochs=20)
        model.actor_lr = 3e-3
        play(model)
        reference = DistilledPolicyNetwork.for_domain(tiny.DOMAIN, 16)
        reference.load_state_dict(model.policy.network.state_dict())
        model.reference = reference.requires_grad_(False)
        model.kl_coefs = torch.full((2,), coefficient)
        model.train()
        distances.append(model.last["kl_ring"] + model.last["kl_steer"])
    assert distances[1] < 0.1 * distances[0]


@pytest.mark.parametrize("after", [0, 10, 47, 48, 51])
def test_it_stops_within_a_tick_or_a_minibatch(after: int) -> None:
    model = make()
    asked = iter(range(10_000))
    model.stop = lambda: 15 if next(asked) == after else 0

    def both() -> None:
        play(model)
        model.train()

    with pytest.raises(Interrupted) as caught:
        both()
    assert caught.value.signum == 15


def test_sb3s_own_loop_drives_it_too(tmp_path: Path) -> None:
    model = make()
    model.learn(400)
    assert model.num_timesteps >= 400
    assert model.ep_info_buffer
    model.save(tmp_path / "ppo.zip")
    plain = PPO.load(tmp_path / "ppo.zip", device="cpu")
    assert type(plain) is PPO
    assert not hasattr(plain, "kl_coefs")
    observations = np.random.default_rng(0).uniform(-1, 1, (9, 3)).astype(np.float32)
    np.testing.assert_array_equal(
        plain.predict(observations, deterministic=True)[0],
        model.predict(observations, deterministic=True)[0],
    )
    again = FinetunePPO.load(tmp_path / "ppo.zip", env=model.env, device="cpu")
    again.learn(200)
