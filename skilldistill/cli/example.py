"""The text of ``.skilldistill.toml.example``, made from the dataclasses it documents.

``python -m skilldistill.cli.example`` writes the file into the current directory.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

from skilldistill.settings import COMMON, SECTIONS, Setting, settings_of, toml_value


def example() -> str:
    """The text of ``.skilldistill.toml.example``: every setting, its default, and a comment."""
    lines = [
        "# Settings of skilldistill. Copy this file to .skilldistill.toml, here or in a directory",
        "# above the one you work in, and uncomment what you change. A flag wins over the",
        "# environment (SKILLDISTILL_SEED, SKILLDISTILL_DISTILL_EPOCHS), that over the",
        "# nearest .skilldistill.toml, that over the user's own file, that over the default.",
        "# `skilldistill config show --origin` says where each value comes from.",
        "# Written by `python -m skilldistill.cli.example`; a test holds it true.",
        "",
        "# directory of the workspace; relative to this file",
        '# workspace = "workspace"',
    ]
    for setting in COMMON:
        lines += ["", *_comment(setting), f"# {setting.key} = {toml_value(setting.default)}"]
    common = {setting.key for setting in COMMON}
    for section, config in SECTIONS.items():
        first = (config.__doc__ or "").split("\n")[0].replace("``", "`")
        lines += ["", "", f"# {first}", f"[{section}]"]
        for setting in settings_of(config):
            if setting.key not in common:
                lines += [
                    "",
                    *_comment(setting),
                    f"# {setting.key} = {toml_value(setting.default)}",
                ]
    return "\n".join(lines) + "\n"


def _comment(setting: Setting) -> list[str]:
    text = setting.help + (f" ({setting.allowed})" if setting.allowed else "")
    return [f"# {line}" for line in textwrap.wrap(text, 96)]


if __name__ == "__main__":
    Path(".skilldistill.toml.example").write_text(example(), encoding="utf-8")
