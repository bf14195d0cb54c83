"""Reads the recipes: their YAML, the shell in scripts, YAML and READMEs, and the calls of glr_dist and Ray in that shell."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"
PAGES = ROOT / "scripts" / "docs_pages"
LAUNCHERS = sorted((CLUSTER / "launcher").glob("*.yaml"))
KUBERAY = sorted((CLUSTER / "kuberay").glob("*.yaml"))
PROGRAMS = ("ray", "glr-dist", "train-or-resume")
LAUNCHER_COMMANDS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)


def load(path: Path) -> Any:
    """A YAML file of one document."""
    return yaml.safe_load(path.read_text())


def shell_scripts() -> list[Path]:
    """Every file of the project's own script folders that a shell runs."""
    files = [path for folder in ("scripts", "cluster", ".ci") for path in (ROOT / folder).rglob("*")]
    return sorted(path for path in files if path.is_file() and re.match(rb"#!.*\b(ba|da)?sh\b", path.read_bytes()))


def snippets() -> dict[str, str]:
    """The shell inside YAML files, the project's README and pages, and that of the recipes: where it stands -> text."""
    found = {}
    for path in LAUNCHERS:
        for key in LAUNCHER_COMMANDS:
            for i, command in enumerate(load(path).get(key, [])):
                found[f"{path.name}:{key}[{i}]"] = command
    found["rayjob.yaml:entrypoint"] = load(CLUSTER / "kuberay" / "rayjob.yaml")["spec"]["entrypoint"]
    for page in (ROOT / "README.md", CLUSTER / "README.md", *sorted(PAGES.glob("*.md"))):
        text, name = page.read_text(), str(page.relative_to(ROOT))
        blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        found |= {f"{name}:block {i}": block for i, block in enumerate(blocks)}
        inline = re.findall(r"`(glr-dist [^`]+)`", text)
        found |= {f"{name}:{line}": re.sub(r"\b[A-Z]\b", "1", line) for line in inline}  # --seed S: any number
    return found


def commands(text: str) -> Iterator[list[str]]:
    """Every call of one of PROGRAMS in some shell, as words; variables become 1, and `"$@"` nothing.

    What runs inside another command is left inside: `ray exec FILE 'train-or-resume ...'` is one command.
    """
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if not any(program in line for program in PROGRAMS) or line.lstrip().startswith("#"):
            continue
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|()<>")
        lexer.whitespace_split = True
        simple: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set(";&|()"):
                yield from in_words(simple)
                simple = []
            elif word != "$@":
                simple.append(re.sub(r"\$\w+", "1", word))


def in_words(words: list[str]) -> Iterator[list[str]]:
    """The call of one of PROGRAMS in a command's words, with its redirections left out; none, or one."""
    if words[:1] in (["kubectl"], ["docker"]):  # there, glr-dist is the name of a thing
        return
    for i, word in enumerate(words):
        if word.rpartition("/")[2] in PROGRAMS:
            rest = words[i + 1 :]
            end = next((j for j, other in enumerate(rest) if set(other) <= set("<>")), len(rest))
            yield [word.rpartition("/")[2], *rest[:end]]
            return


def all_commands() -> list[tuple[str, list[str]]]:
    """(Where it stands, words) of every call in scripts, YAML and README."""
    scripts = {path.name: path.read_text() for path in shell_scripts() if path.is_relative_to(CLUSTER)}
    return [(place, words) for place, text in (scripts | snippets()).items() for words in commands(text)]
