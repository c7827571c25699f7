"""Experts from Stable-Baselines3: read from a zip without unpickling it, or from a live model.

A zip is taken apart as data. Sizes come from the tensors of ``policy.pth``, everything else from
the JSON text of ``data``; the pickles in there are never loaded.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from skilldistill.domain import Domain, Skill
from skilldistill.errors import (
    BeyondTrust,
    CorruptFile,
    SpaceMismatch,
    UnsafeFile,
    UnsupportedExpert,
    excerpt,
)
from skilldistill.experts.activations import DEFAULT_ALPHA
from skilldistill.experts.archive import Archive, Limits
from skilldistill.experts.network import Expert, HeadKind, Layer, Normaliser
from skilldistill.experts.normaliser import read_normaliser
from skilldistill.experts.pickles import refuse_dangerous
from skilldistill.experts.sb3_text import (
    PolicyText,
    Space,
    algorithm_of,
    parse_json,
    pickles,
    read_policy,
    read_spaces,
    trained_behind_vec_normalize,
)
from skilldistill.experts.torch_file import confirm, read_tensors, scan
from skilldistill.regular import open_regular

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

Float32Array = NDArray[np.float32]

MAX_TEXT_BYTES = 4 * 2**20
_LIMITS = Limits(members=64, member_bytes=64 * 2**20, total_bytes=160 * 2**20)
_VERSION_MEMBER = "_stable_baselines3_version"
_TEXT_MEMBERS = (_VERSION_MEMBER, "system_info.txt")
_LINE_ENDS = str.maketrans("\r\n\t", "   ")
_HIDDEN = re.compile(r"mlp_extractor\.(shared_net|policy_net)\.([0-9]{1,3})\.(weight|bias)")
_CRITIC = re.compile(r"(mlp_extractor\.value_net\.[0-9]{1,3}|value_net)\.(weight|bias)")
_ACTOR = {"action_net.weight", "action_net.bias", "log_std"}
TRUST = "if its network is a chain of plain layers and known activations, and you made this file \
yourself, --trust-pickle loads it through stable_baselines3, which runs whatever code it contains"
"""What may help with a policy that cannot be rebuilt from the text and the weights."""


def read_zip(path: Path, skill: Skill, domain: Domain, *, normaliser: Path | None = None) -> Expert:
    """Rebuild the actor of a PPO or A2C ``MlpPolicy`` saved by Stable-Baselines3 1.x or 2.x.

    Nothing in the file is run, and nothing is written.

    Args:
        path: the zip.
        skill: what the expert is for; spaces and distribution must be this skill's.
        domain: the skill's domain.
        normaliser: observation statistics the policy was trained with, as plain arrays
            (:func:`~skilldistill.experts.normaliser.read_normaliser`).

    Raises:
        NotFound: there is no such file.
        UnsafeFile: a file made to do harm.
        CorruptFile: a damaged file, one that contradicts itself, or no file at all.
        UnsupportedExpert: a policy that cannot be rebuilt as plain layers.
        SpaceMismatch: a policy for other observations or actions.
    """
    scaler = None if normaliser is None else read_normaliser(Path(normaliser))
    with _open(Path(path)) as file:
        return _rebuild(file, Path(path), skill, domain, normaliser, scaler)


def read_members(path: Path) -> dict[str, bytes]:
    """The members of a zip by Stable-Baselines3 that say what the policy is, all others checked.

    Returns:
        Bytes of ``data`` and ``policy.pth``, and of some others.

    Raises:
        NotFound, UnsafeFile, CorruptFile: as :func:`read_zip`.
    """
    with _open(path) as file:
        return _read_members(file, path)[0]


def _rebuild(
    file: BinaryIO,
    path: Path,
    skill: Skill,
    domain: Domain,
    normaliser: Path | None,
    scaler: Normaliser | None,
) -> Expert:
    """The expert in an open zip; ``path`` and ``normaliser`` are what to call the files."""
    members, digest = _read_members(file, path)
    data = parse_json(members["data"], path.name)
    text = read_policy(data, path.name)
    _check_spaces(text.observation_space, text.action_space, skill, domain, path.name)
    label = f"{path.name}: policy.pth"
    tensors = read_tensors(
        members["policy.pth"], label, check_name=lambda name: _check_tensor(name, path.name)
    )
    hidden = _hidden_layers(tensors, text, path.name)
    source = {
        "kind": "sb3_zip",
        "file": path.name,
        "sha256": digest,
        "algorithm": text.algorithm,
        "stable_baselines3": excerpt(members.get(_VERSION_MEMBER, b"").decode().strip(), 40),
        "action_space": str(text.action_space),
        "normaliser": None if normaliser is None else Path(normaliser).name,
        "vec_normalize": trained_behind_vec_normalize(data),
    }
    expert = _assemble(domain, skill, text, hidden, tensors, scaler, source)
    confirm(members["policy.pth"], tensors, label)
    return expert


def read_trusted(
    path: Path, skill: Skill, domain: Domain, *, normaliser: Path | None = None
) -> Expert:
    """Like :func:`read_zip`, but what cannot be rebuilt from text is loaded through SB3.

    That runs code the file contains. Files refused as unsafe, damaged, or for another skill are
    refused here too, and before any of it runs; so are those of which it is known that this
    could not help.

    Raises:
        NotFound, UnsafeFile, CorruptFile, SpaceMismatch: as :func:`read_zip`.
        UnsupportedExpert: SB3 cannot load it either, or what it loads is no chain of layers.
    """
    scaler = None if normaliser is None else read_normaliser(Path(normaliser))
    with _open(Path(path)) as file:
        # What is run must be what was checked, whatever happens to the file meanwhile.
        content = file.read(_LIMITS.total_bytes)
    try:
        return _rebuild(io.BytesIO(content), Path(path), skill, domain, normaliser, scaler)
    except (BeyondTrust, SpaceMismatch):
        raise
    except UnsupportedExpert as reason:
        expert = _load(content, Path(path), skill, domain, scaler, reason)
        return replace(expert, source={**expert.source, "kind": "sb3_trusted"})


def _load(
    content: bytes,
    path: Path,
    skill: Skill,
    domain: Domain,
    scaler: Normaliser | None,
    reason: UnsupportedExpert,
) -> Expert:
    """Run what a zip contains, provided that it says it is for this skill."""
    members, digest = _read_members(io.BytesIO(content), path)
    data = parse_json(members["data"], path.name)
    _check_spaces(*read_spaces(data, path.name), skill, domain, path.name)
    import stable_baselines3

    algorithm = getattr(stable_baselines3, algorithm_of(data))
    try:
        model = algorithm.load(io.BytesIO(content), device="cpu")
        expert = from_sb3(model, skill, domain, normaliser=scaler)
    except (KeyboardInterrupt, CorruptFile):
        raise
    except BaseException as error:  # code of the file's author; SystemExit(0) is no success
        raise UnsupportedExpert(
            f"{reason.message}; nor can stable_baselines3 load it: "
            f"{type(error).__name__}: {excerpt(str(error))}"
        ) from error
    further = {
        "file": path.name,
        "sha256": digest,
        "vec_normalize": trained_behind_vec_normalize(data),
    }
    return replace(expert, source={**expert.source, **further})


def from_sb3(
    model: BaseAlgorithm, skill: Skill, domain: Domain, *, normaliser: Normaliser | None = None
) -> Expert:
    """The actor of a live PPO or A2C model whose network is a chain of plain layers.

    The result is compared with the model on random observations before it is returned.

    Raises:
        UnsupportedExpert: a network that is no such chain, or that computes something else.
        SpaceMismatch: a policy for other observations or actions.
    """
    from skilldistill.experts.sb3_live import read_live, same_distribution

    label = f"the {type(model).__name__} model"
    text, hidden, tensors = read_live(model, label)
    _check_spaces(text.observation_space, text.action_space, skill, domain, label)
    source = {
        "kind": "sb3_model",
        "algorithm": type(model).__name__,
        "action_space": str(text.action_space),
    }
    plain = _assemble(domain, skill, text, hidden, tensors, None, source)
    if not same_distribution(plain, model):
        raise UnsupportedExpert(f"{label} does more with its layers than apply them in order")
    return replace(plain, normaliser=normaliser) if normaliser else plain


def _open(path: Path) -> BinaryIO:
    """A zip of a size that may be read; the caller closes it."""
    if path.suffix == ".pt2":
        raise UnsafeFile(f"{path} is an exported program (.pt2), not a Stable-Baselines3 zip")
    file = open_regular(path, hint="give the zip that model.save() wrote")
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if size > _LIMITS.total_bytes:
        file.close()
        raise UnsafeFile(f"{path} has {size} bytes; {_LIMITS.total_bytes} are allowed")
    return file


def _read_members(file: BinaryIO, path: Path) -> tuple[dict[str, bytes], str]:
    """The members that matter, all others checked, and the file's hash."""
    archive = Archive(file, path.name, _LIMITS)
    members = {name: _read_member(archive, name, path.name) for name in archive.names}
    file.seek(0)
    digest = hashlib.sha256()
    while block := file.read(2**20):
        digest.update(block)
    for name in ("data", "policy.pth"):
        if name not in members:
            raise CorruptFile(
                f"{path} has no member {name!r}: it was not written by model.save() of "
                "Stable-Baselines3"
            )
    return members, digest.hexdigest()


