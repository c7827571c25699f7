from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skilldistill.config import (
    CollectConfig,
    DistillConfig,
    EvaluateConfig,
    FinetuneConfig,
    TrainConfig,
)
from skilldistill.errors import ConfigurationError
from skilldistill.settings import (
    COMMON,
    SECTIONS,
    Setting,
    Settings,
    check_config,
    nearest_file,
    settings_of,
    toml_value,
)

ALL = [(name, s) for name, config in SECTIONS.items() for s in settings_of(config)]


def load(tmp_path: Path, text: str = "", user: str = "", **environ: str) -> Settings:
    (tmp_path / ".skilldistill.toml").write_text(text)
    user_file = tmp_path / "user.toml"
    user_file.write_text(user)
    return Settings.load(tmp_path, environ, user_file)


def test_defaults_are_those_of_the_dataclass(tmp_path: Path) -> None:
    assert load(tmp_path).config(DistillConfig) == DistillConfig()


def test_each_source_wins_over_the_next(tmp_path: Path) -> None:
    user = "[distill]\nepochs = 1\nbatch_size = 1\nlr = 1.0\nhidden_dim = 16\n"
    file = "[distill]\nepochs = 2\nbatch_size = 2\nlr = 0.5\n"
    environ = {"SKILLDISTILL_DISTILL_EPOCHS": "3", "SKILLDISTILL_DISTILL_BATCH_SIZE": "3"}
    settings = load(tmp_path, file, user, **environ)
    config = settings.config(DistillConfig, {"epochs": 4, "batch_size": None})
    assert (config.epochs, config.batch_size, config.lr, config.hidden_dim) == (4, 3, 0.5, 16)
    origins = settings.origins("distill")
    assert origins["epochs"] == (3, "SKILLDISTILL_DISTILL_EPOCHS")
    assert origins["lr"] == (0.5, str(tmp_path / ".skilldistill.toml"))
    assert origins["hidden_dim"] == (16, str(tmp_path / "user.toml"))
    assert origins["rounds"] == (0, "default")


def test_a_common_key_holds_for_every_command_unless_its_section_says_otherwise(
    tmp_path: Path,
) -> None:
    settings = load(tmp_path, "seed = 7\n[distill]\nseed = 8\n")
    assert settings.config(CollectConfig).seed == 7
    assert settings.config(DistillConfig).seed == 8


def test_an_environment_variable_wins_over_a_section_of_a_file(tmp_path: Path) -> None:
    settings = load(tmp_path, "[distill]\nseed = 8\n", SKILLDISTILL_SEED="9")
    assert settings.origins("distill")["seed"] == (9, "SKILLDISTILL_SEED")


def test_the_word_of_a_key_is_the_word_of_the_flag(tmp_path: Path) -> None:
    settings = load(tmp_path, '[finetune]\nfrom = "student@2"\n')
    assert settings.config(FinetuneConfig).start == "student@2"
    assert next(s.flag for s in settings_of(FinetuneConfig) if s.field == "start") == "--from"


def test_the_nearest_file_upward_is_read_and_only_that(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / ".skilldistill.toml").write_text("seed = 1\n")
    assert nearest_file(deep) == tmp_path / ".skilldistill.toml"
    (tmp_path / "a" / ".skilldistill.toml").write_text('domain = "duel"\n')
    settings = Settings.load(deep, {}, tmp_path / "none.toml")
    assert settings.config(CollectConfig).seed == 0


def test_a_workspace_in_a_file_is_relative_to_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, 'workspace = "ws"\n').workspace() == (
        tmp_path / "ws",
        str(tmp_path / ".skilldistill.toml"),
    )
    assert load(tmp_path, 'workspace = "ws"\n', SKILLDISTILL_WORKSPACE="x").workspace() == (
        Path("x"),
        "SKILLDISTILL_WORKSPACE",
    )
    assert load(tmp_path).workspace() == (None, "default")


