"""Experts compute the same alone and in company, and load only what is sound."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from skilldistill.errors import ConfigurationError, CorruptFile, NotFound
from skilldistill.experts.network import Expert, HeadKind, Layer, Normaliser
from tests.experts.bare_zoo import BOUND, ZOO
from tests.experts.hostile import HOSTILE

SKILL_OF: dict[HeadKind, str] = {"bernoulli": "move", "gaussian": "aim", "squashed": "aim"}


def make_expert(
    head: HeadKind = "gaussian",
    *,
    widths: tuple[int, ...] = (32, 24),
    activation: str = "tanh",
    seed: int = 0,
    state_dependent: bool = False,
    normalised: bool = False,
) -> Expert:
    rng = np.random.default_rng(seed)
    skill = ZOO.skill(SKILL_OF[head])
    sizes = [len(skill.native_observations), *widths, len(ZOO.head(skill.head).dims)]
    layers = [
        Layer(
            weight=rng.normal(size=(a, b)).astype(np.float32) / np.float32(a**0.5),
            bias=rng.normal(size=b).astype(np.float32),
            activation="identity" if i == len(widths) else activation,
        )
        for i, (a, b) in enumerate(pairwise(sizes))
    ]
    shape = (sizes[-2], sizes[-1]) if state_dependent else (sizes[-1],)
    std = None if head == "bernoulli" else rng.uniform(0.1, 0.5, shape).astype(np.float32)
    scaler = Normaliser(rng.normal(size=sizes[0]), rng.uniform(0.1, 1, sizes[0]))
    return Expert.build(
        ZOO, skill, layers, head, std=std, normaliser=scaler if normalised else None
    )


def seen_by(expert: Expert, rows: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (rows, expert.obs_dim)).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 300),
    start=st.integers(0, 40),
    head=st.sampled_from(list(SKILL_OF)),
    width=st.sampled_from([1, 7, 64, 256]),
    activation=st.sampled_from(["tanh", "relu", "elu", "gelu", "silu", "leaky_relu", "sigmoid"]),
)
def test_a_row_does_not_depend_on_its_company(
    rows: int, start: int, head: HeadKind, width: int, activation: str
) -> None:
    expert = make_expert(head, widths=(width, width), activation=activation)
    seen = seen_by(expert, 400)
    whole = expert.distribution(seen)
    part = expert.distribution(seen[start : start + rows])
    np.testing.assert_array_equal(part.mean, whole.mean[start : start + rows])
    np.testing.assert_array_equal(part.std, whole.std[start : start + rows])


def test_state_dependent_noise_does_not_depend_on_company_either() -> None:
    expert = make_expert("squashed", state_dependent=True, normalised=True)
    seen = seen_by(expert, 200)
    whole = expert.distribution(seen)
    np.testing.assert_array_equal(expert.distribution(seen[130:]).std, whole.std[130:])


@pytest.mark.parametrize("head", SKILL_OF)
def test_targets_are_legal(head: HeadKind) -> None:
    expert = make_expert(head)
    targets = expert.distribution(1000 * seen_by(expert, 500))
    low, high = (0, 1) if head == "bernoulli" else (np.float32(-BOUND), np.float32(BOUND))
    assert targets.mean.dtype == targets.std.dtype == np.float32
    assert (targets.mean >= low).all()
    assert (targets.mean <= high).all()
    assert np.isfinite(targets.std).all()
    assert (targets.std >= 0).all()


def test_experts_load_neither_torch_nor_gymnasium() -> None:
    code = (
        "import sys, skilldistill.experts.composite, skilldistill.experts.sb3_zip;"
        "print(*{'torch', 'stable_baselines3', 'gymnasium', 'h5py'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_no_rows_give_no_targets() -> None:
    expert = make_expert()
    assert expert.distribution(np.zeros((0, 5), np.float32)).mean.shape == (0, 2)


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 5)])
def test_observations_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigurationError, match=r"\(n, 5\)"):
        make_expert().distribution(np.zeros(shape, np.float32))


def test_threads_do_not_disturb_each_other() -> None:
    expert = make_expert(widths=(64, 64))
    seen = seen_by(expert, 1000)
    expected = expert.distribution(seen).mean
    found: list[bool] = []

    def work() -> None:
        for _ in range(30):
            found.append(np.array_equal(expert.distribution(seen).mean, expected))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 120
    assert all(found)


@pytest.mark.parametrize(
    ("head", "state_dependent"),
    # buttons have no spread that could depend on anything
    [(head, spread) for head in SKILL_OF for spread in (False, True)[: 1 + (head != "bernoulli")]],
)
@pytest.mark.parametrize("normalised", [False, True])
def test_a_saved_expert_is_the_same_expert(
    head: HeadKind, normalised: bool, state_dependent: bool, tmp_path: Path
) -> None:
    expert = make_expert(head, normalised=normalised, state_dependent=state_dependent)
    expert = replace(expert, name="mine", source={"kind": "test", "seed": 1})
    expert.save(tmp_path)
    loaded = Expert.load(tmp_path, domain=ZOO)
    assert (loaded.name, loaded.sha256) == ("mine", expert.sha256)
    assert loaded.source == expert.source
    seen = seen_by(expert, 50)
    np.testing.assert_array_equal(loaded.distribution(seen).mean, expert.distribution(seen).mean)
    np.testing.assert_array_equal(loaded.distribution(seen).std, expert.distribution(seen).std)


def test_the_hash_is_of_what_the_expert_does() -> None:
    expert = make_expert()
    assert replace(expert, name="other", source={"a": 1}).sha256 == expert.sha256
    assert make_expert().sha256 == expert.sha256
    assert make_expert(seed=1).sha256 != expert.sha256
    first = expert.layers[0]
    changed = replace(first, activation="relu")
    assert replace(expert, layers=(changed, *expert.layers[1:])).sha256 != expert.sha256
    assert replace(expert, head="squashed").sha256 != expert.sha256


def change_card(**values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        card = json.loads((folder / "expert.json").read_text())
        (folder / "expert.json").write_text(json.dumps({**card, **values}))

    return change


def change_tensor(name: str, value: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        tensors = load_file(folder / "expert.safetensors")
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value(tensors.get(name))
        save_file(tensors, folder / "expert.safetensors")

    return change


def change_layer(**values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        layers = json.loads((folder / "expert.json").read_text())["layers"]
        change_card(layers=[{**layers[0], **values}, *layers[1:]])(folder)

    return change


def replace_text(old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / "expert.json").read_text()
        assert old in text
        (folder / "expert.json").write_text(text.replace(old, new, 1))

    return change


def overwrite_by(kind: str, name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        HOSTILE[kind](folder / name, {}, folder / "canary")

    return change


def overwrite(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


@pytest.mark.parametrize(
    "damage",
    [
        overwrite("expert.json", b"{"),
        overwrite("expert.json", b"[" * 100_000),
        overwrite("expert.json", b"\xff\xfe"),
        overwrite("expert.safetensors", b"\x80\x04N."),
        overwrite("expert.safetensors", b""),
        change_card(format="other"),
        change_card(format_version=2),
        change_card(layers=[]),
        change_card(layers=None),
        change_card(layers=[{"outputs": 2, "activation": "identity", "alpha": 0}]),
        change_card(head="poisson"),
        change_card(head="bernoulli"),
        change_card(skill="swim"),
        change_card(skill="move"),
        change_card(low=[0, 0]),
        change_card(high=[float("inf"), 1]),
        change_card(name="x" * 1000),
        change_card(domain="\x1b[2J"),
        change_card(format_version="9" * 10_000),
        change_card(source={"loss": float("nan")}),
        change_card(source={"loss": float("-inf")}),
        change_layer(alpha=float("nan")),
        change_layer(alpha=float("inf")),
        change_layer(alpha=10**400),
        change_layer(alpha=0.0, activation="celu"),
        change_layer(alpha=1e35, activation="elu"),
        change_layer(activation="x" * 1_000_000),
        replace_text('"alpha": 0.0', '"alpha": 1e999'),
        replace_text('"source": {}', '"source": {"loss": 1e999}'),
        change_card(normaliser={"epsilon": 1, "clip": 1}),
        change_card(sha256="0" * 64),
        change_tensor("layers.0.weight", lambda w: w * np.float32("nan")),
        change_tensor("layers.0.weight", lambda w: w[:-1].copy()),
        change_tensor("layers.0.weight", lambda w: w + np.float32(1e-3)),
        change_tensor("layers.0.weight", lambda w: w.astype(np.float64)),
        change_tensor("layers.1.bias", None),
        change_tensor("std", lambda s: -s),
        change_tensor("std", lambda s: s + np.float32(1e20)),
        change_tensor("layers.0.weight", lambda w: w + np.float32(1e38)),
        overwrite_by("a_pipe", "expert.json"),
        overwrite_by("a_pipe", "expert.safetensors"),
        overwrite_by("an_endless_device", "expert.json"),
        overwrite_by("a_circle_of_links", "expert.safetensors"),
        overwrite_by("a_socket", "expert.json"),
        overwrite_by("a_directory", "expert.json"),
        change_tensor("extra", lambda _: np.zeros(1, np.float32)),
    ],
)
def test_damaged_experts_are_refused(damage: Callable[[Path], None], tmp_path: Path) -> None:
    make_expert().save(tmp_path)
    damage(tmp_path)
    with pytest.raises(CorruptFile) as caught:
        Expert.load(tmp_path, domain=ZOO)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


def test_numbers_that_only_together_leave_float32_are_refused() -> None:
    """Sixteen linear layers of a thousand each; a tanh in between keeps them small."""
    layers = [Layer(np.full((5, 5), 1e3, np.float32), np.zeros(5, np.float32), "relu")] * 15
    last = Layer(np.full((5, 2), 1e3, np.float32), np.zeros(2, np.float32))
    std = np.ones(2, np.float32)
    with pytest.raises(CorruptFile, match="so large"):
        Expert.build(ZOO, ZOO.skill("aim"), [*layers, last], "gaussian", std=std)
    bounded = [replace(layer, activation="tanh") for layer in layers]
    Expert.build(ZOO, ZOO.skill("aim"), [*bounded, last], "gaussian", std=std)


@pytest.mark.parametrize(
    ("activation", "first", "then"),
    # SELU makes 0.97e30 a number beyond the limit; two others make something of nothing
    [("selu", 0.97e30 / 5, 1e-30), ("softplus", 0.0, 1e30), ("sigmoid", 0.0, 1e30)],
)
def test_what_an_activation_adds_is_reckoned_with(
    activation: str, first: float, then: float
) -> None:
    def build(activation: str) -> None:
        one = Layer(np.full((5, 5), first, np.float32), np.zeros(5, np.float32), activation)
        two = Layer(np.full((5, 2), then, np.float32), np.zeros(2, np.float32))
        std = np.ones(2, np.float32)
        Expert.build(ZOO, ZOO.skill("aim"), [one, two], "gaussian", std=std)

    build("identity")
    with pytest.raises(CorruptFile, match="so large"):
        build(activation)


def test_noise_that_depends_on_the_state_never_vanishes_where_sb3s_does_not() -> None:
    expert = make_expert(state_dependent=True)
    assert expert.std is not None
    silent = replace(expert, std=np.zeros_like(expert.std))
    # the square root of what stable_baselines3 adds to the variance
    assert silent.distribution(seen_by(silent, 3)).std == pytest.approx(np.full((3, 2), 1e-3))


@pytest.mark.parametrize("name", ["expert.json", "expert.safetensors"])
def test_a_missing_file_is_not_found(name: str, tmp_path: Path) -> None:
    make_expert().save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(NotFound, match=name):
        Expert.load(tmp_path, domain=ZOO)


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), card=st.booleans())
def test_any_flipped_bit_is_harmless_or_noticed(
    place: float, bit: int, card: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("expert")
    expert = make_expert(widths=(4,))
    expert.save(folder)
    path = folder / ("expert.json" if card else "expert.safetensors")
    raw = bytearray(path.read_bytes())
    raw[int(place * len(raw))] ^= 1 << bit
    path.write_bytes(raw)
    try:
        loaded = Expert.load(folder, domain=ZOO)
    except CorruptFile:
        return
    assert loaded.sha256 == expert.sha256
