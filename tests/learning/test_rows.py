from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from skilldistill.data.reader import DatasetReader
from skilldistill.data.writer import DatasetWriter
from skilldistill.learning import rows as module
from skilldistill.learning.losses import Labels, Objective
from skilldistill.learning.rows import Batches, Group, MemoryRows, open_source
from skilldistill.policy.heads import ActionLayout
from tests.data.samples import make_episode, make_info
from tests.learning.tiny_data import prepared
from tests.tiny import DOMAIN

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = prepared(tmp_path_factory.mktemp("rows") / "ws", episodes=20)
    return workspace.path(workspace.resolve("combined", "dataset"))


def numbered(count: int, first: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    values = torch.arange(first, first + count, dtype=torch.float32)[:, None]
    return values, values.clone()


def test_every_pass_sees_every_row_once_in_another_order() -> None:
    rows = MemoryRows(numbered(10), None, (0, 1))
    passes = [rows.take(10 * cycle, 10)[0][:, 0] for cycle in range(3)]
    for order in passes:
        assert sorted(order.tolist()) == list(range(10))
    assert passes[0].tolist() != passes[1].tolist()


def test_rows_are_a_function_of_their_place() -> None:
    rows = MemoryRows(numbered(10), None, (0, 1))
    whole = rows.take(0, 37)[0]
    again = MemoryRows(numbered(10), None, (0, 1))
    assert torch.equal(again.take(23, 9)[0], whole[23:32])
    assert torch.equal(again.take(4, 3)[0], whole[4:7])
    assert not torch.equal(MemoryRows(numbered(10), None, (1, 1)).take(0, 37)[0], whole)


def test_every_group_has_its_share_of_every_batch() -> None:
    groups = [
        Group(MemoryRows(numbered(5), None, (0,)), 0.5),
        Group(MemoryRows(numbered(1000, first=100), None, (1,)), 0.5),
    ]
    batches = Batches(groups, 64)
    observations, labels = batches.read(3, 4)
    assert observations.shape == (4, 64, 1)
    assert torch.equal(observations, labels)
    assert ((observations < 100).sum(dim=1) == 32).all()


def test_batches_smaller_than_the_groups_still_hold_all_of_them() -> None:
    groups = [Group(MemoryRows(numbered(4, 10 * i), None, (i,)), 1 / 3) for i in range(3)]
    assert Batches(groups, 1).counts == [1, 1, 1]
    assert Batches(groups, 256).counts == [86, 85, 85]
    assert Batches(groups, 256).size == 256


def test_held_out_rows_are_never_learnt(dataset: Path) -> None:
    objective = Objective(DOMAIN)
    with DatasetReader(dataset, domain=DOMAIN) as reader:
        source = open_source(reader, objective, val_fraction=0.25, seed=3, device=CPU)
        assert [name for name, _ in source.groups] == ["steer", "ring"]
        assert sorted(source.held_out) == ["ring", "steer"]
        learnt = {
            tuple(row.tolist()) for _, rows in source.groups for row in rows.take(0, rows.count)[0]
        }
        held = {tuple(row.tolist()) for t in source.held_out.values() for row in t[0]}
        assert sum(rows.count for _, rows in source.groups) == source.num_rows
        assert source.num_rows + sum(len(t[0]) for t in source.held_out.values()) == reader.num_rows
        # the points of an episode are its own: start and path are drawn per episode
        assert len(held & learnt) < 0.2 * len(held)


def test_scores_look_at_no_more_rows_than_they_need(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HELD_OUT_ROWS", 200)
    with DatasetReader(dataset, domain=DOMAIN) as reader:
        for part in (0.5, 0.0):  # 200 of each skill without the limit, or all
            source = open_source(reader, Objective(DOMAIN), val_fraction=part, seed=3, device=CPU)
            assert {name: len(table[0]) for name, table in source.held_out.items()} == {
                "steer": 100, "ring": 100,
            }  # fmt: skip


def test_a_skill_of_a_single_episode_is_judged_by_what_it_taught(tmp_path: Path) -> None:
    path = tmp_path / "data.h5"
    with DatasetWriter(path, make_info(skills=("steer", "ring"))) as writer:
        writer.append_many(
            make_episode(seed, 20, skill=skill, native=None)
            for seed, skill in enumerate((0, 0, 0, 1))
        )
    with DatasetReader(path, domain=DOMAIN) as reader:
        source = open_source(reader, Objective(DOMAIN), val_fraction=0.4, seed=3, device=CPU)
        assert {name: len(table[0]) for name, table in source.held_out.items()} == {
            "steer": 20, "ring": 20,
        }  # fmt: skip
        assert source.num_rows == 60


def test_streamed_rows_are_the_same_rows(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POOL_ROWS", 64)
    objective = Objective(DOMAIN)
    with DatasetReader(dataset, domain=DOMAIN) as reader:
        reader.chunk_rows = 32  # a block is at least a chunk
        kept, streamed = (
            open_source(
                reader, objective, val_fraction=0.25, seed=3, device=CPU, memory_bytes=limit
            )
            for limit in (None, 0)
        )
        for (name, a), (other, b) in zip(kept.groups, streamed.groups, strict=True):
            assert name == other
            assert a.count == b.count
            first, second = a.take(0, a.count), b.take(0, b.count)
            for x, y in zip(first, second, strict=True):
                joined = np.sort(x.numpy(), axis=0), np.sort(y.numpy(), axis=0)
                assert np.array_equal(*joined)


@pytest.mark.parametrize("blocks", ["one", "many"])
def test_streamed_rows_are_a_function_of_their_place(
    dataset: Path, blocks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = Objective(DOMAIN)
    with DatasetReader(dataset, domain=DOMAIN) as reader:
        if blocks == "many":
            monkeypatch.setattr(module, "POOL_ROWS", 64)
            reader.chunk_rows = 32  # a block is at least a chunk
        whole, pieces = (
            open_source(
                reader, objective, val_fraction=0.1, seed=3, device=CPU, memory_bytes=0
            ).groups[0][1]
            for _ in range(2)
        )
        count = whole.count
        sequence = whole.take(0, 2 * count + 50)[0]
        assert torch.equal(pieces.take(count - 10, 40)[0], sequence[count - 10 : count + 30])
        assert torch.equal(pieces.take(5, 7)[0], sequence[5:12])  # going back works too
        for start in range(0, count + 20, 13):
            assert torch.equal(pieces.take(start, 30)[0], sequence[start : start + 30])


def test_labels_arrive_with_their_rows(dataset: Path) -> None:
    objective = Objective(DOMAIN)
    with DatasetReader(dataset, domain=DOMAIN) as reader:
        source = open_source(reader, objective, val_fraction=0, seed=0, device=CPU)
        observations, table = dict(source.groups)["steer"].take(0, 50)
        labels = Labels.of(table, ActionLayout(DOMAIN))
        assert torch.allclose(labels.targets[:, 1], (-observations[:, 0]).clamp(-0.5, 0.5))
        assert labels.mask[:, 1].all()
        assert not labels.mask[:, 0].any()
        judged = {tuple(row.tolist()) for row in source.held_out["steer"][0]}
        assert judged == {
            tuple(row.tolist()) for row in dict(source.groups)["steer"].take(0, 400)[0]
        }
