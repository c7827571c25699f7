import pytest
from hypothesis import given
from hypothesis import strategies as st

from skilldistill.errors import ConfigurationError, NotFound
from skilldistill.workspace.manifest import KIND_FOLDERS
from skilldistill.workspace.references import Reference, parse_reference
from skilldistill.workspace.store import Workspace
from tests.workspace.making import make

REFERENCES = st.builds(
    Reference,
    name=st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9_-])?", fullmatch=True),
    version=st.none() | st.integers(1, 999_999_999),
    kind=st.none() | st.sampled_from(sorted(KIND_FOLDERS)),
)


@given(REFERENCES)
def test_a_reference_survives_being_written_and_parsed(reference: Reference) -> None:
    assert parse_reference(str(reference)) == reference


@given(st.text())
def test_any_text_parses_to_itself_or_is_a_configuration_error(text: str) -> None:
    try:
        parsed = parse_reference(text)
    except ConfigurationError:
        return
    assert str(parsed) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@1",
        "a@",
        "a@0",
        "a@01",
        "a@-1",
        "a@1@2",
        "a@x",
        ":a",
        "dataset:",
        "thing:a",
        "a b",
        "../a",
        ".a",
        "dataset:dataset:a",
        "a\n",
        "a@1\n",
        "a@１",
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_reference(text)


def test_a_name_means_its_latest_complete_version(workspace: Workspace) -> None:
    first, second = make(workspace), make(workspace)
    interrupted = make(workspace, status="interrupted")
    assert workspace.resolve("aiming") == second
    assert workspace.resolve("aiming@1") == first
    assert workspace.resolve("dataset:aiming@3") == interrupted
    assert workspace.resolve("aiming", "dataset") == second


def test_an_id_and_a_path_are_references_too(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, checkpoint = make(workspace), make(workspace, "checkpoint", "distilled")
    assert workspace.resolve(dataset.id) == dataset
    assert workspace.resolve(str(workspace.path(dataset))) == dataset
    assert workspace.resolve("checkpoints/distilled/1") == checkpoint
    assert workspace.resolve(str(workspace.path(checkpoint) / "main.bin")) == checkpoint
    monkeypatch.chdir(workspace.root / "datasets" / "aiming")
    assert workspace.resolve("1.h5") == dataset
    monkeypatch.chdir(workspace.root / "checkpoints")
    assert workspace.resolve("./distilled/1") == checkpoint
    with pytest.raises(NotFound, match="no artefact of"):
        workspace.resolve("/elsewhere/file.h5")
    with pytest.raises(ConfigurationError, match="kind dataset, not checkpoint"):
        workspace.resolve(str(workspace.path(dataset)), "checkpoint")


def test_a_name_goes_before_an_id_that_reads_the_same(workspace: Workspace) -> None:
    first = make(workspace)
    second = make(workspace, name=first.id)
    assert workspace.resolve(first.id) == second
    assert workspace.resolve(second.id) == second


def test_a_name_of_two_kinds_must_say_which(workspace: Workspace) -> None:
    expert, dataset = make(workspace, "expert"), make(workspace, "dataset")
    with pytest.raises(ConfigurationError, match="several artefacts: dataset, expert") as caught:
        workspace.resolve("aiming")
    assert caught.value.hint == "write dataset:aiming or expert:aiming"
    assert workspace.resolve("aiming", "expert") == expert
    assert workspace.resolve("dataset:aiming") == dataset
    with pytest.raises(ConfigurationError, match="kind dataset, not expert"):
        workspace.resolve("dataset:aiming", "expert")


def test_what_is_missing_is_named_with_what_comes_near(workspace: Workspace) -> None:
    make(workspace)
    with pytest.raises(NotFound, match="no artefact aimng") as caught:
        workspace.resolve("aimng")
    assert caught.value.message == f"no artefact aimng in {workspace.root}"
    assert "did you mean aiming" in caught.value.hint
    assert "skilldistill ls" in caught.value.hint
    with pytest.raises(NotFound, match="no artefact aiming@9") as caught:
        workspace.resolve("aiming@9")
    assert caught.value.hint == "there is dataset:aiming@1"
    assert caught.value.exit_code == 4
    with pytest.raises(NotFound, match="no checkpoint aiming") as caught:
        workspace.resolve("aiming", "checkpoint")
    assert "dataset:aiming" not in caught.value.hint


@pytest.mark.parametrize(
    ("name", "kind", "command"),
    [
        ("combined", "dataset", "merge"),
        ("distilled", "checkpoint", "distill"),
        ("finetuned", "checkpoint", "finetune"),
        ("finetuned", None, "finetune"),
        ("evaluation", "report", "evaluate"),
    ],
)
def test_a_step_that_was_left_out_is_named(
    workspace: Workspace, name: str, kind: str | None, command: str
) -> None:
    make(workspace, kind or "expert", "other")
    with pytest.raises(NotFound, match=name) as caught:
        workspace.resolve(name, kind)
    assert caught.value.hint == f"`skilldistill {command}` makes it"


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("expert", "train"),
        ("dataset", "collect"),
        ("checkpoint", "distill"),
        ("report", "evaluate"),
    ],
)
def test_where_there_is_none_of_a_kind_its_first_command_is_named(
    workspace: Workspace, kind: str, command: str
) -> None:
    with pytest.raises(NotFound, match=f"no {kind} mine") as caught:
        workspace.resolve("mine", kind)
    assert caught.value.hint == f"`skilldistill {command}` makes one"
    make(workspace, kind, "yours")
    with pytest.raises(NotFound, match=f"no {kind} mine") as caught:
        workspace.resolve("mine", kind)
    assert caught.value.hint == "`skilldistill ls` lists what is there"


def test_a_name_with_only_interrupted_versions_says_so(workspace: Workspace) -> None:
    make(workspace, "checkpoint", "tuned", status="interrupted")
    with pytest.raises(NotFound, match="every checkpoint called 'tuned' was interrupted") as caught:
        workspace.resolve("tuned", "checkpoint")
    assert "--resume" in caught.value.hint
    assert "checkpoint:tuned@1" in caught.value.hint
