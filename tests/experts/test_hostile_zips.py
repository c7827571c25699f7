"""Files made to harm are refused with a documented error: quickly, in little memory, unread."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skilldistill import errors
from skilldistill.experts import torch_file
from skilldistill.experts.sb3_text import parse_json, pickles, read_policy
from skilldistill.experts.sb3_zip import read_trusted, read_zip
from skilldistill.experts.torch_file import read_tensors
from tests.experts.bare_zoo import ZOO
from tests.experts.hostile import HOSTILE, Payload, make_all, saved, torch_zip
from tests.experts.zoo import save_zip

SECONDS, MEGABYTES = 5, 512
FIELDS = (
    *("policy_class", "__module__", "policy_kwargs", "net_arch", "pi", "activation_fn", "use_sde"),
    *("observation_space", "action_space", ":type:", ":serialized:", "_shape", "low", "high", "n"),
    *("nvec", "start", "features_extractor_class", "squash_output"),
)

_READ = """
import json, sys, time
from pathlib import Path
from skilldistill import errors
from skilldistill.experts.sb3_zip import read_zip
from tests.experts.bare_zoo import ZOO
LINUX = sys.platform == "linux"  # elsewhere memory is not measured
for path in map(Path, sys.argv[1:]):
    if LINUX:
        Path("/proc/self/clear_refs").write_text("5")  # forget the highest memory use so far
    start = time.perf_counter()
    name, code, said = "", 0, ""
    try:
        read_zip(path, ZOO.skill("aim"), ZOO)
    except errors.SkillDistillError as error:
        name, code, said = type(error).__name__, error.exit_code, error.message
    except BaseException as error:
        name, code = repr(error), -1
    seconds = time.perf_counter() - start
    status = Path("/proc/self/status").read_text() if LINUX else "VmHWM: 0"
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
    row = [path.stem, name, code, seconds, peak, "torch" in sys.modules, said]
    print(json.dumps(row), flush=True)
"""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Reads every hostile file in one fresh process that has not loaded torch."""
    directory = tmp_path_factory.mktemp("hostile")
    canary = tmp_path_factory.mktemp("cage") / "canary"
    paths = make_all(directory, save_zip(tmp_path_factory.mktemp("sound"), "aim"), canary)
    before = {path: path.lstat().st_size for path in directory.rglob("*")}
    done = subprocess.run(
        [sys.executable, "-c", _READ, *map(str, paths)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    rows = {row[0]: row for row in map(json.loads, done.stdout.splitlines())}
    after = {path: path.lstat().st_size for path in directory.rglob("*")}
    return rows, canary, before, after, {path.stem: path for path in paths}


def test_there_are_enough_kinds() -> None:
    assert len(HOSTILE) >= 16


@pytest.mark.parametrize("kind", HOSTILE)
def test_is_refused_in_time_and_memory(kind: str, scene: Any) -> None:
    rows, canary, *_ = scene
    _, error, code, seconds, peak, _, _ = rows[kind]
    assert error in ("UnsafeFile", "CorruptFile", "UnsupportedExpert", "BeyondTrust"), error
    assert code == 3
    assert seconds < SECONDS
    assert peak < MEGABYTES
    assert not canary.exists()


@pytest.mark.parametrize("kind", HOSTILE)
def test_is_refused_in_words_fit_for_a_terminal(kind: str, scene: Any) -> None:
    rows, *_, paths = scene
    said = rows[kind][6]
    assert said.isprintable()
    assert len(said) - len(str(paths[kind])) < 600


def test_nan_is_blamed_on_the_tensor_that_holds_it(scene: Any) -> None:
    assert "'value_net.bias' holds NaN" in scene[0]["nan_in_the_critic"][6]


def test_nothing_is_written(scene: Any) -> None:
    _, _, before, after, _ = scene
    assert before == after


def test_no_hostile_file_reaches_torch(scene: Any) -> None:
    assert not any(row[5] for row in scene[0].values())


@pytest.mark.parametrize("kind", [kind for kind in HOSTILE if "pickle" in kind])
def test_trusting_does_not_run_what_is_refused_as_unsafe(kind: str, scene: Any) -> None:
    _, canary, _, _, paths = scene
    with pytest.raises(errors.CorruptFile):
        read_trusted(paths[kind], ZOO.skill("aim"), ZOO)
    assert not canary.exists()


def test_the_canary_sings_when_a_payload_runs(tmp_path: Path) -> None:
    import pickle

    pickle.loads(pickle.dumps(Payload(tmp_path / "canary")))
    assert (tmp_path / "canary").exists()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    settings = {"net_arch": [2]}
    return save_zip(tmp_path_factory.mktemp("sound"), "aim", policy_kwargs=settings).read_bytes()


@hypothesis.settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_damage_is_refused_with_a_documented_error(
    data: st.DataObject, sound: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    raw = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        raw = raw[: data.draw(st.integers(0, len(raw)))]
    path = tmp_path_factory.mktemp("damaged") / "policy.zip"
    path.write_bytes(raw)
    with contextlib.suppress(errors.CorruptFile):
        read_zip(path, ZOO.skill("aim"), ZOO)


@hypothesis.settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_pickle_is_understood_or_refused(data: st.DataObject) -> None:
    """Damage within the pickle itself, which a checksum would otherwise catch."""
    buffer = io.BytesIO(saved({"a": torch.zeros(2, 2), "b": torch.zeros(3)}))
    with zipfile.ZipFile(buffer) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    raw = bytearray(members["archive/data.pkl"])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place] = data.draw(st.integers(0, 255))
    storages = {name.removeprefix("archive/"): content for name, content in members.items()}
    storages = {name: content for name, content in storages.items() if name.startswith("data/")}
    with contextlib.suppress(errors.CorruptFile):
        read_tensors(torch_zip(bytes(raw), storages), "damaged")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_small_numbers_count_as_the_larger_ones_they_become(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_file, "MAX_BYTES", 400)
    assert read_tensors(saved({"a": torch.ones(100, dtype=dtype)}), "file")["a"].nbytes == 400
    with pytest.raises(errors.UnsafeFile, match="more than 400 bytes"):
        read_tensors(saved({"a": torch.ones(101, dtype=dtype)}), "file")


@hypothesis.settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=20) | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=6)
        ),
        max_leaves=20,
    )
)
def test_any_text_is_understood_or_refused(content: Any) -> None:
    with contextlib.suppress(errors.CorruptFile):
        data = parse_json(json.dumps(content).encode(), "text")
        pickles(data, "text")
        read_policy(data, "text")


def test_the_sound_zip_is_read(tmp_path: Path) -> None:
    read_zip(save_zip(tmp_path, "aim"), ZOO.skill("aim"), ZOO)
