"""The site builds without a warning, needs no network, and what code makes of it is up to date."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gluon_rnn.config.run import RunConfig

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def make_pages() -> dict[str, object]:
    return runpy.run_path(str(CHECKOUT / "docs" / "make_pages.py"))


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    """What `make docs` runs, of the checkout in `folder`."""
    shutil.copy(CHECKOUT / "mkdocs.yml", folder)
    pages = folder / ".venv" / "pages"
    pages.mkdir(parents=True)
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "docs", "results", "examples"):
        (pages / name).symlink_to(CHECKOUT / name)
    (folder / "docs").symlink_to(CHECKOUT / "docs")
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build"],
        cwd=folder,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The site, and what MkDocs said."""
    folder = tmp_path_factory.mktemp("checkout")
    done = build(folder)
    assert done.returncode == 0, done.stderr
    return folder / "site", done.stderr


@pytest.fixture(scope="module")
def site(built: tuple[Path, str]) -> Path:
    return built[0]


@pytest.mark.slow
def test_no_link_leads_to_a_page_that_is_left_out(built: tuple[Path, str]) -> None:
    _, said = built
    # To MkDocs that is worth no warning.
    assert [line for line in said.splitlines() if "excluded from the built site" in line] == []


@pytest.mark.slow
def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    script = r"<(?:script|img|iframe|source)[^>]* src=[\"']?https?:"
    sheet = r"<link[^>]* rel=[\"']?(?:stylesheet|preconnect|icon)[^>]*https?:"
    loaded = f"{script}|{sheet}"
    assert [page.name for page in pages if re.search(loaded, page.read_text(encoding="utf-8"))] == []
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not re.search(r"url\([\"']?https?:|@import", styles)


@pytest.mark.slow
def test_search_knows_every_setting(site: Path) -> None:
    index = (site / "search" / "search_index.js").read_text(encoding="utf-8")
    for name in RunConfig.model_fields:
        assert f'"docs/settings.html#{name}"' in index


@pytest.mark.slow
def test_a_report_of_results_is_the_page_for_browsers(site: Path) -> None:
    assert 'href="report.html"' in (site / "results" / "seeds-cpu" / "index.html").read_text(encoding="utf-8")
    assert (site / "results" / "seeds-cpu" / "report.html").is_file()


def test_what_code_makes_of_the_pages_is_up_to_date(make_pages) -> None:
    for path, text in make_pages["pages"]().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is out of date; run: make pages"


def test_the_readme_is_one_page() -> None:
    assert len((CHECKOUT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