def _read_member(archive: Archive, name: str, label: str) -> bytes:
    """One member's bytes if they are needed later; refuses what SB3 would not write."""
    if name == "data":
        if archive.size(name) > MAX_TEXT_BYTES:
            raise UnsafeFile(f"{label}: member 'data' has {archive.size(name)} bytes")
        data = archive.read(name)
        refuse_dangerous(pickles(parse_json(data, label), label), label)
        return data
    if name in _TEXT_MEMBERS:
        data = archive.read(name) if archive.size(name) <= 2**16 else b"\0"
        if not data.decode("ascii", "replace").translate(_LINE_ENDS).isprintable():
            raise UnsafeFile(f"{label}: member {name!r} is not text")
        if name == _VERSION_MEMBER:
            _check_utf8(data, f"{label}: member {name!r}")
        return data
    if name.endswith(".pth") and "/" not in name:
        data = archive.read(name)
        if name == "policy.pth":
            return data
        scan(data, f"{label}: {name}", any_content=True)
        return b""
    raise UnsafeFile(f"{label}: member {name!r} does not belong into a Stable-Baselines3 zip")


def _check_utf8(data: bytes, label: str) -> None:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise CorruptFile(f"{label} is damaged: {error}") from error


def _check_tensor(name: str, label: str) -> None:
    """Raise :class:`UnsupportedExpert` for weights that an ``MlpPolicy`` has not."""
    if name not in _ACTOR and not _HIDDEN.fullmatch(name) and not _CRITIC.fullmatch(name):
        raise UnsupportedExpert(
            f"{label} has weights {excerpt(name)!r}, which an MlpPolicy of PPO or A2C has not",
            hint=TRUST,
        )


