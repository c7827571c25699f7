"""How each command's result looks to a person."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from skilldistill.cli.advice import whole
from skilldistill.cli.render import Printer, escaped, print_table, size, table
from skilldistill.cli.scores import report_table
from skilldistill.config import DistillConfig, FinetuneConfig
from skilldistill.settings import SECTIONS, Settings, settings_of, toml_value

if TYPE_CHECKING:
    from rich.console import Console

    from skilldistill.cli.commands.settings import ConfigResult
    from skilldistill.stages.collect import CollectResult
    from skilldistill.stages.distill import DistillResult
    from skilldistill.stages.doctor import DoctorResult
    from skilldistill.stages.evaluate import EvaluateResult
    from skilldistill.stages.experts_add import ExpertsAddResult
    from skilldistill.stages.experts_ls import ExpertsLsResult
    from skilldistill.stages.export import ExportResult
    from skilldistill.stages.finetune import FinetuneResult
    from skilldistill.stages.gc import GcResult
    from skilldistill.stages.init import InitResult
    from skilldistill.stages.ls import LsResult
    from skilldistill.stages.merge import MergeResult
    from skilldistill.stages.plan import PlanResult
    from skilldistill.stages.rm import RmResult
    from skilldistill.stages.run import RunResult
    from skilldistill.stages.show import ShowResult
    from skilldistill.stages.train import TrainResult
    from skilldistill.stages.verify import VerifyResult


def made(console: Console, ref: str, path: str, further: str = "") -> None:
    """The line that says what was published, and where."""
    words = f"[green]✓[/] [bold]{escaped(ref)}[/]"
    console.print(f"{words}  {escaped(further)}".rstrip(), soft_wrap=True)
    console.print(f"  [dim]{escaped(path)}[/]", soft_wrap=True)


def following(console: Console, command: str, workspace: str, domain: str = "") -> None:
    """The command that usually comes next, in the same workspace and domain.

    Args:
        console: where to print.
        command: without what flags and settings may say of either.
        workspace: its directory.
        domain: its name; empty for a command that is the same in all.
    """
    command = whole(command, Settings.load(), domain=domain, workspace=workspace)
    console.print(f"next: [cyan]{escaped(command)}[/]", soft_wrap=True)


def _option(flag: str, ref: str, default: str) -> str:
    """A flag that names what was just made, where the next command would take something else."""
    name = ref.partition(":")[2].partition("@")[0]
    return "" if name == default else f" {flag} {name}"


def figures(values: Mapping[str, Any]) -> str:
    """Named numbers on one line; what is not finite is left out."""
    shown = [
        f"{name} {value:,}" if isinstance(value, int) else f"{name} {value:.4g}"
        for name, value in values.items()
        if isinstance(value, int | float) and math.isfinite(value)
    ]
    return ", ".join(shown)


def init(console: Console, result: InitResult) -> None:
    """A workspace that is ready."""
    if result.repaired:
        console.print(f"repaired: {escaped(result.repaired)}", soft_wrap=True)
    made(console, result.root, "a new workspace" if result.created else "was a workspace already")
    following(console, "skilldistill collect --skill all", result.root)


def train(console: Console, result: TrainResult) -> None:
    """The expert and its final figures."""
    further = f"{result.timesteps:,} steps in {result.seconds:.0f} s, best at "
    made(console, result.ref, result.path, f"{further}{result.best_timesteps:,}")
    for name, figure in result.metrics.items():
        interval = f"95 % interval {_figure(figure.low)} to {_figure(figure.high)}"
        mark = " (main)" if name == result.main_metric else ""
        console.print(f"  {escaped(name)}{mark}: {_figure(figure.mean)}, {interval}")
    following(
        console, f"skilldistill collect --skill {result.skill}", result.workspace, result.domain
    )


def experts_add(console: Console, result: ExpertsAddResult) -> None:
    """The expert that was taken in."""
    layers = "-".join(str(width) for width in result.layers)
    normalised = ", observations normalised" if result.normalised else ""
    made(console, result.ref, result.path, f"{result.skill}, {result.head} {layers}{normalised}")
    if result.lacks_statistics:
        note = (
            "the agent was trained behind VecNormalize: if that scaled its observations, it plays "
            "badly without the statistics; add it with `--normaliser`"
        )
        console.print(f"[yellow]note:[/] {note}", soft_wrap=True)
    following(
        console, f"skilldistill collect --skill {result.skill}", result.workspace, result.domain
    )


def experts_ls(console: Console, result: ExpertsLsResult) -> None:
    """A line per expert; a star marks the ones in use."""
    grid = table(["", "skill", "expert", "layers", "source"], folds=["layers", "source"])
    for entry in result.experts:
        layers = "-".join(str(width) for width in entry.layers)
        about = entry.problem or entry.source
        if entry.status not in ("complete", "shipped"):
            about = f"({entry.status}) {about}"
        row = (entry.skill, entry.ref, f"{entry.head} {layers}".strip(), about)
        grid.add_row("*" if entry.used else "", *(escaped(text) for text in row))
    print_table(console, grid)
    console.print("[dim]* is what `collect` and `composite` play[/]")
    for name, count in result.elsewhere.items():
        flag = f"--domain {shlex.quote(name)}"
        text = f"experts of domain {name!r} in this workspace: {count}; `{flag}` lists them"
        console.print(f"[yellow]note:[/] {escaped(text)}", soft_wrap=True)


def collect(console: Console, result: CollectResult) -> None:
    """A line per dataset, with the expert that played."""
    for data in result.datasets:
        further = f"{data.episodes:,} episodes, {data.rows:,} rows, {figures(data.metrics)}"
        made(console, data.ref, data.path, further)
        for expert in data.experts:
            source = "" if expert.source == expert.ref else f" (from {expert.source})"
            console.print(f"  played by {escaped(expert.ref + source)}", soft_wrap=True)
    whole = all(len(data.experts) > 1 for data in result.datasets)
    if whole:  # played in the combined task: there is nothing to merge it with
        given = _option("--dataset", result.datasets[0].ref, DistillConfig().dataset)
        command = f"distill{given}"
    elif playable := [skill for skill in result.missing if skill not in result.without_expert]:
        command = f"collect --skill {playable[0]}"
    elif result.missing:
        command = f"train --skill {result.missing[0]}"
    else:
        command = "merge"
    following(console, f"skilldistill {command}", result.workspace, result.domain)


def merge(console: Console, result: MergeResult) -> None:
    """The merged dataset and what is in it."""
    rows = ", ".join(f"{name} {count:,}" for name, count in result.rows_per_skill.items())
    further = f"{result.episodes:,} episodes, {result.rows:,} rows ({rows})"
    made(console, result.ref, result.path, further)
    console.print(f"  from {escaped(', '.join(source.ref for source in result.sources))}")
    given = _option("--dataset", result.ref, DistillConfig().dataset)
    following(console, f"skilldistill distill{given}", result.workspace, result.domain)


def distill(console: Console, result: DistillResult) -> None:
    """The student and its held-out figures."""
    made(console, result.ref, result.path, f"learnt from {result.dataset}")
    groups: dict[str, dict[str, Any]] = {}
    for name, value in result.metrics.items():  # "movement/kl" belongs to the head movement
        head, _, metric = name.rpartition("/")
        groups.setdefault(head, {})[metric] = value
    for head, values in groups.items():
        title = f"{head}: " if head else ""
        console.print(f"  {escaped(title + figures(values))}", soft_wrap=True)
    if result.untaught:
        note = untaught(result.dataset, result.untaught)
        console.print(f"[yellow]note:[/] {escaped(note)}", soft_wrap=True)
    given = _option("--from", result.ref, FinetuneConfig().start)
    following(console, f"skilldistill finetune{given}", result.workspace, result.domain)


def untaught(dataset: str, skills: Sequence[str]) -> str:
    """What a policy that learnt from a dataset cannot have learnt, and what to do."""
    return (
        f"nothing in {dataset} teaches {' and '.join(skills)}: "
        "merge the datasets of all skills, or distill with `--rounds 5`"
    )


def finetune(console: Console, result: FinetuneResult) -> None:
    """The fine-tuned policy: its figures before and after."""
    against = f", against {result.opponent}" if result.opponent else ""
    made(console, result.ref, result.path, f"from {result.start}{against}")
    before, after = result.metrics.get("before", {}), result.metrics.get("after", {})
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for task in after:
            old, new = _figure(before.get(task)), _figure(after[task])
            console.print(f"  {escaped(task)}: {old} → {new}")
    told = {name: value for name, value in result.metrics.items() if name != "unchanged"}
    console.print(f"  {escaped(figures(told))}", soft_wrap=True)
    if result.metrics.get("unchanged"):
        note = f"nothing better than {result.start} was found: the policy is still that one"
        console.print(f"[yellow]note:[/] {escaped(note)}", soft_wrap=True)
    following(
        console,
        f"skilldistill evaluate {result.start} {result.ref}",
        result.workspace,
        result.domain,
    )


def _figure(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else "–"


def evaluate(console: Console, result: EvaluateResult) -> None:
    """The table of an evaluation, and where its page lies."""
    report_table(console, result.report)
    made(console, result.ref, f"{result.path}/report.html")


def run(console: Console, result: RunResult) -> None:
    """What every step made, then the table."""
    for step in result.steps:
        time = "was there already" if step.reused else f"{step.seconds:.1f} s"
        console.print(f"[green]✓[/] {step.name:<9} {escaped(step.ref)}  [dim]{time}[/]")
    console.print()
    report_table(console, result.report)
    console.print(f"\nreport: {escaped(result.path)}/report.html", soft_wrap=True)


def ls(console: Console, result: LsResult) -> None:
    """A line per artefact."""
    if result.notice:
        console.print(f"[yellow]note:[/] {escaped(result.notice)}", soft_wrap=True)
    if not result.artefacts:
        what = "holds nothing of that kind or name" if result.total else "is empty"
        console.print(f"{escaped(result.workspace)} {what}", soft_wrap=True)
        return
    grid = table(["artefact", "made", "size", "from"], right=["size"], folds=["from"])
    for entry in result.artefacts:
        state = "" if entry.status == "complete" else f" [yellow]({entry.status})[/]"
        when = entry.created[:16].replace("T", " ")
        parents = ", ".join(entry.parent_refs)
        grid.add_row(escaped(entry.ref) + state, when, size(entry.bytes), escaped(parents))
    print_table(console, grid)


def show(console: Console, result: ShowResult) -> None:
    """Everything about one artefact."""
    entry = result.artefact
    state = "" if entry.status == "complete" else f" [yellow]({entry.status})[/]"
    console.print(f"[bold]{escaped(entry.ref)}[/]{state}")
    rows = {
        "path": result.path,
        "id": entry.id,
        "made": f"{entry.created} by {entry.command}",
        "seed": str(entry.seed),
        "size": f"{size(entry.bytes)} in {entry.files} files",
        "used by": ", ".join(result.children),
        "damage": result.damage,
        "note": result.notice,
    }
    for name, text in rows.items():
        if text:
            console.print(f"  {name:<9}{escaped(text)}", soft_wrap=True)
    settings = _as_written(result.config)
    sections = {"settings": settings, "metrics": entry.metrics, "data": result.data or {}}
    for title, values in sections.items():
        if values:
            console.print(f"  {title}")
            _tree(console, values, "    ")
    if result.lineage:
        console.print("  made from")
    for parent in result.lineage:
        again = " (see above)" if parent.repeated else ""
        name = parent.ref or f"{parent.id} (removed)"
        console.print(f"  {'  ' * parent.depth}{escaped(name)}{again}", soft_wrap=True)


def _as_written(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by the words of flags and files, which differ from a field's name now and then."""
    words = {
        setting.field: setting.key for kind in SECTIONS.values() for setting in settings_of(kind)
    }
    return {words.get(name, name): value for name, value in config.items()}


