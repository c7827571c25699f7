import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skilldistill.errors import ConfigurationError, CorruptFile, NewerFormat
from skilldistill.workspace import manifest as manifests
from skilldistill.workspace.manifest import (
    KIND_FOLDERS,
    Artefact,
    FileEntry,
    Manifest,
    artefact_id,
    check_path,
    decode,
    encode,
    plain,
)
from tests.workspace.making import tree

NAMES = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,10}[A-Za-z0-9_-])?", fullmatch=True)
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
UNHURRIED = settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
"""Whole manifests take a while to draw on a busy machine."""
JSON_OBJECTS = st.dictionaries(st.text(), JSON_VALUES, max_size=4)


@st.composite
def artefacts(draw: st.DrawFn, version: int) -> Artefact:
    kind = draw(st.sampled_from(sorted(KIND_FOLDERS)))
    name = draw(NAMES)
    where = manifests.place(kind, name, version)
    inner = [""] if kind == "dataset" else draw(st.lists(NAMES, min_size=1, unique=True))
    files = tuple(
        FileEntry(
            f"{where}/{path}" if path else where,
            draw(st.from_regex("[0-9a-f]{64}", fullmatch=True)),
            draw(st.integers(0, 2**50)),
        )
        for path in inner
    )
    parents = tuple(draw(st.lists(st.from_regex("[0-9a-f]{16}", fullmatch=True), max_size=3)))
    return Artefact(
        id=artefact_id(kind, name, version, files, parents),
        kind=kind,
        name=name,
        version=version,
        files=files,
        created=draw(st.datetimes()).isoformat(timespec="microseconds") + "+00:00",
        command=draw(st.text()),
        config=draw(JSON_OBJECTS),
        seed=draw(st.integers()),
        parents=parents,
        metrics=draw(JSON_OBJECTS),
        status=draw(st.sampled_from(manifests.STATUSES)),
    )


@st.composite
def whole_manifests(draw: st.DrawFn) -> Manifest:
    count = draw(st.integers(0, 3))
    made = tuple(draw(artefacts(version)) for version in range(1, count + 1))
    versions = {f"{artefact.kind}:{artefact.name}": artefact.version for artefact in made}
    return Manifest(draw(st.integers(0, 10**6)), made, versions)


EXAMPLE = Artefact(
    id="0123456789abcdef",
    kind="checkpoint",
    name="distilled",
    version=2,
    files=(FileEntry("checkpoints/distilled/2/policy.json", "a" * 64, 12),),
    created="2025-01-02T03:04:05.678901+00:00",
    command="skilldistill distill",
    config={"epochs": 50},
    seed=0,
    parents=("fedcba9876543210",),
    metrics={"loss": 0.25},
    status="complete",
)


def rewritten(**changes: object) -> bytes:
    """The example's manifest with fields of its artefact changed, and a checksum that fits."""
    content = json.loads(encode(Manifest(1, (EXAMPLE,), {"checkpoint:distilled": 2})))
    content["artefacts"][0].update(changes)
    return summed(content)


def summed(content: dict) -> bytes:
    content.pop("checksum", None)
    return json.dumps(content | {"checksum": manifests._digest(content)}).encode()


@UNHURRIED
@given(whole_manifests())
def test_a_manifest_survives_being_written_and_read(manifest: Manifest) -> None:
    assert decode(encode(manifest)) == manifest


@UNHURRIED
@given(whole_manifests(), st.data())
def test_any_changed_byte_is_noticed(manifest: Manifest, data: st.DataObject) -> None:
    written = bytearray(encode(manifest))
    place = data.draw(st.integers(0, len(written) - 1))
    written[place] ^= data.draw(st.integers(1, 255))
    try:
        read = decode(bytes(written))
    except CorruptFile:
        return
    assert read == manifest  # white space that became other white space