def _check_spaces(
    observations: Space, actions: Space, skill: Skill, domain: Domain, label: str
) -> None:
    """Raise :class:`SpaceMismatch` unless the spaces are the skill's, stating both."""
    wrong = _mismatch(observations, actions, skill, domain)
    if not wrong:
        return
    fitting = [s.name for s in domain.skills if not _mismatch(observations, actions, s, domain)]
    own = [task.env_id for task in domain.tasks if task.name == skill.name]
    hint = f"train it in {(*own, 'an environment')[0]} with that skill's spaces"
    if fitting:
        hint = f"it has the spaces of skill {' and of '.join(fitting)}: give --skill {fitting[0]}"
    raise SpaceMismatch(f"{label} {wrong}", hint=hint)


def _mismatch(observations: Space, actions: Space, skill: Skill, domain: Domain) -> str:
    """In which way the spaces are not the skill's, in words; empty if they are."""
    names = skill.native_observations
    if observations.kind != "Box" or observations.sizes != (len(names),):
        return (
            f"observes {observations}; skill {skill.name!r} shows "
            f"Box(({len(names)},)): {', '.join(names)}"
        )
    dims = [domain.actions[column] for column in domain.columns(skill.head)]
    count = len(dims)
    if skill.native_action == "box":
        low, high = tuple(dim.low for dim in dims), tuple(dim.high for dim in dims)
        wanted = [Space("Box", (count,), low, high)]
    else:
        wanted = [Space("MultiBinary", (count,)), Space("MultiDiscrete", (2,) * count)]
        if count == 1:
            wanted.insert(0, Space("Discrete", (2,)))
    if any(_same_space(actions, space) for space in wanted):
        return ""
    starts = f" starting at {actions.start}" if any(actions.start) else ""
    return (
        f"acts on {actions}{starts}; skill {skill.name!r} takes "
        f"{' or '.join(map(str, wanted))}: {', '.join(dim.name for dim in dims)}"
    )


def _same_space(found: Space, wanted: Space) -> bool:
    if (found.kind, found.sizes) != (wanted.kind, wanted.sizes) or any(found.start):
        return False
    # SB3 writes bounds as numpy prints them: eight digits.
    return np.allclose(found.low, wanted.low, rtol=1e-5, atol=1e-6) and np.allclose(
        found.high, wanted.high, rtol=1e-5, atol=1e-6
    )