def _tree(console: Console, values: Mapping[str, Any], indent: str) -> None:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            console.print(f"{indent}{escaped(str(name))}")
            _tree(console, value, indent + "  ")
        else:
            console.print(f"{indent}{escaped(f'{name}: {_word(value)}')}", soft_wrap=True)


def _word(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_word(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "–" if value in (None, "") else str(value)


def verify(console: Console, result: VerifyResult) -> None:
    """What was read, and what differs."""
    mark = "[green]✓[/]" if result.ok else "[red]✗[/]"
    console.print(
        f"{mark} {result.artefacts:,} artefacts, {result.files:,} files, {size(result.bytes)} read"
    )
    for finding in result.findings:
        color = "red" if finding.damage else "dim"
        text = f"{finding.problem}: {finding.path} {finding.detail}"
        console.print(f"  [{color}]{escaped(text)}[/]", soft_wrap=True)


def gc(console: Console, result: GcResult) -> None:
    """What was removed, or would be."""
    for removal in result.removed:
        console.print(
            f"  {escaped(removal.path)}  {size(removal.bytes)}  {escaped(removal.reason)}",
            soft_wrap=True,
        )
    verb = "would remove" if result.dry_run else "removed"
    console.print(f"{verb} {len(result.removed)} leftovers, {size(result.bytes)}")


def rm(console: Console, result: RmResult) -> None:
    """What was removed, or would be."""
    verb = "would remove" if result.dry_run else "removed"
    for listing in result.removed:
        console.print(f"{verb} {escaped(listing.ref)}  {size(listing.bytes)}")


def export(console: Console, result: ExportResult) -> None:
    """What was copied out, or would be."""
    if result.dry_run:
        console.print(f"would write {escaped(result.artefact)}, {size(result.bytes)}:")
        for path in result.files:
            console.print(f"  {escaped(path)}", soft_wrap=True)
        return
    made(console, result.artefact, result.output, size(result.bytes))


def plan(console: Console, result: PlanResult) -> None:
    """What a command would read and write, and its settings."""
    console.print(f"[bold]{escaped(result.command)}[/] would work in {escaped(result.workspace)}")
    for title, entries in (("read", result.inputs), ("write", result.outputs)):
        for entry in entries:
            note = f"  ({entry.note})" if entry.note else ""
            console.print(f"  {title:<6}{escaped(entry.ref)}{escaped(note)}", soft_wrap=True)
    console.print("  with")
    _tree(console, _as_written(result.config), "    ")


def doctor(console: Console, result: DoctorResult) -> None:
    """A line per check."""
    marks = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "error": "[red]✗[/]"}
    for check in result.checks:
        console.print(f"{marks[check.status]} {check.name:<18}{escaped(check.detail)}")
        if check.hint:
            console.print(f"  [cyan]hint:[/]  {escaped(check.hint)}", soft_wrap=True)


def config(console: Console, result: ConfigResult) -> None:
    """The settings in force, as TOML; where they come from as comments."""
    rows = [("workspace", result.workspace)] if len(result.sections) > 1 else []
    blocks = [("", rows)] + [
        (f"[{name}]", list(values.items())) for name, values in result.sections.items()
    ]
    for title, entries in blocks:
        lines = [(f"{key} = {toml_value(shown.value)}", shown.origin) for key, shown in entries]
        if not lines:
            continue
        if title:
            console.print(f"[bold]{escaped(title)}[/]")
        width = max(len(text) for text, _ in lines)
        for text, origin in lines:
            words = escaped(f"{text:<{width}}  # {origin}" if result.origin else text)
            console.print(words, soft_wrap=True)
        console.print()


PRINTERS: Mapping[str, Printer] = {
    "init": init,
    "train": train,
    "experts_add": experts_add,
    "experts_ls": experts_ls,
    "collect": collect,
    "merge": merge,
    "distill": distill,
    "finetune": finetune,
    "evaluate": evaluate,
    "run": run,
    "ls": ls,
    "show": show,
    "verify": verify,
    "gc": gc,
    "rm": rm,
    "export": export,
    "plan": plan,
    "config": config,
    "doctor": doctor,
}
"""By the word in the result's schema."""
