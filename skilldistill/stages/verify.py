"""``skilldistill verify``: compare what lies on disk with the manifest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from skilldistill.config import VerifyConfig
from skilldistill.errors import VerificationFailed
from skilldistill.progress import ProgressCallback, StopCheck, never, silent
from skilldistill.workspace.store import Workspace
from skilldistill.workspace.verify import Finding, check_artefacts, check_surroundings


@dataclass(frozen=True)
class VerifyResult:
    """What was compared, and what differs."""

    schema: ClassVar[str] = "skilldistill.verify/1"

    workspace: str
    artefacts: int
    files: int
    bytes: int
    findings: tuple[Finding, ...]
    ok: bool
    """Whether nothing is damaged. Leftovers and partial work are no damage."""

    def failure(self) -> VerificationFailed | None:
        """The error that the findings amount to, or None."""
        damaged = [finding for finding in self.findings if finding.damage]
        if not damaged:
            return None
        first = damaged[0]
        more = f", and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        owners = list(dict.fromkeys(f.artefact for f in damaged if f.artefact))
        if first.problem == "unreadable":
            hint = "check the disk and the permissions there, then verify again"
        elif owners:
            hint = (
                f"make {owners[0]} again (`skilldistill show {owners[0]}` tells how), "
                f"then `skilldistill rm --force {owners[0]}`"
            )
        elif first.problem == "manifest":
            hint = f"`skilldistill init {self.workspace}` repairs the manifest"
        else:
            hint = "move what does not belong there out of the workspace"
        return VerificationFailed(f"{self.workspace}: {first.path} {first.detail}{more}", hint=hint)


def verify(
    workspace: Workspace,
    config: VerifyConfig | None = None,
    *,
    progress: ProgressCallback = silent,
    stop: StopCheck = never,
    command: str = "",
    strict: bool = False,
) -> VerifyResult:
    """Read every file again and compare it with the manifest.

    Args:
        workspace: where.
        config: which artefacts; by default all, and what lies beside them.
        progress: told the bytes that were read.
        stop: asked before every file.
        command: as every stage takes it; not needed here.
        strict: raise if something is damaged, rather than return it.

    Raises:
        VerificationFailed: something is damaged, and ``strict``.
        NotFound: a reference means nothing.
        CorruptFile: the manifest cannot be read.
        Interrupted: ``stop`` asked for it.
    """
    config = config or VerifyConfig()
    if config.references:
        artefacts = [workspace.resolve(reference) for reference in config.references]
        around = []
    else:
        around = check_surroundings(workspace)
        artefacts = workspace.artefacts()
    findings = [*around, *check_artefacts(workspace, artefacts, progress=progress, stop=stop)]
    result = VerifyResult(
        workspace=str(workspace.root),
        artefacts=len(artefacts),
        files=sum(len(artefact.files) for artefact in artefacts),
        bytes=sum(artefact.bytes for artefact in artefacts),
        findings=tuple(findings),
        ok=not any(finding.damage for finding in findings),
    )
    failure = result.failure()
    if strict and failure:
        raise failure
    return result
