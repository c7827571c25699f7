"""The expert as plain arrays: a small network that turns observations into a distribution.

NumPy only, so that playing experts loads no deep-learning library. Stored as
``expert.safetensors`` (the numbers) and ``expert.json`` (everything else).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as format_safetensors

from skilldistill import domain as domains
from skilldistill.domain import Domain, Skill
from skilldistill.errors import ConfigurationError, CorruptFile, excerpt
from skilldistill.experts import blocks, checks
from skilldistill.experts.activations import ACTIVATIONS, sigmoid
from skilldistill.experts.card import (
    AGAIN,
    CARD_FILE,
    FORMAT,
    FORMAT_VERSION,
    WEIGHTS_FILE,
    canonical,
    read_card,
    read_tensors,
    word,
)

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
HeadKind = Literal["bernoulli", "gaussian", "squashed"]

SDE_EPSILON = 1e-6
"""Added to the variance of state-dependent noise; value of stable_baselines3's
``StateDependentNoiseDistribution``."""


@dataclass(frozen=True)
class ActionTargets:
    """What an expert would do, per row and action dimension of its head."""

    mean: Float32Array
    """(n, k) probability of pressing for binary dimensions; for continuous ones the action it
    takes when it does not explore, in environment units and within the bounds."""
    std: Float32Array
    """(n, k) standard deviation in environment units; 0 for binary dimensions."""


@dataclass(frozen=True, eq=False)
class Layer:
    """One affine map and the activation after it."""

    weight: Float32Array
    """(inputs, outputs)"""
    bias: Float32Array
    """(outputs,)"""
    activation: str = "identity"
    alpha: float = 0.0
    """Parameter of the activation, where it has one."""


@dataclass(frozen=True, eq=False)
class Normaliser:
    """Running observation statistics, as ``stable_baselines3.common.vec_env.VecNormalize``."""

    mean: Float64Array
    """(d,)"""
    var: Float64Array
    """(d,)"""
    epsilon: float = 1e-8
    clip: float = 10.0

    @cached_property
    def _scale(self) -> Float64Array:
        scale: Float64Array = np.sqrt(self.var + self.epsilon)
        return scale

    def __call__(self, observations: NDArray[Any]) -> NDArray[Any]:
        """(n, d) observations, centred, scaled, and clipped to ±clip."""
        result: NDArray[Any] = np.clip(
            (observations - self.mean) / self._scale, -self.clip, self.clip
        )
        return result


@dataclass(frozen=True, eq=False, kw_only=True)
class Expert:
    """A policy for one skill.

    The last layer's outputs are logits (``head="bernoulli"``) or means (``"gaussian"``, and
    ``"squashed"``: through tanh and then from [-1, 1] to the bounds). A categorical choice of
    two is a Bernoulli on the difference of the logits, and is stored as one.

    Raises:
        CorruptFile: numbers that are not finite, or shapes that do not fit together.
    """

    name: str
    skill: str
    domain: str
    layers: tuple[Layer, ...]
    head: HeadKind
    low: Float32Array
    """(k,) bounds of the action in environment units."""
    high: Float32Array
    std: Float32Array | None = None
    """(k,), or (inputs of the last layer, k) where the noise depends on the state (gSDE);
    None for Bernoulli heads. Before squashing."""
    normaliser: Normaliser | None = None
    source: Mapping[str, Any] = field(default_factory=dict)
    """Where it came from: anything JSON can hold. Not part of :attr:`sha256`."""

    def __post_init__(self) -> None:
        checks.check(self)

    @classmethod
    def build(
        cls,
        domain: Domain,
        skill: Skill,
        layers: Sequence[Layer],
        head: HeadKind,
        *,
        name: str = "",
        std: Float32Array | None = None,
        normaliser: Normaliser | None = None,
        source: Mapping[str, Any] | None = None,
    ) -> Expert:
        """An expert for a skill of a domain, its sizes checked against both.

        Raises:
            CorruptFile: a size, bound, or head that does not fit the skill.
        """
        dims = [domain.actions[column] for column in domain.columns(skill.head)]
        expert = cls(
            name=name or skill.name,
            skill=skill.name,
            domain=domain.name,
            layers=tuple(layers),
            head=head,
            low=np.array([dim.low for dim in dims], dtype=np.float32),
            high=np.array([dim.high for dim in dims], dtype=np.float32),
            std=std,
            normaliser=normaliser,
            source=dict(source or {}),
        )
        expert.check(domain)
        return expert

    def check(self, domain: Domain) -> None:
        """Raise :class:`CorruptFile` unless the expert fits its skill in ``domain``."""
        try:
            skill = domain.skill(self.skill)
        except ConfigurationError as error:
            raise CorruptFile(f"expert {self.name!r}: {error}", hint=error.hint) from error
        dims = [domain.actions[column] for column in domain.columns(skill.head)]
        found = (self.obs_dim, self.action_dim)
        expected = (len(skill.native_observations), len(dims))
        if found != expected:
            raise CorruptFile(
                f"expert {self.name!r} maps {found[0]} observations to {found[1]} actions; "
                f"skill {skill.name!r} has {expected[0]} and {expected[1]}"
            )
        kinds = {dim.kind for dim in dims}
        wanted = {"binary"} if self.head == "bernoulli" else {"continuous"}
        if kinds != wanted:
            raise CorruptFile(
                f"expert {self.name!r} has a {self.head} head; "
                f"the actions of skill {skill.name!r} are {', '.join(sorted(kinds))}"
            )
        for dim, low, high in zip(dims, self.low, self.high, strict=True):
            if not np.allclose([low, high], [dim.low, dim.high], rtol=1e-5, atol=1e-6):
                raise CorruptFile(
                    f"expert {self.name!r} acts in [{low:g}, {high:g}] on {dim.name!r}; "
                    f"skill {skill.name!r} allows [{dim.low:g}, {dim.high:g}]"
                )

    @property
    def obs_dim(self) -> int:
        """Number of native observation dimensions."""
        return int(self.layers[0].weight.shape[0])

    @property
    def action_dim(self) -> int:
        """Number of action dimensions."""
        return int(self.layers[-1].weight.shape[1])

    @cached_property
    def sha256(self) -> str:
        """Hash of everything that decides what the expert does, the same on every machine."""
        digest = hashlib.sha256(canonical(self._shape()))
        for name, tensor in sorted(self.tensors().items()):
            digest.update(canonical([name, str(tensor.dtype), list(tensor.shape)]))
            digest.update(tensor.astype(tensor.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()

    def parameters(
        self, native_observations: NDArray[Any]
    ) -> tuple[Float32Array, Float32Array | None]:
        """The distribution's own parameters, before squashing and clipping.

        Args:
            native_observations: (n, d).

        Returns:
            (n, k) logits or means, and (n, k) standard deviations (None for a Bernoulli head).
        """
        observations = np.asarray(native_observations)
        if observations.ndim != 2 or observations.shape[1] != self.obs_dim:
            raise ConfigurationError(
                f"expert {self.name!r} expects observations of shape (n, {self.obs_dim}), "
                f"got {observations.shape}"
            )
        if self.normaliser is not None:
            observations = self.normaliser(observations)
        rows = len(observations)
        outputs = np.empty((rows, self.action_dim), dtype=np.float32)
        std = None if self.std is None else np.empty_like(outputs)
        buffers = blocks.buffers(
            tuple(layer.weight.shape[0] for layer in self.layers), self.action_dim
        )
        for start in range(0, rows, blocks.ROWS * blocks.BLOCKS):
            part = observations[start : start + blocks.ROWS * blocks.BLOCKS]
            count = -(-len(part) // blocks.ROWS)
            stack = [buffer[:count] for buffer in buffers]
            blocks.fill(stack[0], part)
            for (weight, bias), layer, x, y in zip(
                self._columns, self.layers, stack, stack[1:], strict=False
            ):
                np.matmul(weight, x, out=y)
                y += bias
                ACTIVATIONS[layer.activation](y, layer.alpha)
            outputs[start : start + len(part)] = blocks.unfill(stack[-1], len(part))
            if std is not None:
                std[start : start + len(part)] = self._noise(stack[-2], len(part))
        return outputs, std

    @cached_property
    def _columns(self) -> list[tuple[Float32Array, Float32Array]]:
        """Per layer (outputs, inputs) weight and (outputs, 1) bias: rows of a batch are columns."""
        return [
            (np.ascontiguousarray(layer.weight.T), np.ascontiguousarray(layer.bias[:, None]))
            for layer in self.layers
        ]

    def _noise(self, latent: Float32Array, rows: int) -> Float32Array:
        """(rows, k) standard deviations before squashing, from the last layer's inputs."""
        assert self.std is not None
        if self.std.ndim == 1:
            return np.broadcast_to(self.std, (rows, len(self.std)))
        variance = np.matmul(np.ascontiguousarray((self.std * self.std).T), latent * latent)
        result: Float32Array = np.sqrt(blocks.unfill(variance, rows) + np.float32(SDE_EPSILON))
        return result

    def distribution(self, native_observations: NDArray[Any]) -> ActionTargets:
        """What the expert would do.

        Args:
            native_observations: (n, d) what the skill's own observation shows.

        Raises:
            ConfigurationError: observations of another width.
        """
        outputs, std = self.parameters(native_observations)
        if std is None:
            return ActionTargets(mean=sigmoid(outputs), std=np.zeros_like(outputs))
        if self.head == "gaussian":
            return ActionTargets(mean=np.clip(outputs, self.low, self.high), std=std)
        half: Float32Array = (self.high - self.low) / np.float32(2)
        mean = self.low + half * (np.tanh(outputs) + 1)
        return ActionTargets(
            mean=np.clip(mean, self.low, self.high), std=half * _tanh_std(outputs, std)
        )

    def save(self, directory: Path) -> None:
        """Write ``expert.safetensors`` and ``expert.json`` into an existing directory."""
        directory = Path(directory)
        card = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "skill": self.skill,
            "domain": self.domain,
            "sha256": self.sha256,
            **self._shape(),
            "source": dict(self.source),
        }
        text = json.dumps(card, indent=2, sort_keys=True, allow_nan=False) + "\n"
        (directory / WEIGHTS_FILE).write_bytes(format_safetensors(self.tensors()))
        (directory / CARD_FILE).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, *, domain: Domain | None = None) -> Expert:
        """Read what :meth:`save` wrote, and check all of it.

        Args:
            directory: holds both files.
            domain: the domain to check against; found by the name in the file otherwise.

        Raises:
            NotFound: a file is missing, or the domain is not installed.
            CorruptFile: anything else.
        """
        directory = Path(directory)
        card = read_card(directory / CARD_FILE)
        tensors = read_tensors(directory / WEIGHTS_FILE)
        try:
            expert = _assemble(card, tensors)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            reason = excerpt(str(error))
            raise CorruptFile(
                f"{directory / CARD_FILE}: bad or missing entry: {reason}", hint=AGAIN
            ) from error
        if expert.sha256 != card.get("sha256"):
            raise CorruptFile(
                f"{directory}: the weights are not those {CARD_FILE} describes", hint=AGAIN
            )
        if domain is not None and domain.name != expert.domain:
            raise CorruptFile(f"{directory}: made for domain {expert.domain!r}, not {domain.name}")
        expert.check(domain or domains.find(expert.domain))
        return expert

    def _shape(self) -> dict[str, Any]:
        """Everything but the arrays, as JSON can hold it."""
        scaler = self.normaliser
        return {
            "observations": self.obs_dim,
            "layers": [
                {
                    "outputs": int(layer.weight.shape[1]),
                    "activation": layer.activation,
                    "alpha": layer.alpha,
                }
                for layer in self.layers
            ],
            "head": self.head,
            "low": [float(value) for value in self.low],
            "high": [float(value) for value in self.high],
            "normaliser": scaler and {"epsilon": scaler.epsilon, "clip": scaler.clip},
        }

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The arrays that make the expert, by their names in ``expert.safetensors``."""
        tensors: dict[str, NDArray[Any]] = {}
        for index, layer in enumerate(self.layers):
            tensors[f"layers.{index}.weight"] = layer.weight
            tensors[f"layers.{index}.bias"] = layer.bias
        if self.std is not None:
            tensors["std"] = self.std
        if self.normaliser is not None:
            tensors["normaliser.mean"] = self.normaliser.mean
            tensors["normaliser.var"] = self.normaliser.var
        return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}


_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(32)


def _tanh_std(mean: Float32Array, std: Float32Array) -> Float32Array:
    """Standard deviation of tanh of a Gaussian, by Gauss-Hermite quadrature (32 nodes)."""
    weights = (_WEIGHTS / _WEIGHTS.sum()).astype(np.float32)
    values = np.tanh(mean[..., None] + std[..., None] * _NODES.astype(np.float32))
    centre = values @ weights
    result: Float32Array = np.sqrt(np.square(values - centre[..., None]) @ weights)
    return result


def _assemble(card: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Expert:
    """The expert that the card and the arrays describe; errors of many kinds if they do not."""
    layers = [
        Layer(
            weight=tensors[f"layers.{index}.weight"],
            bias=tensors[f"layers.{index}.bias"],
            activation=str(entry["activation"]),
            alpha=float(entry["alpha"]),
        )
        for index, entry in enumerate(card["layers"])
    ]
    scaler = card["normaliser"]
    expert = Expert(
        name=word(card, "name"),
        skill=word(card, "skill"),
        domain=word(card, "domain"),
        layers=tuple(layers),
        head=card["head"],
        low=np.array(card["low"], dtype=np.float32),
        high=np.array(card["high"], dtype=np.float32),
        std=tensors.get("std"),
        normaliser=scaler
        and Normaliser(
            mean=tensors["normaliser.mean"],
            var=tensors["normaliser.var"],
            epsilon=float(scaler["epsilon"]),
            clip=float(scaler["clip"]),
        ),
        source=dict(card["source"]),
    )
    unknown = set(tensors) - set(expert.tensors())
    if unknown:
        raise ValueError(f"unknown tensors {', '.join(sorted(unknown))}")
    return expert
