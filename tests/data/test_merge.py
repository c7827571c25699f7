from __future__ import annotations

import dataclasses
import hashlib
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest

from skilldistill.data.merge import merge
from skilldistill.data.reader import DatasetReader
from skilldistill.data.schema import ExpertRef
from skilldistill.data.writer import DatasetWriter
from skilldistill.errors import ConfigurationError, CorruptFile, Interrupted, NotFound
from skilldistill.progress import Progress
from tests import tiny
from tests.data.samples import joined, make_info, write


def test_every_row_of_every_skill_is_there(tmp_path: Path) -> None:
    ring = write(tmp_path / "r.h5", (4, 9), skill="ring", run=1)
    steer = write(tmp_path / "s.h5", (5, 1, 8))
    both = write(tmp_path / "b.h5", (3,), skill="both", run=2)
    paths = [tmp_path / name for name in ("b.h5", "r.h5", "s.h5")]
    info = merge(paths, tmp_path / "m.h5", domain=tiny.DOMAIN, seed=11)
    with DatasetReader(tmp_path / "m.h5", domain=tiny.DOMAIN) as reader:
        assert reader.info == info
        assert info.skills == ("steer", "ring", "both")  # the domain's order
        assert info.env_id == "tiny/steer-v0,tiny/ring-v0,tiny/both-v0"
        assert [e.ref for e in info.experts] == [f"expert:{s}@1" for s in info.skills]
        assert info.seed == 11
        assert [source["seed"] for source in info.config["sources"]] == [0, 1, 2]
        assert "native_observations" not in reader.fields
        batch = reader.read_all()
        for name in reader.fields:
            if name != "skill":
                np.testing.assert_array_equal(batch[name], joined(steer + ring + both, name))
        np.testing.assert_array_equal(batch["skill"], np.repeat([0, 1, 2], [14, 13, 3]))
        np.testing.assert_array_equal(reader.episode_seed, [0, 1, 2, 0, 1, 0])
        np.testing.assert_array_equal(reader.episode_skill, [0, 0, 0, 1, 1, 2])
        returns = [episode.rewards.sum(dtype=np.float64) for episode in steer + ring + both]
        np.testing.assert_array_equal(reader.episode_return, np.float32(returns))