@pytest.mark.parametrize(
    ("text", "where", "hint"),
    [
        ("sede = 1", ".skilldistill.toml: unknown setting 'sede'", "did you mean 'seed'"),
        ("[distil]\nlr = 1.0", "unknown setting '[distil]'", "did you mean '[distill]'"),
        ("[distill]\nepoch = 1", "[distill]: unknown setting 'epoch'", "did you mean 'epochs'"),
        ("[distill]\nepochs = 0", "epochs must be at least 1, not 0", "default: 50"),
        ("[distill]\nepochs = 1.5", "epochs must be a whole number, not 1.5", "default: 50"),
        ("[distill]\nepochs = true", "epochs must be a whole number, not True", "default: 50"),
        ("[distill]\nmasked = 1", "masked must be true or false, not 1", "default: true"),
        ("[distill]\nhidden_dim = 2000", "hidden_dim must be 16 to 1024, not 2000", "default"),
        ('[distill]\nloss = "kll"', "loss must be one of kl, hard, mse", "did you mean 'kl'"),
        ("[distill]\nlr = nan", "lr must be finite, not nan", "default: 0.001"),
        ("seed = 1" + "0" * 400, "seed must be 0 to 18446744073709551615", "default: 0"),
        ("[distill]\nlr = -inf", "lr must be finite, not -inf", "default: 0.001"),
        ('[distill]\ndataset = ["a"]', "dataset must be text", 'default: "combined"'),
        ("distill = 3", "unknown setting 'distill'", "[distill]"),
        ("workspace = 3", "workspace must be text", ""),
        ("seed = ", "is no TOML", "compare it with .skilldistill.toml.example"),
        ("seed = 1" + "0" * 5000, "is no TOML", "compare it with .skilldistill.toml.example"),
        ("seed = -1", "seed must be 0 to 18446744073709551615, not -1", "default: 0"),
        ("seed = 18446744073709551616", "not 18446744073709551616", "default: 0"),
        ("seed = 0x1" + "0" * 5000, "seed must be 0 to 1844", "default: 0"),
        ("[distill]\nlr = 1" + "0" * 400, "lr must be finite, not inf", "default: 0.001"),
        ("[distill]\nlr = -1" + "0" * 400, "lr must be finite, not -inf", "default: 0.001"),
        ("[distill]\nbf16 = 0x1" + "0" * 5000, "not a huge number", "default: true"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_with_its_place(
    tmp_path: Path, text: str, where: str, hint: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, text)
    assert where in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("SKILLDISTILL_SEED", "seven", "SKILLDISTILL_SEED: seed must be a whole number"),
        ("SKILLDISTILL_DISTILL_MASKED", "maybe", "masked must be true or false"),
        ("SKILLDISTILL_DISTILL_EPOCH", "3", "unknown environment variable"),
    ],
)
def test_a_variable_that_cannot_be_used_is_refused(
    tmp_path: Path, name: str, text: str, says: str
) -> None:
    with pytest.raises(ConfigurationError, match=says):
        load(tmp_path, **{name: text})


def test_a_mistyped_variable_hears_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, SKILLDISTILL_DISTILL_EPOCH="3")
    assert caught.value.hint == "did you mean SKILLDISTILL_DISTILL_EPOCHS?"


@pytest.mark.parametrize(("text", "value"), [("yes", True), ("0", False), ("On", True)])
def test_switches_take_the_usual_words(tmp_path: Path, text: str, value: bool) -> None:
    settings = load(tmp_path, SKILLDISTILL_TRAIN_RESUME=text)
    assert settings.config(TrainConfig, {"skill": "aiming"}).resume is value


def test_a_flag_out_of_range_names_the_flag(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--batch-size: batch_size must be at least 1"):
        load(tmp_path).config(DistillConfig, {"batch_size": 0})


def test_an_unknown_section_hears_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path).origins("fine-tune")
    assert "did you mean 'finetune'" in caught.value.hint


