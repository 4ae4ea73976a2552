"""The documentation names what exists: commands, flags, files, settings, variables."""

import re
import shlex
from pathlib import Path

import click
import pytest

from clockwork.cli.main import clockwork
from clockwork.live.options import CONFIG_FILE_ENV, CONTROLLER, WORKER

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]*)(#[^)\s]*)?\)")
# Its workloads make their own commands from what is typed.
FREE_FORM = {"client"}


def commands() -> list[tuple[str, list[str]]]:
    """Return page and words of every `clockwork` line in a block of shell commands."""
    found = []
    for page in PAGES:
        for language, text in FENCE.findall(page.read_text()):
            for line in text.splitlines() if language == "sh" else ():
                words = shlex.split(line, comments=True)
                while words and "=" in words[0]:
                    words.pop(0)  # an environment variable before the command
                if words and words[0] == "clockwork":
                    found.append((page.name, words[1:]))
    return found


def test_there_are_commands_to_check():
    """The documentation shows most commands at work."""
    assert len({words[0] for _, words in commands()}) >= 12


@pytest.mark.parametrize(("page", "words"), commands(), ids=lambda value: str(value))
def test_a_documented_command_can_be_parsed(page, words):
    """Name, sub-command, arguments and flags exist."""
    context = click.Context(clockwork, **clockwork.context_settings)
    command = clockwork.get_command(context, words[0])
    assert command is not None, f"{page}: no command {words[0]}"
    rest = words[1:]
    if words[0] in FREE_FORM or rest == ["-h"]:
        return
    if isinstance(command, click.Group):
        command = command.get_command(context, rest[0])
        assert command is not None, f"{page}: no command {words}"
        rest = rest[1:]
    command.make_context(words[0], rest, parent=context)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_leads_somewhere(page):
    """Links to files of the project are right, and so are those to headings."""
    for target, anchor in LINK.findall(page.read_text()):
        if "://" in target:
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{page.name}: {target} does not exist"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", each).lower().replace(" ", "-") for each in headings}
            assert anchor[1:] in slugs, f"{page.name}: {target}{anchor} does not exist"


@pytest.mark.parametrize("setting", [*WORKER, *CONTROLLER], ids=lambda setting: setting.key)
def test_a_setting_is_documented_with_its_default(setting):
    """A row per setting; a new one without a row fails here, and this is the row."""
    lines = (ROOT / "docs" / "configuration.md").read_text().splitlines()
    default = f"`{setting.default}`" if setting.default else ""
    row = f"| `{setting.key}` | `{setting.flag}` | {default} | {setting.help} |"
    if setting.env is not None:
        # Its default depends on the machine.
        row = next(line for line in lines if line.startswith(f"| `{setting.key}` |"))
        assert row.endswith(f"| {setting.help} |")
    assert row in lines


def test_every_variable_is_documented():
    """All environment variables are on one page."""
    text = (ROOT / "docs" / "environment.md").read_text()
    names = [setting.env for setting in (*WORKER, *CONTROLLER) if setting.env]
    names += [CONFIG_FILE_ENV, "CLOCKWORK_MODEL_DIR", "CLOCKWORK_DISABLE_INPUTS", "AZURE_TRACE_DIR"]
    for name in names:
        assert f"`{name}`" in text


def test_every_package_is_in_the_architecture():
    """The table of layers is complete."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    packages = [path.parent.name for path in (ROOT / "src" / "clockwork").glob("*/__init__.py")]
    assert len(packages) >= 10
    for name in packages:
        assert f"`{name}`" in text


def test_python_examples_are_python():
    """Blocks of Python compile."""
    for page in PAGES:
        for language, text in FENCE.findall(page.read_text()):
            if language == "python":
                compile(text, str(page), "exec")


def test_every_page_is_in_the_index():
    """A page that nobody finds was written in vain."""
    text = (ROOT / "docs" / "index.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in text, (
            f"{page.name} is not in index.md"
        )
