"""The page about runs: read by a parser of HTML, and in headless Chromium where there is one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from command_line import call, refused
from small_runs import train_small
from told_runs import learning, told_run

from glr_dist.reporting.page import page_of
from glr_dist.reporting.story import read_stories

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
PHONE = 360  # pixels
LOOK = """<!doctype html><body style="margin:0"><iframe id=f style="width:{width}px;height:900px;border:0"></iframe><script>
f.onload = () => {{
  const page = f.contentDocument, images = [...page.images];
  Promise.all(images.map(image => image.decode())).then(() => {{
    document.title = JSON.stringify({{
      widths: [page.documentElement.scrollWidth, page.documentElement.clientWidth],
      images: images.map(image => [image.naturalWidth > 0, image.alt.length, image.getBoundingClientRect().right]),
      small: [...page.querySelectorAll("p, td, th, dd, figcaption")].map(e => parseFloat(getComputedStyle(e).fontSize)),
    }});
  }});
}};
f.src = "{page}";
</script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page about two seeds of a real run and an evaluation of them."""
    folder = tmp_path_factory.mktemp("page")
    for seed in (0, 1):
        train_small(folder / f"run-{seed}", {"seed": seed, "diagnose_every": 4, "data.name": "digits"}, data=None)
    runs = [str(folder / f"run-{seed}") for seed in (0, 1)]
    how = ["--attack", "random-signs", "--draws", "2", "--epsilon", "0.1", "--count", "20", "--workers", "0"]
    evaluated = call("evaluate", *(f"mine={run}" for run in runs), *how, "--out", str(folder / "evaluation"))
    assert evaluated.exit_code == 0, evaluated.stderr
    options = ["--evaluation", str(folder / "evaluation"), "--html", str(folder / "page.html")]
    result = call("report", *runs, *options, "--figures", str(folder / "figures"))
    assert result.exit_code == 0, result.stderr
    return folder / "page.html"


class Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_holds_all_that_it_shows(page: Path) -> None:
    seen = Seen()
    seen.feed(page.read_text())
    assert not seen.open  # every element is closed where it should be
    assert not [tag for tag, _ in seen.tags if tag == "script"]
    sources = [at[name] for _, at in seen.tags for name in ("src", "href") if name in at]
    assert sources
    assert all(str(source).startswith("data:") for source in sources)
    alts = [at.get("alt") for tag, at in seen.tags if tag == "img"]
    assert len(alts) >= 7
    assert all(alt and len(alt) > 30 for alt in alts)
    text = page.read_text()
    for wanted in ("Signal-to-noise", "Throughput", "random-signs, size 0.1", "First layer", "noise", "estimator"):
        assert wanted in text


def test_figures_are_of_a_column_s_width_and_have_text(page: Path) -> None:
    figures = page.parent / "figures"
    pdfs = sorted(figures.glob("*.pdf"))
    assert {file.with_suffix(".svg") for file in pdfs} == set(figures.glob("*.svg"))
    assert {"validation-accuracy", "loss", "signal-to-noise", "throughput", "accuracy-against-size"} <= {
        file.stem for file in pdfs
    }
    for file in pdfs:
        (box,) = re.findall(rb"/MediaBox \[ 0 0 ([0-9.]+) ", file.read_bytes())
        assert float(box) == pytest.approx(3.25 * 72)


def test_what_users_wrote_is_no_markup(tmp_path: Path) -> None:
    run = told_run(tmp_path / "<b>bold", learning(0.5), {"data.root": "</code><script>x</script>"})
    text = page_of(read_stories([run]))
    assert "<b>bold" not in text
    assert "<script" not in text
    assert "&lt;b&gt;bold" in text


def test_nothing_is_written_over(page: Path, tmp_path: Path) -> None:
    run = str(page.parent / "run-0")
    before = page.read_bytes()
    refused(call("report", run, "--html", str(page)), "--html", "exists already", "another name")
    refused(
        call("report", run, "--figures", str(page.parent / "figures")), "--figures", "exists already", "a new folder"
    )
    refused(call("report", run), "nothing to write", "--html FILE")
    refused(call("report", run, "--evaluation", run, "--html", str(tmp_path / "x")), "--evaluation", "no report.json")
    refused(call("compare", run), "is alone")
    assert page.read_bytes() == before
    assert not (tmp_path / "x").exists()


def chromium(*arguments: str) -> subprocess.CompletedProcess[str]:
    options = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        "--virtual-time-budget=20000",  # milliseconds that it lives through before it tells what it shows
    ]
    return subprocess.run([CHROMIUM, *options, *arguments], capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium: apt install chromium")
@pytest.mark.parametrize("width", [PHONE, 1200])
def test_the_page_reads_in_a_browser_of_any_width(page: Path, tmp_path: Path, width: int) -> None:
    (tmp_path / "look.html").write_text(LOOK.format(width=width, page=page.as_uri()))
    for _ in range(5):  # on a busy machine it may dump a page that has not looked yet
        done = chromium("--allow-file-access-from-files", "--dump-dom", (tmp_path / "look.html").as_uri())
        if titles := re.findall(r"<title>(.*?)</title>", done.stdout):
            break
    (title,) = titles
    found = json.loads(title)
    assert found["widths"][0] == found["widths"][1]  # nothing hangs over
    assert width - 20 <= found["widths"][1] <= width
    assert len(found["images"]) >= 7
    assert all(shown and alt and right <= width for shown, alt, right in found["images"])
    assert min(found["small"]) >= 13  # pixels
    assert "CONSOLE" not in done.stderr


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium: apt install chromium")
def test_the_page_is_quiet_and_prints(page: Path, tmp_path: Path) -> None:
    done = chromium(f"--print-to-pdf={tmp_path / 'page.pdf'}", page.as_uri())
    assert "CONSOLE" not in done.stderr
    printed = (tmp_path / "page.pdf").read_bytes()
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 20
    (tmp_path / "loud.html").write_text("<script>nobody()</script>")  # what an error would look like
    assert "CONSOLE" in chromium("--dump-dom", (tmp_path / "loud.html").as_uri()).stderr