def _hidden_layers(
    tensors: Mapping[str, NDArray[Any]], text: PolicyText, label: str
) -> list[Layer]:
    """The actor's layers before the last, in order."""
    parts: dict[tuple[str, int], dict[str, NDArray[Any]]] = {}
    for name, tensor in tensors.items():
        if hidden := _HIDDEN.fullmatch(name):
            net, index, what = hidden.groups()
            parts.setdefault((net, int(index)), {})[what] = tensor
    layers: list[Layer] = []
    # Layers shared with the critic (SB3 up to 1.7) come first. Activations hold no weights, so a
    # plain network has its affine maps at the even places.
    for net in ("shared_net", "policy_net"):
        places = sorted(index for name, index in parts if name == net)
        if places != list(range(0, 2 * len(places), 2)):
            raise UnsupportedExpert(
                f"{label} has weights at places {excerpt(places)} of {net}", hint=TRUST
            )
        for place in places:
            part = parts[net, place]
            if set(part) != {"weight", "bias"}:
                raise UnsupportedExpert(f"{label}: layer {place} of {net} is no affine map")
            layers.append(_layer(part["weight"], part["bias"], text.activation, label))
    widths = tuple(layer.weight.shape[1] for layer in layers)
    if text.widths is not None and text.widths != widths:
        raise CorruptFile(
            f"{label} declares hidden layers {excerpt(text.widths)} and holds {excerpt(widths)}"
        )
    return layers


def _layer(weight: NDArray[Any], bias: NDArray[Any], activation: str, label: str) -> Layer:
    if weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise CorruptFile(
            f"{label}: a layer has weight {excerpt(weight.shape)} and bias {excerpt(bias.shape)}"
        )
    alpha = DEFAULT_ALPHA.get(activation, 0.0)
    return Layer(
        weight=np.ascontiguousarray(weight.T, dtype=np.float32),
        bias=np.ascontiguousarray(bias, dtype=np.float32),
        activation=activation,
        alpha=alpha,
    )


def _assemble(
    domain: Domain,
    skill: Skill,
    text: PolicyText,
    hidden: list[Layer],
    tensors: Mapping[str, NDArray[Any]],
    normaliser: Normaliser | None,
    source: Mapping[str, Any],
) -> Expert:
    """The expert of these hidden layers and the ``action_net`` and ``log_std`` of ``tensors``."""
    label = str(source.get("file", "the model"))
    for name in ("action_net.weight", "action_net.bias"):
        if name not in tensors:
            raise CorruptFile(f"{label} has no weights {name!r}")
    last = _layer(tensors["action_net.weight"], tensors["action_net.bias"], "identity", label)
    head: HeadKind = "bernoulli"
    std = None
    if text.action_space.kind == "Box":
        head = "squashed" if text.squash_output else "gaussian"
        latent = last.weight.shape[0]
        std = _deviation(tensors.get("log_std"), text, latent, last.weight.shape[1], label)
    elif "log_std" in tensors:
        raise CorruptFile(f"{label} has standard deviations for {text.action_space}")
    elif text.action_space.kind in ("Discrete", "MultiDiscrete"):
        last = _difference(last, label)
    return Expert.build(
        domain, skill, (*hidden, last), head, std=std, normaliser=normaliser, source=source
    )


def _difference(last: Layer, label: str) -> Layer:
    """The choice between two as one logit: that of pressing minus that of not pressing."""
    if last.weight.shape[1] % 2:
        raise CorruptFile(f"{label} has {last.weight.shape[1]} logits for choices between two")
    weight, bias = last.weight.astype(np.float64), last.bias.astype(np.float64)
    return replace(
        last,
        weight=np.ascontiguousarray(weight[:, 1::2] - weight[:, ::2], dtype=np.float32),
        bias=(bias[1::2] - bias[::2]).astype(np.float32),
    )


def _deviation(
    log_std: NDArray[Any] | None, text: PolicyText, latent: int, actions: int, label: str
) -> Float32Array:
    """Standard deviations from their logarithms, as SB3's distributions compute them."""
    if text.use_sde is None and log_std is not None and log_std.ndim != 1:
        raise UnsupportedExpert(
            f"{label} does not say whether its noise depends on the state (use_sde)",
            hint="save the model with all its data",
        )
    shape = (latent, actions if text.full_std else 1) if text.use_sde else (actions,)
    if log_std is None or log_std.shape != shape:
        found = None if log_std is None else excerpt(log_std.shape)
        raise CorruptFile(f"{label} has log_std of shape {found}; expected {shape}")
    values = log_std.astype(np.float64)
    with np.errstate(over="ignore"):
        std = np.exp(values)
        if text.use_sde and text.use_expln:
            # StateDependentNoiseDistribution.get_std: grows like a logarithm above zero.
            std = np.where(values > 0, np.log1p(np.maximum(values, 0) + 1e-6) + 1, std)
        std = std.astype(np.float32)
    return cast(Float32Array, np.ascontiguousarray(np.broadcast_to(std, (*shape[:-1], actions))))
