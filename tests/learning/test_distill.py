from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from skilldistill.config import DistillConfig
from skilldistill.data.reader import DatasetReader
from skilldistill.errors import ConfigurationError, CorruptFile
from skilldistill.learning import distill as module
from skilldistill.learning.distill import (
    DistillOutcome,
    check_settings,
    distill,
    learning_rate,
    parse_head_weights,
)
from skilldistill.learning.losses import LOG_STD_FLOOR, Objective
from skilldistill.learning.rows import Batches, Group, Judged, join, open_source
from skilldistill.policy.checkpoint import weights
from skilldistill.policy.network import DistilledPolicyNetwork
from skilldistill.progress import Progress
from skilldistill.training_state import STATE_FILE, packed
from tests.asked import ThreadsAsked
from tests.flipped import flip_a_bit
from tests.learning.tiny_data import prepared
from tests.tiny import DOMAIN

CONFIG = DistillConfig(domain="tiny", epochs=4, batch_size=32, hidden_dim=16, lr=5e-3)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatasetReader]:
    workspace = prepared(tmp_path_factory.mktemp("distill") / "ws")
    path = workspace.path(workspace.resolve("combined", "dataset"))
    with DatasetReader(path, domain=DOMAIN) as opened:
        yield opened


class StopAfter:
    """Answers with a signal once it was asked often enough."""

    def __init__(self, asked: int, signum: int = 2) -> None:
        self.left, self.signum = asked, signum

    def __call__(self) -> int:
        self.left -= 1
        return self.signum if self.left < 0 else 0


def train(
    reader: DatasetReader, directory: Path, config: DistillConfig = CONFIG, **changes: object
) -> DistillOutcome:
    directory.mkdir(exist_ok=True)
    return distill(reader, DOMAIN, config, directory=directory, **changes)  # type: ignore[arg-type]


def test_the_student_comes_to_agree(reader: DatasetReader, tmp_path: Path) -> None:
    outcome = train(reader, tmp_path, replace(CONFIG, epochs=30))
    assert outcome.history[-1]["loss"] < 0.2 * outcome.history[0]["loss"]
    assert outcome.metrics["ring/agreement"] > 0.9
    assert outcome.metrics["steer/error"] < 0.03
    assert outcome.metrics["samples_per_second"] > 0


@pytest.mark.parametrize(("bf16", "expected"), [(True, 1), (False, 2)])
def test_quick_steps_take_one_thread(
    bf16: bool,
    expected: int,
    reader: DatasetReader,
    tmp_path: Path,
    two_threads: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}, raising=False)
    asked = ThreadsAsked()  # between gradient steps
    train(reader, tmp_path, replace(CONFIG, epochs=1, bf16=bf16), stop=asked)
    assert asked.found == {expected}
    assert torch.get_num_threads() == 2


def test_the_deviation_is_learnt(reader: DatasetReader, tmp_path: Path) -> None:
    short = train(reader, tmp_path / "a", replace(CONFIG, epochs=1))
    long = train(reader, tmp_path / "b", replace(CONFIG, epochs=9))
    assert not torch.equal(short.network.log_std, long.network.log_std)


