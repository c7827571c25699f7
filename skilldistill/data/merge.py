"""Join datasets of one domain into one file, block by block.

The result depends on what the inputs hold, not on where they lie or in which order they are
given. ``native_observations`` is left out: its width differs from skill to skill.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skilldistill.data.reader import DatasetReader
from skilldistill.data.schema import Batch, DatasetInfo, union
from skilldistill.data.writer import DatasetWriter
from skilldistill.domain import Domain
from skilldistill.errors import ConfigurationError, Interrupted
from skilldistill.progress import Progress, ProgressCallback, StopCheck, never, silent

_BLOCK_ROWS = 1 << 16
"""Rows held at once, rounded to whole episodes."""


def merge(
    paths: Sequence[str | Path],
    output_path: str | Path,
    *,
    domain: Domain,
    seed: int = 0,
    names: Sequence[str] = (),
    progress: ProgressCallback = silent,
    stop: StopCheck = never,
) -> DatasetInfo:
    """Write one dataset with every episode of several, skill after skill.

    Args:
        paths: the files to join; at least one.
        output_path: the file to write.
        domain: what all of them must belong to; its task order becomes the skills' order.
        seed: recorded in the merged file.
        names: what to call the inputs in messages, one per path; empty takes the paths.
        progress: told the rows done.
        stop: asked between blocks.

    Returns:
        What the merged dataset says of itself.

    Raises:
        ConfigurationError: no inputs, one given twice, an episode found in two of them, or an
            input that does not belong to ``domain``.
        NotFound: an input is not there.
        CorruptFile: an input is damaged, or holds no episodes.
        DiskProblem: the disk is full, or writing failed.
        Interrupted: asked to stop; the output is removed.
    """
    if not paths:
        raise ConfigurationError("nothing to merge", hint="run `skilldistill collect` first")
    labels = list(names) or [str(path) for path in paths]
    refuse_repeats(paths, labels)
    with ExitStack() as stack:
        inputs = [
            (stack.enter_context(DatasetReader(path, domain=domain)), label)
            for path, label in zip(paths, labels, strict=True)
        ]
        order = [task.name for task in domain.tasks]
        inputs.sort(key=lambda pair: _rank(pair[0], order))
        info = _joined_info([reader for reader, _ in inputs], domain, order, seed)
        total = sum(reader.num_rows for reader, _ in inputs)
        seen: dict[bytes, str] = {}
        with DatasetWriter(output_path, info) as writer:
            for reader, label in inputs:
                _copy(reader, label, writer, seen, total, progress, stop)
    return info


def _copy(
    reader: DatasetReader,
    label: str,
    writer: DatasetWriter,
    seen: dict[bytes, str],
    total: int,
    progress: ProgressCallback,
    stop: StopCheck,
) -> None:
    """Append every episode of one input."""
    position = [writer.info.skills.index(name) for name in reader.info.skills]
    table = np.array(position, dtype=np.uint8)
    fields = [name for name in reader.fields if name != "native_observations"]
    for first, last in _blocks(reader):
        if signum := stop():
            raise Interrupted(
                "stopped while merging; nothing was written",
                signum=signum,
                hint="the same command begins again, from the first row",
            )
        low = int(reader.episode_start[first])
        lengths = reader.episode_length[first:last]
        rows = reader.rows(slice(low, low + int(lengths.sum())), fields)
        _refuse_duplicates(rows, lengths, label, seen)
        rows["skill"] = table[rows["skill"]]
        writer.append_rows(rows)
        writer.append_episodes(
            lengths, reader.episode_return[first:last], reader.episode_seed[first:last]
        )
        progress(Progress("merge", writer.num_rows, total, "row"))


def _blocks(reader: DatasetReader) -> Iterator[tuple[int, int]]:
    """Runs of whole episodes, about :data:`_BLOCK_ROWS` rows each."""
    end = reader.episode_start + reader.episode_length
    first = 0
    while first < reader.num_episodes:
        limit = int(reader.episode_start[first]) + _BLOCK_ROWS
        last = max(first + 1, int(np.searchsorted(end, limit, side="right")))
        yield first, last
        first = last


def refuse_repeats(paths: Sequence[str | Path], labels: Sequence[str]) -> None:
    """Refuse a file that is to be merged with itself.

    Raises:
        ConfigurationError: two of the paths lead to the same file.
    """
    found: dict[Path, str] = {}
    for path, label in zip(paths, labels, strict=True):
        place = Path(path).resolve()
        if place in found:
            raise ConfigurationError(
                f"{label} is given twice"
                if found[place] == label
                else f"{label} and {found[place]} are the same file",
                hint="name every dataset once",
            )
        found[place] = label


def _refuse_duplicates(
    rows: Batch, lengths: NDArray[np.int64], label: str, seen: dict[bytes, str]
) -> None:
    """Refuse an episode that an earlier input held too: it would count twice in training."""
    low = 0
    for length in lengths.tolist():
        digest = hashlib.blake2b(digest_size=16)
        for name in ("observations", "actions"):
            digest.update(np.ascontiguousarray(rows[name][low : low + length]).data)
        low += length
        other = seen.setdefault(digest.digest(), label)
        if other != label:
            raise ConfigurationError(
                f"{label} and {other} hold the same episode",
                hint="leave one out, or collect it again with another `--seed`",
            )


def _rank(reader: DatasetReader, order: Sequence[str]) -> tuple[Any, ...]:
    """By skill, then by everything else that tells inputs apart, so that the order is fixed."""
    info = reader.info
    positions = sorted(order.index(name) for name in info.skills)
    return positions, info.rounds, info.seed, reader.num_rows, info.digest()


def _joined_info(
    readers: Sequence[DatasetReader], domain: Domain, order: Sequence[str], seed: int
) -> DatasetInfo:
    infos = [reader.info for reader in readers]
    skills = union([info.skills for info in infos], order)
    environments = dict.fromkeys(name for info in infos for name in info.env_id.split(","))
    return DatasetInfo(
        domain=domain.name,
        skills=skills,
        env_id=",".join(environments),
        experts=tuple(dict.fromkeys(expert for info in infos for expert in info.experts)),
        observation_names=domain.observation_names,
        action_names=domain.action_names,
        seed=seed,
        config={
            "sources": [
                {
                    "skills": list(reader.info.skills),
                    "seed": reader.info.seed,
                    "rounds": reader.info.rounds,
                    "episodes": reader.num_episodes,
                    "rows": reader.num_rows,
                    "digest": reader.info.digest(),
                }
                for reader in readers
            ]
        },
        rounds=max(info.rounds for info in infos),
    )