@UNHURRIED
@given(whole_manifests(), st.data())
def test_a_truncated_manifest_is_refused(manifest: Manifest, data: st.DataObject) -> None:
    written = encode(manifest).rstrip()
    cut = data.draw(st.integers(0, len(written) - 1))
    with pytest.raises(CorruptFile):
        decode(written[:cut])


def test_the_file_has_the_documented_fields() -> None:
    content = json.loads(encode(Manifest(3, (EXAMPLE,), {"checkpoint:distilled": 2})))
    assert {"format", "version", "generation", "artefacts", "checksum"} <= content.keys()
    assert content["artefacts"][0] == json.loads(json.dumps(asdict(EXAMPLE)))
    assert content["generation"] == 3


def test_a_newer_format_is_refused_with_the_way_out() -> None:
    content = json.loads(encode(Manifest()))
    content["version"] = manifests.FORMAT_VERSION + 1
    content["something"] = "new"
    with pytest.raises(NewerFormat, match="format version 2") as caught:
        decode(summed(content))
    assert "upgrade" in caught.value.hint
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "checkpoints/distilled/2/../../../../secret",
        "../2/policy.json",
        "checkpoints/distilled/1/policy.json",
        "checkpoints/distilled/2",
        "checkpoints/distilled/2/",
        "checkpoints/distilled/2//policy.json",
        "checkpoints/distilled/2/./policy.json",
        "checkpoints\\distilled\\2\\policy.json",
        "C:/policy.json",
        "checkpoints/distilled/2/a\0b",
        "",
    ],
)
def test_paths_outside_the_artefact_are_refused(path: str) -> None:
    with pytest.raises(CorruptFile, match=r"refused|outside"):
        decode(rewritten(files=[{"path": path, "sha256": "a" * 64, "bytes": 1}]))


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "pickle"},
        {"name": "../evil"},
        {"name": ""},
        {"name": None},
        {"version": 0},
        {"version": True},
        {"version": "2"},
        {"status": "done"},
        {"id": "short"},
        {"created": "yesterday"},
        {"parents": "fedcba9876543210"},
        {"parents": [1]},
        {"files": []},
        {"files": [7]},
        {"files": [{"path": "checkpoints/distilled/2/a", "sha256": "a" * 64}]},
        {
            "files": [
                {"path": "checkpoints/distilled/2/a", "sha256": "a" * 64, "bytes": 1, "mode": 7}
            ]
        },
        {"files": [{"path": "checkpoints/distilled/2/a", "sha256": "A" * 64, "bytes": 1}]},
        {"files": [{"path": "checkpoints/distilled/2/a", "sha256": "a" * 64, "bytes": -1}]},
        {"files": [{"path": "checkpoints/distilled/2/a", "sha256": "a" * 64, "bytes": 1}] * 2},
        {"config": []},
        {"metrics": None},
        {"seed": 1.5},
        {"command": 3},
        {"surprise": 1},
    ],
)
def test_wrong_fields_are_refused_even_with_a_right_checksum(changes: dict) -> None:
    assert decode(rewritten()).artefacts == (EXAMPLE,)
    with pytest.raises(CorruptFile):
        decode(rewritten(**changes))


def test_two_artefacts_of_one_name_and_version_are_refused() -> None:
    content = json.loads(encode(Manifest(1, (EXAMPLE, EXAMPLE))))
    with pytest.raises(CorruptFile, match="same id"):
        decode(summed(content))
    content["artefacts"][1]["id"] = "f" * 16
    with pytest.raises(CorruptFile, match="same ref"):
        decode(summed(content))


INFINITE = b'{"format": "skilldistill.workspace", "version": 1, "generation": 1e999}'


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"null", b"\xff\xfe", b'{"format": NaN}', b"[" * 10**5, INFINITE, b"1" * 5000],
)
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(CorruptFile):
        decode(data)


