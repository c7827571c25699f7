"""A fine-tuned policy in a zip that Stable-Baselines3 saved, after more training for instance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from skilldistill import domain as domains
from skilldistill.errors import ConfigurationError
from skilldistill.experts.sb3_text import parse_json
from skilldistill.experts.sb3_zip import read_members
from skilldistill.experts.torch_file import confirm, read_tensors
from skilldistill.policy import checkpoint
from skilldistill.policy.checkpoint import Checkpoint

_ACTOR = "network."
"""What the actor's weights are called by in :class:`~skilldistill.policy.sb3.DistilledPolicy`."""


def read_policy_zip(path: Path) -> Checkpoint:
    """The actor of a ``DistilledPolicy``, read as an expert's zip is: nothing in it is run.

    Raises:
        NotFound, UnsafeFile: as :func:`~skilldistill.experts.sb3_zip.read_zip`.
        ConfigurationError: a policy of another kind.
        CorruptFile: damaged, or made for other spaces than the domain's.
    """
    members = read_members(path)
    settings = parse_json(members["data"], path.name).get("policy_kwargs")
    name = settings.get("domain") if isinstance(settings, Mapping) else None
    if not isinstance(name, str):
        raise ConfigurationError(
            f"{path} is a Stable-Baselines3 zip, but not of a fine-tuned policy",
            hint=f"an expert of one skill: `skilldistill experts add SKILL {path}`",
        )
    domain = domains.find(name)
    label = f"{path.name}: policy.pth"
    arrays = read_tensors(members["policy.pth"], label)
    tensors = {
        name.removeprefix(_ACTOR): torch.tensor(array)
        for name, array in arrays.items()
        if name.startswith(_ACTOR)
    }
    width = len(tensors.get("encoder.0.bias", ()))
    network = checkpoint.rebuild(domain, width, tensors, path)
    confirm(members["policy.pth"], arrays, label)
    return Checkpoint(network, domain, sha256=checkpoint.digest(network))