def test_neither_the_order_nor_the_place_of_the_inputs_matters(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    write(tmp_path / "s.h5", (5, 1, 8))
    write(tmp_path / "s2.h5", (7, 2), run=5)
    write(tmp_path / "r.h5", (4, 9), skill="ring", run=1)
    other = ExpertRef("expert:other@1", "cd" * 32)
    write(tmp_path / "s3.h5", (1, 8, 5), experts=(other,))  # the seed and rows of s.h5
    paths = [tmp_path / name for name in ("s.h5", "s2.h5", "r.h5", "s3.h5")]
    elsewhere = [tmp_path / "x" / name for name in ("c.h5", "a.h5", "b.h5", "d.h5")]
    for path, copy in zip(paths, elsewhere, strict=True):
        shutil.copy(path, copy)
    results = set()
    for number, order in enumerate([*itertools.permutations(paths), elsewhere]):
        output = tmp_path / f"m{number}.h5"
        merge(order, output, domain=tiny.DOMAIN)
        results.add(hashlib.sha256(output.read_bytes()).hexdigest())
    assert len(results) == 1


def test_merged_datasets_can_be_merged_again(tmp_path: Path) -> None:
    write(tmp_path / "s.h5", (5, 1, 8))
    write(tmp_path / "r.h5", (4, 9), skill="ring", run=1)
    write(tmp_path / "b.h5", (3,), skill="both", run=2)
    merge([tmp_path / "r.h5", tmp_path / "b.h5"], tmp_path / "rb.h5", domain=tiny.DOMAIN)
    merge([tmp_path / "rb.h5", tmp_path / "s.h5"], tmp_path / "all.h5", domain=tiny.DOMAIN)
    with DatasetReader(tmp_path / "all.h5") as reader:
        assert reader.info.skills == ("steer", "ring", "both")
        counts = {name: len(reader.episodes_of(name)) for name in reader.info.skills}
        assert counts == {"steer": 3, "ring": 2, "both": 1}


def test_a_merged_dataset_counts_as_of_its_last_round(tmp_path: Path) -> None:
    write(tmp_path / "experts.h5", (5, 1, 8))
    write(tmp_path / "second.h5", (4, 9), run=1, rounds=2)
    paths = [tmp_path / "experts.h5", tmp_path / "second.h5"]
    assert merge(paths, tmp_path / "m.h5", domain=tiny.DOMAIN).rounds == 2
    with DatasetReader(tmp_path / "m.h5") as reader:
        assert reader.info.rounds == 2


def test_blocks_are_cut_between_episodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skilldistill.data.merge._BLOCK_ROWS", 10)
    episodes = write(tmp_path / "s.h5", (5, 4, 2, 30, 1, 9, 1))
    reports: list[Progress] = []
    merge([tmp_path / "s.h5"], tmp_path / "m.h5", domain=tiny.DOMAIN, progress=reports.append)
    assert [report.done for report in reports] == [9, 11, 41, 51, 52]
    assert {report.total for report in reports} == {52}
    with DatasetReader(tmp_path / "m.h5") as reader:
        rows = reader.read_all(["observations"])["observations"]
        np.testing.assert_array_equal(rows, joined(episodes, "observations"))
        np.testing.assert_array_equal(reader.episode_seed, [episode.seed for episode in episodes])
        returns = [episode.rewards.sum(dtype=np.float64) for episode in episodes]
        np.testing.assert_array_equal(reader.episode_return, np.float32(returns))


def test_the_same_data_twice_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", (5, 1, 8))
    write(tmp_path / "r.h5", (5,), skill="ring", run=3)
    shutil.copy(tmp_path / "a.h5", tmp_path / "copy.h5")
    (tmp_path / "link.h5").symlink_to(tmp_path / "a.h5")
    # More episodes of the same seed: the first three are those of a.h5.
    write(tmp_path / "longer.h5", (5, 1, 8, 4), experts=(ExpertRef("expert:other@1", "cd" * 32),))
    merge([tmp_path / "r.h5", tmp_path / "a.h5"], tmp_path / "ra.h5", domain=tiny.DOMAIN)
    for other, message in (
        ("a.h5", "one is given twice"),
        ("link.h5", "two and one are the same file"),
        ("copy.h5", "hold the same episode"),
        ("longer.h5", "hold the same episode"),
        ("ra.h5", "hold the same episode"),
    ):
        names = ["one", "one" if other == "a.h5" else "two"]
        paths = [tmp_path / "a.h5", tmp_path / other]
        with pytest.raises(ConfigurationError, match=message) as caught:
            merge(paths, tmp_path / "m.h5", domain=tiny.DOMAIN, names=names)
        assert caught.value.hint
        assert not (tmp_path / "m.h5").exists()


def test_what_two_experts_did_in_the_same_place_is_not_the_same_episode(tmp_path: Path) -> None:
    (episode,) = write(tmp_path / "a.h5", (5,))
    other = dataclasses.replace(episode, actions=-episode.actions)
    with DatasetWriter(tmp_path / "b.h5", make_info(), 1) as writer:
        writer.append(other)
    merge([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "m.h5", domain=tiny.DOMAIN)
    with DatasetReader(tmp_path / "m.h5") as reader:
        assert reader.num_episodes == 2


def test_unusable_inputs_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "s.h5")
    with pytest.raises(ConfigurationError, match="nothing to merge"):
        merge([], tmp_path / "m.h5", domain=tiny.DOMAIN)
    with pytest.raises(NotFound, match=r"x\.h5"):
        merge([tmp_path / "s.h5", tmp_path / "x.h5"], tmp_path / "m.h5", domain=tiny.DOMAIN)
    other = dataclasses.replace(tiny.DOMAIN, name="other")
    with pytest.raises(ConfigurationError, match="belongs to domain 'tiny', not 'other'"):
        merge([tmp_path / "s.h5"], tmp_path / "m.h5", domain=other)
    write(tmp_path / "wide.h5", observation_names=("x", "abs_x", "two"))
    with pytest.raises(ConfigurationError, match="observations are x, abs_x, two"):
        merge([tmp_path / "s.h5", tmp_path / "wide.h5"], tmp_path / "m.h5", domain=tiny.DOMAIN)
    content = bytearray((tmp_path / "s.h5").read_bytes())
    (tmp_path / "cut.h5").write_bytes(content[:-40])
    with pytest.raises(CorruptFile, match=r"cut\.h5"):
        merge([tmp_path / "cut.h5"], tmp_path / "m.h5", domain=tiny.DOMAIN)
    assert not (tmp_path / "m.h5").exists()


def test_interruption_leaves_nothing(tmp_path: Path) -> None:
    write(tmp_path / "s.h5")
    with pytest.raises(Interrupted) as caught:
        merge([tmp_path / "s.h5"], tmp_path / "m.h5", domain=tiny.DOMAIN, stop=lambda: 15)
    assert caught.value.exit_code == 143
    assert not (tmp_path / "m.h5").exists()