@pytest.mark.parametrize(("section", "setting"), ALL, ids=lambda x: str(getattr(x, "key", x)))
def test_every_default_passes_its_own_check(section: str, setting: Setting) -> None:
    assert setting.check(setting.default, section) == setting.default


def test_every_command_has_the_common_settings() -> None:
    for config in SECTIONS.values():
        assert {s.key for s in COMMON} <= {s.key for s in settings_of(config)}


@given(
    st.one_of(
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False),
        st.text(st.characters(codec="utf-8")),
    )
)
def test_written_values_are_read_back_unchanged(value: bool | int | float | str) -> None:
    read = tomllib.loads(f"x = {toml_value(value)}")["x"]
    assert read == value
    assert type(read) is type(value)


@given(
    st.dictionaries(
        st.sampled_from([f"SKILLDISTILL_{name}_{s.key}".upper() for name, s in ALL]),
        st.text(max_size=8),
        max_size=4,
    )
)
def test_no_text_in_the_environment_raises_anything_else(environ: dict[str, str]) -> None:
    try:
        settings = Settings.load(Path("/"), environ, Path("/nonexistent"))
    except ConfigurationError:
        return
    for section in SECTIONS:
        settings.origins(section)


def test_the_largest_seed_is_the_largest_that_a_dataset_can_record(tmp_path: Path) -> None:
    text = str(2**64 - 1)
    assert load(tmp_path, f"seed = {text}").config(CollectConfig).seed == 2**64 - 1
    assert load(tmp_path, SKILLDISTILL_SEED=text).config(CollectConfig).seed == 2**64 - 1
    # As floats, the two would be equal.
    with pytest.raises(ConfigurationError, match="--seed: seed must be 0 to 18446744073709551615"):
        load(tmp_path).config(CollectConfig, {"seed": 2**64})


@pytest.mark.parametrize(
    "command", ["init", "ls", "show", "verify", "gc", "rm", "export", "experts", "config", "doctor"]
)
def test_a_command_without_a_section_is_not_taken_for_another(tmp_path: Path, command: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, f"[{command}]\ndays = 1\n")
    assert caught.value.hint.startswith("known: workspace, seed, domain, [train]")
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, **{f"SKILLDISTILL_{command}_DAYS".upper(): "1"})
    assert caught.value.hint.startswith("unset ")


def test_the_steps_of_a_run_get_what_was_set_and_no_defaults(tmp_path: Path) -> None:
    file = '[collect]\nepisodes = 4\nseed = 2\n[finetune]\nfrom = "x"\n[train]\ntimesteps = 1\n'
    settings = load(tmp_path, file, "[collect]\nepisodes = 3\n", SKILLDISTILL_MERGE_NAME="all")
    assert settings.steps() == {
        "collect": {"episodes": 4, "seed": 2},
        "merge": {"name": "all"},
        "distill": {},
        "finetune": {"start": "x"},
        "evaluate": {},
    }


def test_a_runs_own_seed_goes_before_that_of_a_step(tmp_path: Path) -> None:
    file = "seed = 1\n[distill]\nseed = 2\n"
    assert load(tmp_path, file).steps()["distill"] == {"seed": 2}
    assert load(tmp_path, file).steps({"seed": 3, "domain": None})["distill"] == {}
    assert load(tmp_path, file, SKILLDISTILL_SEED="4").steps()["distill"] == {}


def test_a_number_of_numpys_is_refused_with_the_way_to_make_it_one() -> None:
    with pytest.raises(ConfigurationError, match="must be a whole number") as caught:
        check_config(CollectConfig(episodes=np.int64(2)))  # type: ignore[arg-type]
    assert "int(…)" in caught.value.hint


def test_one_text_is_no_list_of_texts() -> None:
    with pytest.raises(ConfigurationError, match="policies must be a tuple") as caught:
        check_config(EvaluateConfig(policies="finetuned"))  # type: ignore[arg-type]
    assert "policies=('finetuned',)" in caught.value.hint
    check_config(EvaluateConfig(policies=("finetuned",)))
