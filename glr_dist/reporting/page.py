"""One page that opens without a network: figures are in it, so is its style; no script.

It reads on a phone and prints; every picture has its content in words.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

from glr_dist import __version__
from glr_dist.config import config_toml
from glr_dist.errors import printable
from glr_dist.reporting.comparison import Table, compare
from glr_dist.reporting.figures import Picture, run_pictures
from glr_dist.reporting.filters import filters_picture
from glr_dist.reporting.robustness import Evaluation, epsilon_picture, share_words
from glr_dist.reporting.story import Story, grouped
from glr_dist.reporting.style import rendered

_MOST_FILTERS = 4  # groups whose first layers are shown
_LEGEND = "<p>Lines: means over the seeds. Bands: their 95% intervals.</p>"


def pictures_of(stories: Sequence[Story], evaluations: Sequence[Evaluation] = ()) -> list[Picture]:
    """All figures of some runs and of their evaluations."""
    groups = grouped(stories)
    found, sizes, shown = run_pictures(groups), epsilon_picture(evaluations), groups[:_MOST_FILTERS]
    filters = [picture for group in shown if (picture := filters_picture(group.stories[0])) is not None]
    return [*found, *([sizes] if sizes is not None else []), *filters]


def page_of(stories: Sequence[Story], evaluations: Sequence[Evaluation] = ()) -> str:
    """The page about some runs, as HTML."""
    title = stories[0].name if len(stories) == 1 else f"{len(stories)} runs"
    style = (resources.files("glr_dist") / "reporting" / "page.css").read_text(encoding="utf-8")
    figures = "".join(_figure(picture) for picture in pictures_of(stories, evaluations))
    parts = [
        f"<h1>{_text(title)}</h1>",
        *(_table(table) for table in compare(stories, evaluations)),
        f'<section aria-label="Figures"><h2>Figures</h2>{_LEGEND}<div class="figures">{figures}</div></section>',
        *(_samples(evaluation) for evaluation in evaluations),
        *(_run(story) for story in stories),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{_text(title)} - glr_dist</title><style>{style}</style></head><body><main>'
        + "\n".join(parts)
        + f"</main><footer>glr_dist {_text(__version__)}</footer></body></html>\n"
    )


def _text(value: Any) -> str:
    return html.escape(printable(str(value)))


def _image(data: bytes, kind: str, alt: str) -> str:
    return f'<img src="data:image/{kind};base64,{base64.b64encode(data).decode()}" alt="{_text(alt)}">'


def _figure(picture: Picture) -> str:
    image = _image(rendered(picture.figure, "svg"), "svg+xml", picture.alt)
    return f"<figure>{image}<figcaption>{_text(picture.title)}</figcaption></figure>"


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name in table.header)
    rows = "".join(
        f'<tr><th scope="row">{_text(first)}</th>{"".join(f"<td>{_text(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in table.rows
    )
    grid = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return (
        f'<section aria-label="{_text(table.title)}"><h2>{_text(table.title)}</h2>'
        f'<div class="wide" tabindex="0" role="region" aria-label="{_text(table.title)}">{grid}</div></section>'
    )


def _samples(evaluation: Evaluation) -> str:
    """The grids of adversarial samples that an evaluation drew."""
    figures = []
    for name, png in evaluation.samples.items():
        words = name.removesuffix(".png").partition("-")[2].partition("-")[2].replace("-", " ")
        alt = f"Rows of a clean image, its adversarial twin and their difference: {words}"
        figures.append(f"<figure>{_image(png, 'png', alt)}<figcaption>{_text(words)}</figcaption></figure>")
    if not figures:
        return ""
    return f'<section><h2>Adversarial samples</h2><div class="figures">{"".join(figures)}</div></section>'


def _run(story: Story) -> str:
    """A run's own section: its command, what it came to for each class, machine, settings."""
    result = story.result or {}
    facts = {
        "folder": story.run,
        "state": f"{story.state}, step {story.steps:,} of {story.config.steps:,}",
        "best by validation": _best(story),
        "written": result.get("written", "-"),
        "machine": _machine(result.get("machine") or {}),
        "versions": ", ".join(f"{name} {version}" for name, version in (result.get("versions") or {}).items()) or "-",
        "parameters, SHA-256": result.get("params_sha256", "-"),
    }
    command = result.get("command", f"glr-dist train {story.name}/config.toml")
    return (
        f"<section><h2>{_text(story.name)}</h2><p>The command:</p><pre><code>{_text(command)}</code></pre>"
        f"<dl>{''.join(f'<dt>{_text(key)}</dt><dd>{_text(value)}</dd>' for key, value in facts.items())}</dl>"
        f"{_classes(story)}<details><summary>All settings</summary><pre><code>{_text_lines(config_toml(story.config))}"
        "</code></pre></details></section>"
    )


def _text_lines(text: str) -> str:
    return "\n".join(_text(line) for line in text.splitlines())


def _best(story: Story) -> str:
    best = (story.result or {}).get("best")
    if not best:
        return "-"
    return (
        f"step {best['step']:,}: {share_words(best['validation'])} validation, {share_words(best['test'] or {})} test"
    )


def _machine(machine: dict[str, Any]) -> str:
    parts: Iterable[Any] = (
        machine.get("host"),
        machine.get("cpu"),
        machine.get("cores") and f"{machine['cores']} cores",
    )
    return ", ".join([*(str(part) for part in parts if part), *machine.get("gpus", [])]) or "-"


def _classes(story: Story) -> str:
    """Accuracy on the test split for each class."""
    classes = ((story.result or {}).get("test") or {}).get("classes")
    if not classes:
        return ""
    rows = [[name, share_words(found), f"{found['n']:,}"] for name, found in classes.items()]
    header = ["class", "accuracy (95%)", "examples"]
    return _table(Table(title=f"Test accuracy by class, {story.name}", header=header, rows=rows))
