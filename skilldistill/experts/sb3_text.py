"""What the JSON text of a Stable-Baselines3 zip says: spaces and policy settings.

SB3 stores objects as pickles, and next to each a readable copy of its attributes. Only those
copies are read here: array texts such as ``[-1. 1.]`` and class texts such as
``<class 'torch.nn.modules.activation.ReLU'>``. Nothing is evaluated.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from skilldistill.errors import BeyondTrust, CorruptFile, UnsupportedExpert, excerpt
from skilldistill.experts.activations import TORCH_NAMES

_CLASS = re.compile(r"<class '([\w.<>]+)'>")
# No two ways to match the same digits: a long hostile text must not take quadratic time.
_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?(?:e[+-]?\d+)?|\.\d+|inf|nan)"
_ARRAY = re.compile(rf"[\[\s]*{_NUMBER}(?:[\[\],\s]+{_NUMBER})*[\]\s]*", re.IGNORECASE)
_POLICIES = "stable_baselines3.common.policies"
_FLATTEN = "stable_baselines3.common.torch_layers.FlattenExtractor"
_MAX_DIMENSIONS, _MAX_EXTENT, _MAX_NUMBERS = 8, 2**16, 2**16
"""Of a space: more than any expert has, and few enough to count."""
_OF_PPO = ("clip_range", "clip_range_vf", "n_epochs", "batch_size", "target_kl")
"""What SB3 writes for PPO and not for A2C; any of them may have been left out by ``exclude``."""


@dataclass(frozen=True)
class Space:
    """A Gymnasium space, as far as experts use one."""

    kind: str
    """``Box``, ``Discrete``, ``MultiDiscrete``, ``MultiBinary``, or another class name."""
    sizes: tuple[int, ...]
    """Shape of a Box, n of Discrete and MultiBinary, nvec of MultiDiscrete."""
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    start: tuple[int, ...] = ()

    def __str__(self) -> str:
        sizes = _some(self.sizes)
        if self.kind != "Box":
            return f"{self.kind}({sizes})"
        if not self.low:
            return f"Box(({sizes},))"
        return f"Box({_some(sorted(set(self.low)))}, {_some(sorted(set(self.high)))}, ({sizes},))"


def _some(numbers: Sequence[float]) -> str:
    """At most eight numbers, for a message."""
    return ", ".join(f"{number:g}" for number in numbers[:8]) + (", …" * (len(numbers) > 8))


@dataclass(frozen=True)
class PolicyText:
    """The settings of a policy that decide what its weights mean."""

    observation_space: Space
    action_space: Space
    activation: str
    use_sde: bool | None
    """None where the text does not say."""
    squash_output: bool
    full_std: bool
    use_expln: bool
    widths: tuple[int, ...] | None
    """Hidden widths of the actor where the text names them."""
    algorithm: str


def parse_json(data: bytes, label: str) -> dict[str, Any]:
    """The ``data`` member as a dictionary.

    Raises:
        CorruptFile: not JSON, not a dictionary, nested too deeply, or with repeated keys.
    """
    try:
        content = json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{label}: member 'data' is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise CorruptFile(f"{label}: member 'data' is not a JSON object")
    return content


def pickles(data: Mapping[str, Any], label: str) -> dict[str, bytes]:
    """The pickled objects within the text, by field, undecoded otherwise.

    Raises:
        CorruptFile: one that is no Base64 text.
    """
    found: dict[str, bytes] = {}
    for name, value in data.items():
        if isinstance(value, dict) and ":serialized:" in value:
            try:
                found[name] = base64.b64decode(value[":serialized:"], validate=True)
            except (binascii.Error, ValueError, TypeError) as error:
                field = excerpt(name)
                raise CorruptFile(f"{label}: field {field!r} is damaged: {error}") from error
    return found


def read_policy(data: Mapping[str, Any], label: str) -> PolicyText:
    """What the text says of the policy.

    Raises:
        UnsupportedExpert: a policy whose layers cannot be known from the text.
        CorruptFile: a field that is missing or makes no sense.
    """
    _require_plain_policy(data, label)
    settings = data.get("policy_kwargs")
    if not isinstance(settings, dict):
        raise UnsupportedExpert(f"{label} does not say how its policy was made (policy_kwargs)")
    observations, actions = read_spaces(data, label)
    extractor = _class_name(settings.get("features_extractor_class"), _FLATTEN)
    if extractor != _FLATTEN:
        raise UnsupportedExpert(f"{label} uses the features extractor {excerpt(extractor)}")
    text = PolicyText(
        observation_space=observations,
        action_space=actions,
        activation=_activation(settings.get("activation_fn"), label),
        use_sde=_use_sde(data, settings, label),
        squash_output=_flag(settings, "squash_output", label) or False,
        full_std=_flag(settings, "full_std", label) is not False,
        use_expln=_flag(settings, "use_expln", label) or False,
        widths=_widths(settings.get("net_arch")),
        algorithm=algorithm_of(data),
    )
    if text.squash_output and text.use_sde is False:
        raise CorruptFile(f"{label} squashes its output without state-dependent noise")
    return text


def read_spaces(data: Mapping[str, Any], label: str) -> tuple[Space, Space]:
    """The observation space and the action space.

    Raises:
        UnsupportedExpert: the text does not say, or they are no spaces of Gymnasium.
        CorruptFile: a field that makes no sense.
    """
    return _space(data, "observation_space", label), _space(data, "action_space", label)


def trained_behind_vec_normalize(data: Mapping[str, Any]) -> bool:
    """Whether the agent's observations came through a ``VecNormalize``, which may scale them.

    Only then does SB3 keep the last one as it was before.
    """
    return data.get("_last_original_obs") is not None


def algorithm_of(data: Mapping[str, Any]) -> str:
    """``PPO`` or ``A2C``: which one left its settings."""
    return "PPO" if any(name in data for name in _OF_PPO) else "A2C"


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key appears twice")
    return content


def _use_sde(data: Mapping[str, Any], settings: Mapping[str, Any], label: str) -> bool | None:
    """Whether the noise depends on the state; None where neither the model nor its policy say."""
    said = [_flag(table, "use_sde", label) for table in (data, settings)]
    return None if said == [None, None] else any(said)


def _require_plain_policy(data: Mapping[str, Any], label: str) -> None:
    policy = data.get("policy_class")
    module = policy.get("__module__") if isinstance(policy, dict) else None
    if module is None:
        raise UnsupportedExpert(f"{label} does not say which policy class it holds")
    if module != _POLICIES:
        message = (
            f"{label} holds a policy class of {excerpt(module)!r}; only MlpPolicy of PPO and A2C "
            "can be rebuilt from its weights"
        )
        if isinstance(module, str) and module.startswith(("stable_baselines3.", "sb3_")):
            raise BeyondTrust(message, hint="train the expert with PPO or A2C")
        raise UnsupportedExpert(message)


def _class_name(value: Any, default: str) -> str:
    if value is None:
        return default
    found = _CLASS.fullmatch(value) if isinstance(value, str) else None
    return found.group(1) if found else excerpt(value)


def _activation(value: Any, label: str) -> str:
    name = _class_name(value, "torch.nn.modules.activation.Tanh")
    module, _, short = name.rpartition(".")
    message = f"{label} uses the activation {excerpt(name)!r}; known are {', '.join(TORCH_NAMES)}"
    if module.startswith("torch.nn.modules."):
        if short in TORCH_NAMES:
            return TORCH_NAMES[short]
        raise BeyondTrust(message, hint="train the expert with one of these")
    raise UnsupportedExpert(message)  # a module of somebody's own may consist of known ones


def _flag(table: Mapping[str, Any], name: str, label: str) -> bool | None:
    """A setting that is true or false, or None where the text does not say."""
    value = table.get(name)
    if value is not None and not isinstance(value, bool):
        raise CorruptFile(f"{label}: {name} is {excerpt(value, 40)!r}, not true or false")
    return value


def _widths(value: Any) -> tuple[int, ...] | None:
    """Hidden widths of the actor: ``[64]``, ``{"pi": [64]}``, or, up to SB3 1.7, ``[64, {…}]``."""
    if isinstance(value, dict):
        value = value.get("pi", [])
    if not isinstance(value, list):
        return None
    widths: list[int] = []
    for entry in value:
        if isinstance(entry, dict):
            own = entry.get("pi", [])
            widths += own if isinstance(own, list) else []
        else:
            widths.append(entry)
    return tuple(widths) if all(type(width) is int for width in widths) else None


def _space(data: Mapping[str, Any], field: str, label: str) -> Space:
    entry = data.get(field)
    if not isinstance(entry, dict) or ":type:" not in entry:
        raise BeyondTrust(
            f"{label} does not say what its {field} is",
            hint="Stable-Baselines3 needs it, too; save the model with all its data",
        )
    name = _class_name(entry[":type:"], "")
    kind = name.rpartition(".")[2]
    if not name.startswith(("gymnasium.spaces.", "gym.spaces.")):
        raise BeyondTrust(
            f"{label}: {field} is a {excerpt(name)}",
            hint="it is not known what the policy sees and does",
        )
    if kind == "Box":
        shape = _shape(entry.get("_shape", entry.get("shape")), label, field)
        size = math.prod(shape)
        low, high = (_numbers(entry.get(bound), label, field) for bound in ("low", "high"))
        if len(low) != size or len(high) != size:
            raise CorruptFile(f"{label}: {field} has shape {shape} and {len(low)} bounds")
        return Space(kind, shape, tuple(low), tuple(high))
    if kind in ("Discrete", "MultiDiscrete", "MultiBinary"):
        sizes = _integers(entry.get("nvec" if kind == "MultiDiscrete" else "n"), label, field)
        start = entry.get("start")
        first = [] if start is None else _integers(start, label, field)
        return Space(kind, tuple(sizes), start=tuple(first))
    return Space(excerpt(kind, 40), ())


def _shape(value: Any, label: str, field: str) -> tuple[int, ...]:
    """A shape small enough to count its elements."""
    shape = tuple(_integers(value, label, field, _MAX_DIMENSIONS))
    if not all(0 <= extent <= _MAX_EXTENT for extent in shape):
        raise CorruptFile(f"{label}: {field} has the shape {excerpt(shape)}")
    return shape


def _numbers(value: Any, label: str, field: str, most: int = _MAX_NUMBERS) -> list[float]:
    """Up to ``most`` numbers of a JSON list, a number, or an array's text."""
    items: list[Any] = value if isinstance(value, list) else [value]
    if isinstance(value, str) and len(value) < 2**16 and _ARRAY.fullmatch(value):
        items = [float(word) for word in re.findall(_NUMBER, value, re.IGNORECASE)]
    if len(items) > most:
        raise CorruptFile(f"{label}: {field} has a row of {len(items)} numbers")
    if all(type(i) is float or (type(i) is int and abs(i) < 2**63) for i in items):
        return [float(item) for item in items]
    raise UnsupportedExpert(f"{label}: {field} holds {excerpt(value)!r}, which cannot be read")


def _integers(value: Any, label: str, field: str, most: int = _MAX_NUMBERS) -> list[int]:
    numbers = _numbers(value, label, field, most)
    if not all(number.is_integer() for number in numbers):
        raise CorruptFile(f"{label}: {field} has the sizes {excerpt(numbers)}")
    return [int(number) for number in numbers]
