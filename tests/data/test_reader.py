from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skilldistill.data import layout
from skilldistill.data.merge import merge
from skilldistill.data.reader import DatasetReader
from skilldistill.data.writer import DatasetWriter
from skilldistill.errors import ConfigurationError, CorruptFile, NotFound
from tests import tiny
from tests.data.samples import make_episode, make_info, write


@pytest.fixture(scope="module")
def two_skills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 steer and 20 ring episodes of 1 to 30 steps, in one file of many chunks."""
    folder = tmp_path_factory.mktemp("two")
    rng = np.random.default_rng(0)
    write(folder / "steer.h5", rng.integers(1, 30, 30).tolist(), chunk_rows=16)
    write(folder / "ring.h5", rng.integers(1, 30, 20).tolist(), skill="ring", run=1)
    merge([folder / "ring.h5", folder / "steer.h5"], folder / "m.h5", domain=tiny.DOMAIN)
    # The same rows with small chunks, as a file of millions of rows has many.
    with DatasetReader(folder / "m.h5") as reader, rechunked(folder / "small.h5", reader):
        return folder / "small.h5"


def rechunked(path: Path, reader: DatasetReader) -> DatasetWriter:
    writer = DatasetWriter(path, reader.info, chunk_rows=16)
    writer.append_rows(reader.read_all())
    writer.append_episodes(reader.episode_length, reader.episode_return, reader.episode_seed)
    return writer


# Rows


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_rows_by_slice_and_by_number_agree(two_skills: Path, data: st.DataObject) -> None:
    with DatasetReader(two_skills) as reader:
        everything = reader.read_all()
        low = data.draw(st.integers(0, reader.num_rows))
        high = data.draw(st.integers(0, reader.num_rows + 5))
        numbers = data.draw(st.lists(st.integers(0, reader.num_rows - 1), max_size=50))
        by_slice = reader.rows(slice(low, high))
        by_number = reader.rows(np.array(numbers, dtype=np.int64), ["targets", "skill"])
        assert set(by_number) == {"targets", "skill"}
        for name, whole in everything.items():
            np.testing.assert_array_equal(by_slice[name], whole[low:high])
        for name, array in by_number.items():
            np.testing.assert_array_equal(array, everything[name][numbers])


def test_read_all_of_some_episodes_is_in_the_files_order(two_skills: Path) -> None:
    with DatasetReader(two_skills) as reader:
        chosen = np.array([40, 3, 0, 17])
        batch = reader.read_all(["observations"], chosen)
        start, length = reader.episode_start, reader.episode_length
        expected = np.concatenate(
            [np.arange(start[e], start[e] + length[e]) for e in sorted(chosen)]
        )
        whole = reader.read_all(["observations"])["observations"]
        np.testing.assert_array_equal(batch["observations"], whole[expected])
        assert len(reader.read_all(["rewards"], np.array([], dtype=np.int64))["rewards"]) == 0


def test_what_is_not_there_is_refused(two_skills: Path) -> None:
    with DatasetReader(two_skills) as reader:
        with pytest.raises(ConfigurationError, match="no column wings"):
            reader.rows(slice(0, 1), ["wings"])
        with pytest.raises(ConfigurationError, match="no column native_observations"):
            reader.read_all(["native_observations"])
        with pytest.raises(ConfigurationError, match="steps of 1"):
            reader.rows(slice(0, 4, 2))
        for wrong in (-1, reader.num_rows):
            with pytest.raises(ConfigurationError, match="has rows 0 to"):
                reader.rows(np.array([wrong]))
        with pytest.raises(ConfigurationError, match="has episodes 0 to 49"):
            reader.read_all(episodes=np.array([50]))
        with pytest.raises(ConfigurationError, match="no skill 'fly'"):
            reader.episodes_of("fly")


# Sampling


@settings(max_examples=30, deadline=None)
@given(
    block_rows=st.integers(1, 900),
    episodes=st.none() | st.sets(st.integers(0, 49), min_size=1),
    seed=st.integers(0, 100),
)
def test_shuffled_blocks_give_every_wanted_row_once(
    two_skills: Path, block_rows: int, episodes: set[int] | None, seed: int
) -> None:
    wanted = None if episodes is None else np.array(sorted(episodes))
    with DatasetReader(two_skills) as reader:
        blocks = list(reader.shuffled_blocks(np.random.default_rng(seed), block_rows, None, wanted))
        again = list(reader.shuffled_blocks(np.random.default_rng(seed), block_rows, None, wanted))
        expected = reader.read_all(episodes=wanted)
        assert all(len(b["skill"]) < block_rows + reader.chunk_rows for b in blocks)
        assert all(len(b["skill"]) >= block_rows for b in blocks[:-1])
    for first, second in zip(blocks, again, strict=True):
        np.testing.assert_array_equal(first["observations"], second["observations"])
    together = {name: np.concatenate([b[name] for b in blocks]) for name in expected}
    # Observations are random, so that they identify a row; its other columns must come along.
    order, back = (np.lexsort(t["observations"].T) for t in (together, expected))
    for name, column in expected.items():
        np.testing.assert_array_equal(together[name][order], column[back])


def test_shuffled_blocks_are_shuffled(two_skills: Path) -> None:
    with DatasetReader(two_skills) as reader:
        (whole,) = reader.shuffled_blocks(np.random.default_rng(0), reader.num_rows)
        skill = whole["skill"]
        half = len(skill) // 2
        share = reader.read_all(["skill"])["skill"].mean()
        assert abs(skill[:half].mean() - share) < 0.1
        in_order = reader.read_all(["observations"])["observations"]
        assert not (whole["observations"] == in_order).all()


def test_the_first_of_several_blocks_holds_rows_from_all_over_the_file(two_skills: Path) -> None:
    with DatasetReader(two_skills) as reader:
        first = next(reader.shuffled_blocks(np.random.default_rng(0), 64, ["observations"]))
        whole = reader.read_all(["observations"])["observations"]
    assert len(first["observations"]) < len(whole) / 4
    place = {row.tobytes(): number for number, row in enumerate(whole)}
    places = np.array([place[row.tobytes()] for row in first["observations"]])
    assert 0 < (places >= len(whole) // 2).sum() < len(places)


def test_shuffled_blocks_of_one_skill_read_no_other_chunks(
    two_skills: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DatasetReader(two_skills) as reader:
        ring = reader.episodes_of("ring")
        read: list[int] = []
        real = reader._read

        def spy(name: str, low: int, high: int) -> np.ndarray:
            read.append(high - low)
            return real(name, low, high)

        monkeypatch.setattr(reader, "_read", spy)
        rows = sum(
            len(b["rewards"])
            for b in reader.shuffled_blocks(np.random.default_rng(0), 64, ["rewards"], ring)
        )
        assert rows == reader.episode_length[ring].sum()
        assert sum(read) < rows + 2 * reader.chunk_rows


# Splitting


@settings(max_examples=50, deadline=None)
@given(fraction=st.floats(0, 0.9), seed=st.integers(-5, 2**70))
def test_split_covers_every_episode_and_every_skill(
    two_skills: Path, fraction: float, seed: int
) -> None:
    with DatasetReader(two_skills) as reader:
        train, held = reader.split(fraction, seed)
        np.testing.assert_array_equal(np.sort(np.concatenate([train, held])), np.arange(50))
        for skill, count in (("ring", 20), ("steer", 30)):
            mine = reader.episodes_of(skill)
            assert len(mine) == count
            share = np.isin(mine, held).sum()
            assert abs(share - fraction * count) <= 1
            assert (share > 0) == (fraction > 0)
            assert share < count
        np.testing.assert_array_equal(reader.split(fraction, seed)[1], held)


@pytest.mark.parametrize(("episodes", "held"), [(15, 2), (16, 2), (4, 1), (14, 1)])
def test_a_tenth_is_rounded_and_never_nothing(tmp_path: Path, episodes: int, held: int) -> None:
    write(tmp_path / "a.h5", (1,) * episodes)
    with DatasetReader(tmp_path / "a.h5") as reader:
        assert len(reader.split(0.1, 0)[1]) == held


def test_split_depends_on_the_seed_and_refuses_nonsense(two_skills: Path) -> None:
    with DatasetReader(two_skills) as reader:
        assert not np.array_equal(reader.split(0.5, 0)[1], reader.split(0.5, 1)[1])
        for fraction in (-0.1, 1.0, float("nan")):
            with pytest.raises(ConfigurationError, match="val_fraction"):
                reader.split(fraction, 0)


def test_a_skill_of_one_episode_is_trained_on(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", (5,))
    with DatasetReader(tmp_path / "a.h5") as reader:
        assert [len(part) for part in reader.split(0.5, 0)] == [1, 0]


def test_a_skill_of_two_episodes_keeps_one_to_train_on(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", (5, 3))
    with DatasetReader(tmp_path / "a.h5") as reader:
        assert [len(part) for part in reader.split(0.9, 0)] == [1, 1]


def test_summary_is_plain_and_right(tmp_path: Path) -> None:
    episodes = write(tmp_path / "a.h5", (5, 1, 8))
    with DatasetReader(tmp_path / "a.h5", domain=tiny.DOMAIN) as reader:
        summary = json.loads(json.dumps(reader.summary()))
    returns = [episode.rewards.sum() for episode in episodes]
    assert (summary["rows"], summary["episodes"]) == (14, 3)
    assert summary["skills"]["steer"]["mean_return"] == pytest.approx(np.mean(returns), rel=1e-6)
    assert summary["columns"]["observations"] == {"dtype": "float32", "shape": [14, 3]}
    assert summary["config"] == {"episodes": 3, "name": "größe"}
    assert summary["bytes"] == (tmp_path / "a.h5").stat().st_size


# What is refused


def test_missing_files_and_other_files(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no file"):
        DatasetReader(tmp_path / "a.h5")
    (tmp_path / "text.h5").write_text("hello\n")
    with pytest.raises(CorruptFile, match="no sound HDF5 file"):
        DatasetReader(tmp_path / "text.h5")
    (tmp_path / "empty.h5").touch()
    with pytest.raises(CorruptFile, match="no sound HDF5 file"):
        DatasetReader(tmp_path / "empty.h5")
    with pytest.raises(CorruptFile, match="is a directory"):
        DatasetReader(tmp_path)
    os.mkfifo(tmp_path / "pipe.h5")
    with pytest.raises(CorruptFile, match="is a pipe"):
        DatasetReader(tmp_path / "pipe.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["observations"] = np.zeros(3)
    with pytest.raises(CorruptFile, match="no skilldistill dataset"):
        DatasetReader(tmp_path / "other.h5")


def edit_column(name: str, **storage: object) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        options = {"chunks": file[name].chunks, "fletcher32": True, "data": file[name][:]}
        options |= storage
        if "dtype" in storage:
            options["data"] = options["data"].astype(storage["dtype"])
        del file[name]
        file.create_dataset(name, **options)

    return edit


def delete(name: str) -> Callable[[h5py.File], None]:
    return lambda file: file.__delitem__(name)


def soft_link(file: h5py.File) -> None:
    file.move("rewards", "elsewhere")
    del file["truncated"]
    file["rewards"] = h5py.SoftLink("/elsewhere")
    file.move("elsewhere", "truncated")


def external_link(file: h5py.File) -> None:
    del file["rewards"]
    file["rewards"] = h5py.ExternalLink("/etc/passwd", "/x")


def group(file: h5py.File) -> None:
    del file["rewards"]
    file.create_group("rewards")


def lost_chunk(file: h5py.File) -> None:
    del file["rewards"]
    dataset = file.create_dataset("rewards", (14,), "f4", chunks=(4,), fletcher32=True)
    dataset[:8] = 1


def set_value(name: str, place: object, value: object) -> Callable[[h5py.File], None]:
    return lambda file: file[name].__setitem__(place, value)


def set_bytes(name: str, row: int, value: int) -> Callable[[h5py.File], None]:
    """Give every byte of a row a value, which h5py would make a bool of."""

    def edit(file: h5py.File) -> None:
        dataset = file[name]
        place = dataset.id.get_space()
        shape = (1, *dataset.shape[1:])
        place.select_hyperslab((row, *(0 for _ in shape[1:])), shape)
        content = np.full(shape, value, dtype=np.uint8)
        memory = h5py.h5s.create_simple(shape)
        dataset.id.write(memory, place, content, dataset.id.get_type())

    return edit


def set_attribute(name: str, value: object) -> Callable[[h5py.File], None]:
    return lambda file: file.attrs.__setitem__(name, value)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (delete("rewards"), "columns missing or unknown: rewards"),
        (lambda file: file.create_group("extra"), "columns missing or unknown: extra"),
        (soft_link, "rewards is a link"),
        (external_link, "rewards is a link"),
        (group, "rewards is no column"),
        (lost_chunk, "rewards lacks some of its rows"),
        (edit_column("rewards", dtype="f8"), "rewards is float64, expected float32"),
        (edit_column("rewards", dtype=">f4"), "rewards is >f4, expected float32"),
        (edit_column("actions", data=np.zeros((14, 3), "f4"), chunks=(4, 3)), "actions has shape"),
        (edit_column("skill", data=np.zeros(13, "u1")), r"skill has shape \(13,\)"),
        (edit_column("rewards", fletcher32=False), "rewards is not stored .* with checksums"),
        (edit_column("rewards", chunks=None, fletcher32=None), "rewards is not stored"),
        (edit_column("rewards", compression="gzip"), "rewards is stored compressed"),
        (edit_column("targets", chunks=(4, 1)), "targets is not stored in whole rows"),
        (set_value("episode_start", 1, 4), "episodes do not cover the rows"),
        (set_value("episode_length", 1, 2), "episodes do not cover the rows"),
        (set_value("episode_length", slice(0, 2), [7, -1]), "episodes do not cover the rows"),
        (set_value("episode_return", 0, np.nan), "episode_return is not finite"),
        (set_attribute("format", "something"), "no skilldistill dataset"),
        (set_attribute("format", 3), "attributes cannot be read: expected text"),
        (set_attribute("format_version", 0), "do not match their digest"),
        (set_attribute("seed", 8), "do not match their digest"),
        (set_attribute("config", "{"), "attributes cannot be read"),
        (set_attribute("experts", "[1]"), "attributes cannot be read"),
        (set_attribute("skills", ["a", "a"]), "attributes cannot be read: skills must be distinct"),
        (lambda file: file.attrs.__delitem__("domain"), "attributes cannot be read"),
    ],
)
def test_damaged_structure_is_refused(
    tmp_path: Path, edit: Callable[[h5py.File], None], message: str
) -> None:
    path = tmp_path / "a.h5"
    write(path, (5, 1, 8))
    with h5py.File(path, "r+") as file:
        edit(file)
    with pytest.raises(CorruptFile, match=message) as caught:
        DatasetReader(path)
    assert str(path) in caught.value.message
    assert "skilldistill" in caught.value.hint
    assert caught.value.exit_code == 3


def test_a_later_format_is_refused_with_the_way_out(tmp_path: Path) -> None:
    write(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.attrs["format_version"] = 2
    with pytest.raises(CorruptFile, match="format version 2; this skilldistill reads up to 1") as e:
        DatasetReader(tmp_path / "a.h5")
    assert "pip install --upgrade skilldistill" in e.value.hint


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (set_value("observations", (9, 1), np.nan), "observations holds a number that is not"),
        (set_value("target_std", (0, 0), -np.inf), "target_std holds a number that is not"),
        (set_value("skill", 13, 1), "skill holds a value above 0"),
        (set_bytes("action_mask", 9, 2), "action_mask holds a value above 1"),
        (set_bytes("terminated", 9, 255), "terminated holds a value above 1"),
    ],
)
def test_damaged_values_are_refused_when_read(
    tmp_path: Path, edit: Callable[[h5py.File], None], message: str
) -> None:
    path = tmp_path / "a.h5"
    write(path, (5, 1, 8))
    with h5py.File(path, "r+") as file:
        edit(file)
    with DatasetReader(path) as reader:
        reader.rows(slice(1, 5))
        with pytest.raises(CorruptFile, match=message):
            reader.check()


def test_a_file_without_episodes_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        for dataset in file.values():
            dataset.resize(0, axis=0)
    with pytest.raises(CorruptFile, match="holds no episodes") as caught:
        DatasetReader(tmp_path / "a.h5")
    assert "skilldistill collect" in caught.value.hint


def test_data_of_another_domain_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", observation_names=("x", "y", "z"))
    with DatasetReader(tmp_path / "a.h5") as reader:
        assert reader.num_rows == 14
    with pytest.raises(ConfigurationError, match="observations are x, y, z; domain 'tiny' has x"):
        DatasetReader(tmp_path / "a.h5", domain=tiny.DOMAIN)
    write(tmp_path / "b.h5", skill="both")
    DatasetReader(tmp_path / "b.h5", domain=tiny.DOMAIN).close()
    write_native_of_wrong_width(tmp_path / "c.h5")
    with pytest.raises(ConfigurationError, match=r"native_observations has 2 columns.* expects 1"):
        DatasetReader(tmp_path / "c.h5", domain=tiny.DOMAIN)


def write_native_of_wrong_width(path: Path) -> None:
    with DatasetWriter(path, make_info(), 2) as writer:
        writer.append(make_episode(native=2))


# Truncation and flipped bits


def fingerprint(path: Path) -> str:
    """Hash of everything a reader gives."""
    with DatasetReader(path) as reader:
        digest = hashlib.sha256(reader.info.digest().encode())
        for array in (*reader.read_all().values(), reader.episode_start, reader.episode_length):
            digest.update(array.tobytes())
        digest.update(reader.episode_return.tobytes() + reader.episode_seed.tobytes())
        return digest.hexdigest()


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", (5, 1, 8))
    content = (tmp_path / "a.h5").read_bytes()
    cut = tmp_path / "cut.h5"
    for size in [0, 1, 7, 8, 47, 48, *range(100, len(content), 997), len(content) - 1]:
        cut.write_bytes(content[:size])
        with pytest.raises(CorruptFile, match=r"cut\.h5"):
            fingerprint(cut)


def damage(path: Path, count: int, seed: int) -> dict[str, int]:
    """Flip single bits, read, and count how it ended. Anything but CorruptFile escapes."""
    content = bytearray(path.read_bytes())
    sound = fingerprint(path)
    flipped = path.with_name("flipped.h5")
    rng = random.Random(seed)
    ends = {"refused": 0, "unharmed": 0, "wrong": 0}
    for _ in range(count):
        place, bit = rng.randrange(len(content)), 1 << rng.randrange(8)
        content[place] ^= bit
        flipped.write_bytes(content)
        content[place] ^= bit
        try:
            ends["unharmed" if fingerprint(flipped) == sound else "wrong"] += 1
        except CorruptFile:
            ends["refused"] += 1
    return ends


def test_a_flipped_bit_is_refused_or_harmless(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", (5, 1, 8))
    # In a process of its own: a bit that crashed HDF5 shall fail this test, not end the run.
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from tests.data.test_reader import damage; "
            "print(damage(Path(sys.argv[1]), 400, 0))",
            str(tmp_path / "a.h5"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    ends: dict[str, int] = eval(done.stdout)
    assert ends["wrong"] == 0
    assert ends["refused"] > 100


def test_a_flipped_bit_in_the_data_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write(path, (5, 1, 8))
    with h5py.File(path) as file:
        chunk = file["targets"].id.get_chunk_info(1)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + 3] ^= 1
    path.write_bytes(content)
    with DatasetReader(path) as reader:
        reader.rows(slice(0, 4))
        with pytest.raises(CorruptFile, match="column targets, rows 4 to 7, cannot be read"):
            reader.rows(slice(4, 8), ["targets"])


def test_a_text_heap_that_would_send_hdf5_in_circles_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write(path)
    content = bytearray(path.read_bytes())
    text = content.index(b'{"episodes":3')
    content[text - 8] ^= 8  # the size of the text: what follows looks like free space of size 0
    path.write_bytes(content)
    with pytest.raises(CorruptFile, match="texts are damaged"):
        DatasetReader(path)
    path.write_bytes(bytes(2**21) + content)  # HDF5 looks for its beginning at powers of two
    with pytest.raises(CorruptFile, match="texts are damaged"):
        DatasetReader(path)


@pytest.mark.parametrize("before", [1, 4, 7])
def test_a_text_heap_that_begins_where_two_looks_meet_is_checked_too(
    tmp_path: Path, before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, window = tmp_path / "a.h5", 1 << 16
    write(path)
    content = bytearray(path.read_bytes())
    content[content.index(b'{"episodes":3') - 8] ^= 8
    heap = content.index(b"GCOL")
    path.write_bytes(bytes(2 * window - before - heap) + content)
    monkeypatch.setattr(layout, "_WINDOW", window)
    with pytest.raises(CorruptFile, match="texts are damaged"):
        layout.open_file(path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_opening_a_large_file_does_not_make_it_resident(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write(path)
    with path.open("r+b") as file:
        file.truncate(1 << 29)  # what HDF5 does not know of takes no place on disk
    script = f"""if True:
        from pathlib import Path
        from skilldistill.data.reader import DatasetReader

        def mebibytes(name):
            status = Path("/proc/self/status").read_text()
            return int(status.split(name + ":")[1].split()[0]) / 1024

        before = mebibytes("VmRSS")
        DatasetReader({str(path)!r}).close()
        print(mebibytes("VmHWM") - before)
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert float(done.stdout) < 200