@given(st.text(st.sampled_from("ab./\\:\0 "), max_size=12))
def test_an_accepted_path_never_leaves_its_root(path: str) -> None:
    try:
        check_path(path)
    except ValueError:
        return
    assert not PurePosixPath(path).is_absolute()
    assert ".." not in PurePosixPath(path).parts
    assert PurePosixPath(path).as_posix() == path
    assert Path("/root", path).resolve().is_relative_to("/root")


def test_plain_makes_json_of_what_stages_hand_over() -> None:
    given_ = {
        "path": Path("a/b"),
        "tuple": (1, 2.5),
        "nan": math.nan,
        "infinite": -math.inf,
        "array": np.array([[1.0, np.nan]]),
        "scalar": np.float32(0.5),
        "count": np.int64(3),
        "flag": np.bool_(True),
        3: {"b", "a"},
        "entry": FileEntry("x", "y", 1),
    }
    expected = {
        "path": "a/b",
        "tuple": [1, 2.5],
        "nan": None,
        "infinite": None,
        "array": [[1.0, None]],
        "scalar": 0.5,
        "count": 3,
        "flag": True,
        "3": ["a", "b"],
        "entry": {"path": "x", "sha256": "y", "bytes": 1},
    }
    assert plain(given_) == expected
    assert json.loads(json.dumps(plain(given_), allow_nan=False)) == expected


def test_plain_refuses_what_json_cannot_hold() -> None:
    with pytest.raises(TypeError, match="no form in JSON"):
        plain({"a": object()})


def test_the_id_depends_on_everything_that_makes_an_artefact_what_it_is() -> None:
    files = [FileEntry("datasets/a/1.h5", "a" * 64, 1)]
    ids = {
        artefact_id("dataset", "a", 1, files, []),
        artefact_id("dataset", "b", 1, files, []),
        artefact_id("dataset", "a", 2, files, []),
        artefact_id("dataset", "a", 1, [FileEntry("datasets/a/1.h5", "b" * 64, 1)], []),
        artefact_id("dataset", "a", 1, files, ["f" * 16]),
    }
    assert len(ids) == 5
    assert artefact_id("dataset", "a", 1, files, []) in ids


def test_saving_keeps_the_manifest_before(tmp_path: Path) -> None:
    for generation in (1, 2, 3):
        manifests.save(tmp_path, Manifest(generation))
    assert decode((tmp_path / manifests.FILENAME).read_bytes()).generation == 3
    assert decode((tmp_path / manifests.PREVIOUS).read_bytes()).generation == 2
    assert tree(tmp_path) == ["manifest.json", "manifest.json.previous"]


def test_saving_works_where_the_disk_knows_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no hard links here")

    monkeypatch.setattr("os.link", refuse)
    manifests.save(tmp_path, Manifest(1))
    manifests.save(tmp_path, Manifest(2))
    assert decode((tmp_path / manifests.PREVIOUS).read_bytes()).generation == 1