def test_a_deviation_below_its_floor_is_lifted(
    reader: DatasetReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def narrow(network: DistilledPolicyNetwork, labels: object) -> None:
        network.log_std.data.fill_(LOG_STD_FLOOR - 2)  # no gradient would lead out of there

    monkeypatch.setattr(module, "match_std", narrow)
    outcome = train(reader, tmp_path, replace(CONFIG, epochs=1))
    assert float(outcome.network.log_std.detach().min()) >= LOG_STD_FLOOR


def test_the_same_seed_gives_the_same_weights(reader: DatasetReader, tmp_path: Path) -> None:
    first, second = (weights(train(reader, tmp_path / n).network) for n in "ab")
    assert first == second
    other = train(reader, tmp_path / "c", replace(CONFIG, seed=1))
    assert weights(other.network) != first


def test_the_global_random_state_is_left_alone(reader: DatasetReader, tmp_path: Path) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    train(reader, tmp_path, replace(CONFIG, epochs=1))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("asked", [0, 1, 5, 14])
def test_resumed_training_ends_in_the_same_weights(
    reader: DatasetReader, tmp_path: Path, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READ_ROWS", 64)  # stop is asked every other step
    whole = train(reader, tmp_path / "whole")
    part = train(reader, tmp_path / "part", stop=StopAfter(asked, 15))
    assert part.stopped == 15
    assert len(part.history) < 4
    rest = train(reader, tmp_path / "part", replace(CONFIG, resume=True))
    assert not rest.stopped
    assert weights(rest.network) == weights(whole.network)
    figures = ("epoch", "round", "lr", "train_loss", "loss", "ring/kl", "steer/error")
    for one, other in zip(rest.history, whole.history, strict=True):
        assert {k: one[k] for k in figures} == {k: other[k] for k in figures}


def test_stopping_many_times_changes_nothing(
    reader: DatasetReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READ_ROWS", 64)
    whole = train(reader, tmp_path / "whole")
    outcome = train(reader, tmp_path / "part", stop=StopAfter(3))
    while outcome.stopped:
        outcome = train(reader, tmp_path / "part", replace(CONFIG, resume=True), stop=StopAfter(3))
    assert weights(outcome.network) == weights(whole.network)


def test_streamed_data_resumes_too(
    reader: DatasetReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skilldistill.learning.rows.MEMORY_BYTES", 0)
    monkeypatch.setattr(module, "READ_ROWS", 64)
    whole = train(reader, tmp_path / "whole")
    train(reader, tmp_path / "part", stop=StopAfter(6))
    rest = train(reader, tmp_path / "part", replace(CONFIG, resume=True))
    assert weights(rest.network) == weights(whole.network)


def test_the_best_weights_are_kept(reader: DatasetReader, tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=12, lr=0.2, warmup=0.0)  # far too fast: it goes up and down
    outcome = train(reader, tmp_path, config)
    losses = [record["loss"] for record in outcome.history]
    assert losses[-1] > min(losses)  # or this test shows nothing
    assert outcome.metrics["loss"] == pytest.approx(min(losses))


def test_the_best_weights_outlast_an_interruption(
    reader: DatasetReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = (5e-3, 0.5, 0.5, 0.5)  # far too fast after the first epoch
    monkeypatch.setattr(
        module, "learning_rate", lambda config, phase, step, total: rates[4 * step // total]
    )
    whole = train(reader, tmp_path / "whole")
    losses = [record["loss"] for record in whole.history]
    assert losses.index(min(losses)) == 0  # or this test shows nothing
    part = train(reader, tmp_path / "part", stop=StopAfter(3))
    assert len(part.history) == 3
    rest = train(reader, tmp_path / "part", replace(CONFIG, resume=True))
    assert weights(rest.network) == weights(whole.network)


def test_it_stops_early_once_nothing_gets_better(reader: DatasetReader, tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=40, lr=0.3, warmup=0.0, patience=3)
    outcome = train(reader, tmp_path, config)
    losses = [record["loss"] for record in outcome.history]
    assert len(losses) < 40
    assert losses.index(min(losses)) == len(losses) - 4


def test_an_interruption_does_not_make_it_more_patient(
    reader: DatasetReader, tmp_path: Path
) -> None:
    config = replace(CONFIG, epochs=40, lr=0.0, patience=3)  # nothing gets better
    part = train(reader, tmp_path, config, stop=StopAfter(3))
    assert len(part.history) == 3
    rest = train(reader, tmp_path, replace(config, resume=True))
    assert len(rest.history) == 4


def test_a_round_is_waited_for_anew_after_a_phase_that_stopped_early(
    reader: DatasetReader, tmp_path: Path
) -> None:
    config = replace(CONFIG, lr=0.0, patience=1, rounds=1, round_epochs=4)
    outcome = train(reader, tmp_path, config, relabel=lambda *_: DatasetReader(reader.path))
    assert [record["round"] for record in outcome.history] == [0, 0, 1, 1]


def test_every_epoch_is_written_down_and_told(reader: DatasetReader, tmp_path: Path) -> None:
    told: list[Progress] = []
    outcome = train(reader, tmp_path, progress=told.append)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3, 4]
    assert json.loads(lines[-1]) == outcome.history[-1]
    assert [(report.done, report.total) for report in told] == [(i, 4) for i in range(1, 5)]
    assert {"loss", "held-out", "ring/agreement", "steer/error", "samples/s"} <= set(told[0].values)


def test_interference_between_heads_is_recorded(reader: DatasetReader, tmp_path: Path) -> None:
    outcome = train(reader, tmp_path, replace(CONFIG, epochs=12))
    assert -1 <= outcome.metrics["cosine/ring-steer"] <= 1
    recorded = [r["epoch"] for r in outcome.history if "cosine/ring-steer" in r]
    assert recorded == [1, 10, 12]


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "mse", "masked": False, "balanced": False},
        {"loss": "hard"},
        {"temperature": 2.0},
        {"bf16": False},
        {"large_batch": True, "batch_size": 256},
        {"val_fraction": 0.0},
        {"head_weights": "ring=2"},
    ],
)
def test_every_variant_learns(
    reader: DatasetReader, tmp_path: Path, changes: dict[str, object]
) -> None:
    outcome = train(reader, tmp_path, replace(CONFIG, epochs=20, **changes))  # type: ignore[arg-type]
    assert outcome.history[-1]["train_loss"] < outcome.history[0]["train_loss"]
    assert outcome.metrics["ring/agreement"] > 0.5


def test_batches_are_no_larger_than_the_data(reader: DatasetReader, tmp_path: Path) -> None:
    outcome = train(reader, tmp_path, replace(CONFIG, batch_size=10**7, epochs=1))
    assert len(outcome.history) == 1


def test_two_batch_sizes_at_once_are_refused(reader: DatasetReader, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="large-batch"):
        train(reader, tmp_path, replace(CONFIG, batch_size=64, large_batch=True))


def test_waiting_enough_ends_the_stage_for_those_who_watch(
    reader: DatasetReader, tmp_path: Path
) -> None:
    told: list[Progress] = []
    config = replace(CONFIG, epochs=40, lr=0.3, warmup=0.0, patience=3)
    train(reader, tmp_path, config, progress=told.append)
    assert (told[-1].done, told[-1].total) == (40, 40)
    assert told[-2].done < 40


def test_a_diverging_run_says_so(reader: DatasetReader, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not finite") as caught:
        train(reader, tmp_path, replace(CONFIG, lr=1e30))
    assert "--lr" in caught.value.hint


def test_a_run_that_diverges_in_its_last_step_says_so(
    reader: DatasetReader, tmp_path: Path
) -> None:
    one_step = replace(CONFIG, epochs=1, batch_size=1 << 20, lr=1e8)
    for number, loss in enumerate(("kl", "hard", "mse")):  # this last has no more than 1 to lose
        with pytest.raises(ConfigurationError, match="figures of epoch 1 are not finite"):
            train(reader, tmp_path / str(number), replace(one_step, loss=loss))


def test_a_damaged_state_is_refused(reader: DatasetReader, tmp_path: Path) -> None:
    train(reader, tmp_path)
    path = tmp_path / STATE_FILE
    path.write_bytes(b"junk")
    with pytest.raises(CorruptFile, match="training_state cannot be read") as caught:
        train(reader, tmp_path, replace(CONFIG, resume=True))
    assert "--resume" in caught.value.hint
    path.write_bytes(packed({"network": {}}, version=1))
    with pytest.raises(CorruptFile, match="is no state of this run"):
        train(reader, tmp_path, replace(CONFIG, resume=True))


def test_a_single_flipped_bit_of_a_state_is_noticed(reader: DatasetReader, tmp_path: Path) -> None:
    train(reader, tmp_path)
    flip_a_bit(tmp_path / STATE_FILE)
    with pytest.raises(CorruptFile, match="does not match its checksum"):
        train(reader, tmp_path, replace(CONFIG, resume=True))


def test_the_learning_rate_rises_then_falls() -> None:
    config = replace(CONFIG, lr=1.0, warmup=0.1)
    rates = [learning_rate(config, 0, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == 1.0 == rates[9]
    assert all(a >= b for a, b in pairwise(rates[9:]))
    assert rates[-1] < 0.001
    assert rates[55] == pytest.approx(0.5 * (1 + math.cos(math.pi * 45 / 90)))


def test_after_a_round_the_learning_rate_is_half() -> None:
    config = replace(CONFIG, lr=1.0, warmup=0.1)
    for step in (0, 9, 55):
        rate = learning_rate(config, 0, step, 100)
        assert learning_rate(config, 1, step, 100) == pytest.approx(rate / 2)


def test_tensorboard_files_on_request(reader: DatasetReader, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    train(reader, tmp_path, replace(CONFIG, epochs=1, tensorboard=True))
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_heads_that_all_weigh_nothing_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="nothing would be learnt"):
        check_settings(DOMAIN, replace(CONFIG, head_weights="ring=0,steer=0"))
    check_settings(DOMAIN, replace(CONFIG, head_weights="ring=0"))


def test_head_weights_are_read_from_text() -> None:
    assert parse_head_weights("aiming=2, clicking=0.5") == {"aiming": 2.0, "clicking": 0.5}
    assert parse_head_weights("") == {}
    for wrong in ("aiming", "aiming=much", "=,"):
        with pytest.raises(ConfigurationError, match="HEAD=WEIGHT"):
            parse_head_weights(wrong)


def test_a_round_has_best_weights_of_its_own_however_good_those_before_were(
    reader: DatasetReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = {0: 5e-3, 1: 0.5}  # far too fast after the round
    monkeypatch.setattr(module, "learning_rate", lambda config, phase, step, total: rates[phase])
    config = replace(CONFIG, rounds=1, round_epochs=3)
    outcome = train(reader, tmp_path, config, relabel=lambda *_: DatasetReader(reader.path))
    losses = [
        [record["loss"] for record in outcome.history if record["round"] == phase]
        for phase in (0, 1)
    ]
    assert min(losses[1]) > min(losses[0])  # or this test shows nothing
    assert outcome.history[-1]["best_loss"] == min(losses[1])
    assert outcome.metrics["loss"] > min(losses[0])


def test_a_round_goes_on_in_the_rows_where_the_phase_before_it_ended(
    reader: DatasetReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    read = Batches.read

    def spy(self: Batches, first: int, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
        asked.extend(range(first, first + steps))
        return read(self, first, steps)

    monkeypatch.setattr(Batches, "read", spy)
    config = replace(CONFIG, rounds=1, round_epochs=2)
    train(reader, tmp_path, config, relabel=lambda *_: DatasetReader(reader.path))
    assert asked == list(range(len(asked)))


def test_what_the_student_met_has_its_share_divided_by_rows(
    reader: DatasetReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phases: list[list[tuple[float, int]]] = []
    build = Batches.__init__

    def spy(self: Batches, groups: Sequence[Group], batch_size: int) -> None:
        phases.append([(group.share, group.rows.count) for group in groups])
        build(self, groups, batch_size)

    monkeypatch.setattr(Batches, "__init__", spy)
    met = [reader.path, reader.path.parents[1] / "steer" / "1.h5"]  # of different lengths
    config = replace(CONFIG, epochs=1, rounds=2, round_epochs=1, student_share=0.3)
    train(
        reader, tmp_path, config, relabel=lambda _, number, learnt: DatasetReader(met[number - 1])
    )
    assert [len(shares) for shares in phases] == [2, 3, 4]
    assert [share for share, _ in phases[0]] == [0.5, 0.5]
    for shares in phases[1:]:
        own, visited = shares[:2], shares[2:]
        assert [share for share, _ in own] == pytest.approx([0.35, 0.35])
        rows = sum(count for _, count in visited)
        assert [share for share, _ in visited] == pytest.approx(
            [0.3 * count / rows for _, count in visited]
        )


def test_rates_are_matched_on_what_the_student_met_once_it_has_played(
    reader: DatasetReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    shown: list[torch.Tensor] = []

    def keep(network: object, rows: Judged, experts: Judged) -> None:
        seen.append(rows[0])
        shown.append(experts[0])

    monkeypatch.setattr(module, "match_rates", keep)
    met = reader.path.parents[1] / "steer" / "1.h5"
    config = replace(CONFIG, epochs=1, rounds=1, round_epochs=1)
    train(reader, tmp_path, config, relabel=lambda *_: DatasetReader(met))

    def held_out(opened: DatasetReader, *, by_skill: bool) -> torch.Tensor:
        source = open_source(
            opened,
            Objective(DOMAIN),
            val_fraction=config.val_fraction,
            seed=config.seed,
            device=torch.device("cpu"),
            by_skill=by_skill,
        )
        return join(list(source.held_out.values()))[0]

    assert len(seen) == 2
    for rows in (seen[0], *shown):
        assert torch.equal(rows, held_out(reader, by_skill=True))
    with DatasetReader(met) as visited:
        assert torch.equal(seen[1], held_out(visited, by_skill=False))


def test_rounds_need_a_labeller(reader: DatasetReader, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="rounds need"):
        train(reader, tmp_path, replace(CONFIG, rounds=1))
