from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from skilldistill.config import CollectConfig, MergeConfig
from skilldistill.data.reader import DatasetReader
from skilldistill.errors import ConfigurationError, CorruptFile, Interrupted, NotFound
from skilldistill.stages.collect import collect
from skilldistill.stages.merge import merge
from skilldistill.workspace.store import Workspace
from tests import tiny
from tests.data import samples
from tests.tiny_workspace import add_experts


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace.create(tmp_path / "workspace")
    add_experts(workspace)
    return workspace


def play(workspace: Workspace, **changes: object) -> None:
    settings = {"domain": "tiny", "skill": "all", "episodes": 4, **changes}
    collect(workspace, CollectConfig(**settings))  # type: ignore[arg-type]


def config(*datasets: str, **changes: object) -> MergeConfig:
    return MergeConfig(domain="tiny", datasets=datasets, **changes)  # type: ignore[arg-type]


def test_the_latest_dataset_of_every_skill_is_taken(workspace: Workspace) -> None:
    play(workspace)
    play(workspace, skill="steer", episodes=9, seed=1)
    play(workspace, skill="steer", episodes=2, name="other", seed=2)
    play(workspace, skill="combined", episodes=2)
    result = merge(workspace, config(), command="skilldistill merge")
    assert [source.ref for source in result.sources] == ["dataset:other@1", "dataset:ring@1"]
    assert (result.ref, result.episodes) == ("dataset:combined@1", 6)
    assert result.rows_per_skill == {"steer": 40, "ring": 80}
    artefact = workspace.resolve("dataset:combined")
    assert artefact.parents == tuple(source.id for source in result.sources)
    assert artefact.metrics["rows_per_skill"] == result.rows_per_skill
    assert artefact.command == "skilldistill merge"
    with DatasetReader(Path(result.path), domain=tiny.DOMAIN) as reader:
        assert reader.info.skills == ("steer", "ring")

    # A merged dataset is no skill's own: merging again takes the same inputs, to the same bytes.
    again = merge(workspace, config())
    assert (again.ref, again.sources, again.sha256) == (
        "dataset:combined@2",
        result.sources,
        result.sha256,
    )


def test_an_interrupted_dataset_is_passed_over(workspace: Workspace) -> None:
    play(workspace)
    whole = workspace.resolve("dataset:steer")
    with workspace.draft("dataset", "steer") as draft:
        shutil.copyfile(workspace.path(whole), draft.path)
        draft.commit(command="test", config=whole.config, seed=0, status="interrupted")
    sources = merge(workspace, config()).sources
    assert [source.ref for source in sources] == ["dataset:steer@1", "dataset:ring@1"]


def test_a_dataset_of_another_domain_with_the_same_skill_is_passed_over(
    workspace: Workspace,
) -> None:
    play(workspace)
    with workspace.draft("dataset", "steer") as draft:
        samples.write(draft.path, domain="other")
        draft.commit(command="test", config={"domain": "other", "skill": "steer"}, seed=0)
    sources = merge(workspace, config()).sources
    assert [source.ref for source in sources] == ["dataset:steer@1", "dataset:ring@1"]


def test_named_datasets_and_files_from_outside(workspace: Workspace, tmp_path: Path) -> None:
    play(workspace)
    samples.write(tmp_path / "far.h5", skill="both")
    inside = str(workspace.path(workspace.resolve("dataset:ring")))
    result = merge(workspace, config("steer@1", inside, str(tmp_path / "far.h5"), name="all"))
    assert result.ref == "dataset:all@1"
    assert result.skills == ("steer", "ring", "both")
    assert [source.ref for source in result.sources] == [
        "dataset:steer@1",
        "dataset:ring@1",
        str(tmp_path / "far.h5"),
    ]
    assert len(workspace.resolve("all").parents) == 2


def test_missing_skills_are_named_with_the_next_command(workspace: Workspace) -> None:
    with pytest.raises(NotFound, match="no dataset of steer and ring") as caught:
        merge(workspace, config())
    assert "skilldistill collect --skill all" in caught.value.hint
    play(workspace, skill="ring")
    with pytest.raises(NotFound, match=r"no dataset of steer$") as caught:
        merge(workspace, config())
    assert "skilldistill collect --skill steer" in caught.value.hint


def test_wrong_inputs_leave_nothing(workspace: Workspace, tmp_path: Path) -> None:
    play(workspace)
    samples.write(tmp_path / "foreign.h5", domain="other")
    (tmp_path / "cut.h5").write_bytes((tmp_path / "foreign.h5").read_bytes()[:-99])
    for references, error, message in (
        (("steer", "rong"), NotFound, "no dataset .*rong"),
        (("steer", "steer@1"), ConfigurationError, "dataset:steer@1 is given twice"),
        (("steer", "expert:steer"), ConfigurationError, "expert:steer .* dataset"),
        (("steer", str(tmp_path / "foreign.h5")), ConfigurationError, "belongs to domain 'other'"),
        (("steer", str(tmp_path / "cut.h5")), CorruptFile, r"cut\.h5"),
    ):
        with pytest.raises(error, match=message):
            merge(workspace, config(*references))
    with pytest.raises(Interrupted) as caught:
        merge(workspace, config(), stop=lambda: 2)
    assert "same command" in caught.value.hint
    assert len(workspace.artefacts("dataset")) == 2
    assert sorted(path.name for path in (workspace.root / "datasets").iterdir()) == [
        "ring",
        "steer",
    ]


def test_the_same_episodes_under_two_names_are_refused(workspace: Workspace) -> None:
    play(workspace, skill="steer")
    play(workspace, skill="steer", episodes=9, name="more")
    with pytest.raises(ConfigurationError, match="hold the same episode") as caught:
        merge(workspace, config("steer", "more"))
    assert "--seed" in caught.value.hint
