from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skilldistill.data.reader import DatasetReader
from skilldistill.data.schema import EPISODE_COLUMNS, FORMAT, FORMAT_VERSION, ROW_COLUMNS, Episode
from skilldistill.data.writer import DatasetWriter
from skilldistill.errors import ConfigurationError, CorruptFile, DiskProblem
from tests.data.samples import joined, make_episode, make_info, write


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_file_has_the_documented_columns_and_attributes(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", (5, 1, 8))
    with h5py.File(tmp_path / "a.h5") as file:
        expected = {
            "observations": ("f4", (14, 3)),
            "actions": ("f4", (14, 2)),
            "targets": ("f4", (14, 2)),
            "target_std": ("f4", (14, 2)),
            "action_mask": ("?", (14, 2)),
            "skill": ("u1", (14,)),
            "native_observations": ("f4", (14, 1)),
            "rewards": ("f4", (14,)),
            "terminated": ("?", (14,)),
            "truncated": ("?", (14,)),
            "episode_start": ("i8", (3,)),
            "episode_length": ("i8", (3,)),
            "episode_return": ("f4", (3,)),
            "episode_seed": ("u8", (3,)),
        }
        assert {n: (d.dtype, d.shape) for n, d in file.items()} == {
            n: (np.dtype(t), s) for n, (t, s) in expected.items()
        }
        assert set(expected) == {c.name for c in (*ROW_COLUMNS, *EPISODE_COLUMNS)}
        assert all(d.fletcher32 and d.chunks and d.compression is None for d in file.values())
        assert file["episode_start"][:].tolist() == [0, 5, 6]
        attributes = file.attrs
        assert attributes["format"] == FORMAT == "skilldistill.dataset"
        assert attributes["format_version"] == FORMAT_VERSION == 1
        assert attributes["domain"] == "tiny"
        assert list(attributes["skills"]) == ["steer"]
        assert list(attributes["action_names"]) == ["bell", "move"]
        assert '"ref":"expert:steer@1"' in attributes["experts"]
        assert {"env_id", "seed", "config", "observation_names", "skilldistill_version"} <= set(
            attributes
        )


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 90), min_size=1, max_size=12),
    chunk_rows=st.sampled_from([1, 4, 64]),
    native=st.sampled_from([None, 1, 3]),
)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], chunk_rows: int, native: int
) -> None:
    path = tmp_path_factory.mktemp("file") / "a.h5"
    episodes = [make_episode(i, length, native=native) for i, length in enumerate(lengths)]
    info = make_info()
    with DatasetWriter(path, info, native, chunk_rows=chunk_rows) as writer:
        writer.append_many(episodes)
        assert (writer.num_episodes, writer.num_rows) == (len(lengths), sum(lengths))
    with DatasetReader(path) as reader:
        assert reader.info == info
        assert reader.native_dim == native
        batch = reader.read_all()
        assert set(batch) == set(reader.fields)
        for name, array in batch.items():
            np.testing.assert_array_equal(array, joined(episodes, name))
        np.testing.assert_array_equal(reader.episode_length, lengths)
        np.testing.assert_array_equal(reader.episode_seed, np.arange(len(lengths)))
        returns = [episode.rewards.sum(dtype=np.float64) for episode in episodes]
        np.testing.assert_array_equal(reader.episode_return, np.float32(returns))


def test_bytes_depend_on_the_episodes_alone(tmp_path: Path) -> None:
    episodes = write(tmp_path / "a.h5", (50, 3, 70, 1), chunk_rows=4)
    time.sleep(1.1)  # file formats count seconds
    with DatasetWriter(tmp_path / "b.h5", make_info(seed=0), 1, chunk_rows=4) as writer:
        for episode in episodes:
            columns = episode.columns()
            for row in range(len(episode)):
                writer.append_rows({name: array[row : row + 1] for name, array in columns.items()})
            total = episode.rewards.sum(dtype=np.float64)
            writer.append_episodes([len(episode)], [total], [episode.seed])
    assert sha256(tmp_path / "a.h5") == sha256(tmp_path / "b.h5")


def write_one(path: Path, episode: Episode, native: int | None) -> None:
    with DatasetWriter(path, make_info(), native) as writer:
        writer.append(episode)


@pytest.mark.parametrize(
    ("skill", "native", "message"),
    [
        (3, 1, "skill index 3 is none of steer"),
        (0, 2, r"native_observations is float32 of shape \(5, 1"),
        (0, None, "rows have columns"),
    ],
)
def test_episodes_that_do_not_fit_are_refused(
    tmp_path: Path, skill: int, native: int | None, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        write_one(tmp_path / "a.h5", make_episode(skill=skill), native)
    assert list(tmp_path.iterdir()) == []


def test_rows_without_an_episode_are_refused(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path / "a.h5", make_info(), 1)
    writer.append(make_episode())
    writer.append_rows(make_episode().columns())
    with pytest.raises(ConfigurationError, match="episodes cover 5 rows of 10"):
        writer.close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_episodes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no episode"):
        DatasetWriter(tmp_path / "a.h5", make_info()).close()
    assert list(tmp_path.iterdir()) == []


def test_an_error_inside_removes_the_file(tmp_path: Path) -> None:
    def play() -> None:
        with DatasetWriter(tmp_path / "a.h5", make_info(), 1) as writer:
            writer.append(make_episode())
            raise RuntimeError("player fell over")

    with pytest.raises(RuntimeError, match="player"):
        play()
    assert list(tmp_path.iterdir()) == []


def test_a_last_row_that_cannot_be_read_back_removes_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, episode = tmp_path / "a.h5", make_episode()
    row = episode.observations[-1].tobytes()

    def lose_a_bit(_: int) -> None:
        content = path.read_bytes()
        assert content.count(row) == 1
        path.write_bytes(content.replace(row, bytes([row[0] ^ 1]) + row[1:]))

    monkeypatch.setattr(os, "fsync", lose_a_bit)
    with pytest.raises(CorruptFile, match=r"a\.h5"):
        write_one(path, episode, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DiskProblem, match=r"cannot write .*No such file or directory"):
        DatasetWriter(tmp_path / "missing" / "a.h5", make_info())


def test_existing_data_is_never_overwritten(tmp_path: Path) -> None:
    write(tmp_path / "a.h5")
    before = sha256(tmp_path / "a.h5")
    with pytest.raises(ConfigurationError, match="exists already"):
        DatasetWriter(tmp_path / "a.h5", make_info(), 1)
    assert sha256(tmp_path / "a.h5") == before


FULL_DISK = """
import resource, sys
from pathlib import Path
from skilldistill.data.writer import DatasetWriter
from skilldistill.errors import DiskProblem
from tests.data.samples import make_episode, make_info

path = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    with DatasetWriter(path, make_info(), 1) as writer:
        for seed in range(40):
            writer.append(make_episode(seed, 5000))
except DiskProblem as error:
    print(error.message, error.hint, sep=" | ")
    sys.exit(error.exit_code if not path.exists() else 99)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a limit on file sizes")
@pytest.mark.parametrize("limit", [500, 100_000, 6_000_000])
def test_a_disk_that_fills_up_is_reported_and_leaves_nothing(tmp_path: Path, limit: int) -> None:
    # A limit on the file's size fails at the same places as a full disk, and needs no mount.
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "a.h5"), str(limit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 6, done.stdout + done.stderr
    assert done.stdout.count("cannot write") == 1
    assert "File too large" in done.stdout
    assert "free some space" in done.stdout
    assert done.stderr == ""