def test_a_damaged_manifest_gives_way_to_the_previous_one(tmp_path: Path) -> None:
    manifests.save(tmp_path, Manifest(1))
    manifests.save(tmp_path, Manifest(2))
    assert manifests.load(tmp_path) == (Manifest(2), "")
    (tmp_path / manifests.FILENAME).write_bytes(b"")
    manifest, problem = manifests.load(tmp_path)
    assert manifest.generation == 1
    assert "using manifest.json.previous, generation 1" in problem
    (tmp_path / manifests.FILENAME).unlink()
    assert "is missing" in manifests.load(tmp_path)[1]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_counts_as_a_damaged_manifest(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    manifests.save(tmp_path, Manifest(1))
    manifests.save(tmp_path, Manifest(2))
    for there in ([], [manifests.DAMAGED]):  # aside goes where nothing lies yet
        (tmp_path / manifests.FILENAME).unlink()
        make(tmp_path / manifests.FILENAME)
        assert manifests.looks_like_workspace(tmp_path)
        manifest, problem = manifests.load(tmp_path)
        assert manifest.generation == 1
        assert problem.startswith("manifest.json is a ")
        assert [name for name in tree(tmp_path) if "damaged" in name] == there
        manifests.save(tmp_path, Manifest(3), keep=False)
        assert manifests.load(tmp_path) == (Manifest(3), "")
        assert len([name for name in tree(tmp_path) if "damaged" in name]) == len(there) + 1
        assert manifests.DAMAGED in tree(tmp_path)
    (tmp_path / manifests.FILENAME).unlink()
    (tmp_path / manifests.PREVIOUS).unlink()
    for name in (manifests.FILENAME, manifests.PREVIOUS):
        make(tmp_path / name)
    with pytest.raises(CorruptFile, match="cannot be used either"):
        manifests.load(tmp_path)


def test_two_damaged_manifests_are_an_error(tmp_path: Path) -> None:
    manifests.save(tmp_path, Manifest(1))
    manifests.save(tmp_path, Manifest(2))
    for name in (manifests.FILENAME, manifests.PREVIOUS):
        (tmp_path / name).write_bytes(b"{")
    with pytest.raises(CorruptFile, match="cannot be used either") as caught:
        manifests.load(tmp_path)
    assert "backup" in caught.value.hint
    for name in (manifests.FILENAME, manifests.PREVIOUS):
        assert f"{tmp_path / name} " in caught.value.message
    assert "skilldistill merge" in caught.value.hint


@pytest.mark.parametrize(
    ("names", "ours"),
    [
        (["manifest.json", "manifest.json.previous"], True),
        (["manifest.json", ".skilldistill.lock"], True),
        (["manifest.json", "manifest.json.damaged"], True),
        (["manifest.json.previous"], True),
        (["manifest.json"], False),
        ([".skilldistill.lock"], False),
        ([], False),
    ],
)
def test_a_workspace_is_known_by_what_lies_beside_a_damaged_manifest(
    tmp_path: Path, names: list[str], ours: bool
) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"{bad")
    assert manifests.looks_like_workspace(tmp_path) is ours


def test_what_was_wrong_names_the_file_once(tmp_path: Path) -> None:
    manifests.save(tmp_path, Manifest(1))
    manifests.save(tmp_path, Manifest(2))
    for content in (b"{", b"[]", encode(Manifest(2)).replace(b"generation", b"gonerati0n")):
        (tmp_path / manifests.FILENAME).write_bytes(content)
        _, problem = manifests.load(tmp_path)
        assert problem.startswith("manifest.json")
        assert str(tmp_path) not in problem


def test_a_newer_manifest_does_not_give_way_to_an_older_one(tmp_path: Path) -> None:
    manifests.save(tmp_path, Manifest(1))
    manifests.save(tmp_path, Manifest(2))
    content = json.loads((tmp_path / manifests.FILENAME).read_bytes())
    content["version"] = 2
    (tmp_path / manifests.FILENAME).write_bytes(summed(content))
    with pytest.raises(NewerFormat):
        manifests.load(tmp_path)


def test_names_that_would_be_trouble_as_folders_are_refused() -> None:
    for name in ("", ".", "..", ".hidden", "a/b", "a\\b", "a:b", "a@1", "a.", "-x", "ü", "a" * 65):
        with pytest.raises(ConfigurationError):
            manifests.check_name(name)
    for name in ("a", "A-b_c.d", "7", "a" * 64):
        assert manifests.check_name(name) == name


def test_an_artefact_says_whether_settings_made_it() -> None:
    config = {"lr": 1e-3, "references": ["a", "b"], "opponent": None}
    artefact = Artefact(
        *("0" * 16, "expert", "aiming", 1, (), "", "", config, 0, (), {}, "complete")
    )
    assert artefact.records({"lr": 0.001, "references": ("a", "b")})
    assert artefact.records({"opponent": None, "added_since": None})
    assert not artefact.records({"lr": 0.001, "references": ("b", "a")})
    assert not artefact.records({"added_since": 1})
