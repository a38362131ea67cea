"""The page in a browser: nothing is asked for, nothing of the rows runs, and it can be read anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gluon_rnn import write_report
from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.runs.progress import Prediction
from tests.conftest import CHROMIUM, NO_CHROMIUM
from tests.reporting.report.test_report import PAYLOADS, good, hostile, hostile_answers, hostile_everywhere, make
from tests.runs.test_records import epoch, keep

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
ARGUMENTS += ["--disable-sync", "--no-first-run"]

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, headless=True, args=ARGUMENTS)
        yield found
        found.close()


class Visit:
    """A page that was opened, and whatever happened to it that should not."""

    def __init__(self, browser: Browser, path: Path, **options: Any) -> None:
        self.page: Page = browser.new_page(**options)
        self.troubles: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.troubles.append(message.text))
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("dialog", lambda dialog: self.troubles.append(dialog.message))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri(), wait_until="load")

    def column(self, heading: str, number: int) -> list[str]:
        rows = self.page.locator(f"section:has(h3:text-is('{heading}')) tbody tr")
        return [row.locator("td").nth(number).inner_text() for row in rows.all()]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, small_corpus: CorpusFiles) -> Path:
    """Of two axes, three seeds, a divergence and a failure, with long names."""
    sweep = tmp_path_factory.mktemp("page") / "grid"
    for cell, factor in (("lstm", 1.0), ("gru", 1.2), ("package.module:AnOwnCellWithALongName", 1.5)):
        for bptt in (5, 10, 35):
            for seed in (0, 1, 2):
                name = f"{cell[:4]}{bptt}{seed}"
                record = good(
                    small_corpus, name, factor * (900 + bptt + seed), 100.0 * bptt, cell=cell, bptt=bptt, seed=seed
                )
                keep(sweep, record, [epoch(n, 6 + factor / n) for n in (1, 2, 3)])
    keep(sweep, make(small_corpus, "div", cell="rnn_relu", status="diverged", reason="the loss was nan at step 3"))
    return write_report(sweep)


def test_the_page_opens_and_asks_for_nothing(browser: Browser, report: Path) -> None:
    visit = Visit(browser, report)
    assert visit.requests == [report.as_uri()]
    assert visit.troubles == []
    assert visit.page.title() == "grid: 4 cells on small"
    # The policy holds: what is tried later is refused, too.
    visit.page.evaluate("new Image().src = 'http://127.0.0.1:9/x.png'")
    visit.page.evaluate("fetch('http://127.0.0.1:9/x').catch(() => {})")
    assert any("Content Security Policy" in text for text in visit.troubles)


def test_tables_sort_by_click_and_by_key(browser: Browser, report: Path) -> None:
    visit = Visit(browser, report)
    heading = visit.page.locator("section:has(h3:text-is('Ranking')) th", has_text="valid ppl").first
    number = heading.evaluate("heading => heading.cellIndex")
    button = heading.locator("button")
    given = visit.column("Ranking", number)
    assert given[-1] == "-"
    # The one without a perplexity first, which it must not stay.
    visit.page.locator("section:has(h3:text-is('Ranking')) th button").first.dblclick()
    assert visit.column("Ranking", number) == given[::-1]
    button.click()
    assert heading.get_attribute("aria-sort") == "ascending"
    rising = [float(text.replace(",", "")) for text in visit.column("Ranking", number)[:-1]]
    # As words, "1,000" would come before "900".
    assert rising == sorted(rising)
    assert rising[0] < 1000 < rising[-1]
    button.focus()
    visit.page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    falling = visit.column("Ranking", number)
    assert [float(text.replace(",", "")) for text in falling[:-1]] == rising[::-1]
    assert falling[-1] == "-"
    words = visit.page.locator("section:has(h3:text-is('Ranking')) th", has_text="cell")
    words.locator("button").click()
    assert words.get_attribute("aria-sort") == "ascending"
    assert heading.get_attribute("aria-sort") is None
    names = visit.column("Ranking", words.evaluate("heading => heading.cellIndex"))
    assert names == sorted(names)
    assert visit.troubles == []


def test_plots_are_there_with_text_and_a_size(browser: Browser, report: Path) -> None:
    visit = Visit(browser, report)
    plots = visit.page.locator("svg")
    # Perplexity and speed by bptt, one against the other, curves, seconds.
    assert plots.count() == 5
    for plot in plots.all():
        box = plot.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) > 100
        assert plot.locator("text").count() > 3
    trade = visit.page.get_by_role("img", name="Perplexity against throughput")
    assert "Pareto-optimal" in (trade.text_content() or "")
    lines = visit.page.get_by_role("img", name="Validation perplexity by bptt").text_content() or ""
    assert "906.0" in lines  # the best of the LSTM


def test_the_contents_lead_to_each_section(browser: Browser, report: Path) -> None:
    page = Visit(browser, report).page
    links = page.locator("nav a")
    addresses = [link.get_attribute("href") or "" for link in links.all()]
    assert links.all_inner_texts() == page.locator("section > h2, section > h3").all_inner_texts()
    assert len(set(addresses)) == len(addresses) > 5
    assert all(page.locator(address).count() == 1 for address in addresses)


def test_a_phone_shows_the_result_of_each_point(browser: Browser, report: Path) -> None:
    page = Visit(browser, report, viewport={"width": 390, "height": 800}).page
    heading = page.locator("section:has(h3:text-is('Ranking')) th", has_text="valid ppl").first
    box = heading.bounding_box()
    assert box is not None
    assert box["x"] + box["width"] < 390


def test_a_phone_needs_no_scrolling_sideways(browser: Browser, report: Path) -> None:
    page = Visit(browser, report, viewport={"width": 375, "height": 700}).page
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    widest = page.evaluate("Math.max(...[...document.querySelectorAll('table')].map(table => table.offsetWidth))")
    # So there is something that scrolls in its own box.
    assert widest > 375
    boxes = page.locator("svg").all()
    assert all((plot.bounding_box() or {"width": 999})["width"] <= 356 for plot in boxes)


def test_the_dark_has_other_colours(browser: Browser, report: Path) -> None:
    def colours(scheme: str) -> list[str]:
        page = Visit(browser, report, color_scheme=scheme).page
        return page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,"
            " getComputedStyle([...document.querySelectorAll('svg text')]"
            ".find(text => text.textContent == 'epoch')).fill]"
        )

    light, dark = colours("light"), colours("dark")
    assert light[0] == "rgb(255, 255, 255)"
    assert dark[0] == "rgb(20, 23, 27)"
    assert light[1] == light[2] != dark[1] == dark[2]


def test_nothing_of_the_rows_runs(browser: Browser, tmp_path: Path, small_corpus: CorpusFiles) -> None:
    path = write_report(hostile(tmp_path, small_corpus))
    visit = Visit(browser, path)
    for button in visit.page.locator("th button").all()[:12]:
        button.click()
    for summary in visit.page.locator("summary").all():
        summary.click()
    assert visit.page.evaluate("window.ran") is None
    assert visit.requests == [path.as_uri()]
    assert visit.troubles == []
    assert visit.page.locator("img, script").count() == 1
    assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_nothing_runs_wherever_it_stands(browser: Browser, tmp_path: Path, small_corpus: CorpusFiles) -> None:
    path = write_report(hostile_everywhere(tmp_path, small_corpus))
    visit = Visit(browser, path)
    for summary in visit.page.locator("summary").all():
        summary.click()
    for place in visit.page.locator("th button, td, svg, h1, h2").all()[:40]:
        place.hover()
    assert visit.page.evaluate("window.ran") is None
    assert visit.requests == [path.as_uri()]
    assert visit.troubles == []
    # The page's own, and nothing else that could ask for something or run.
    assert visit.page.locator("script").count() == 1
    assert (
        visit.page.locator(
            "img, iframe, object, embed, a:not([href^='#s-']), base, form, input, audio, video, foreignObject"
        ).count()
        == 0
    )
    attributes = visit.page.evaluate(
        "[...document.querySelectorAll('*')].flatMap(element => [...element.attributes].map(found => found.name))"
    )
    assert not [name for name in attributes if name.startswith("on")]
    assert {"autofocus", "srcdoc"}.isdisjoint(attributes)
    # What was written is what is read, as a person reads it.
    said = " ".join((visit.page.locator("body").text_content() or "").split())
    for payload in PAYLOADS:
        assert said.count(" ".join(payload.split())) > 3, payload
    assert visit.page.title().startswith("<img src=x onerror=window.ran=1>: ")
    labels = visit.page.locator("svg").evaluate_all("plots => plots.map(plot => plot.getAttribute('aria-label'))")
    assert len(labels) > 3
    drawn = "".join(visit.page.locator("svg").all_text_contents())
    # Of the best-ranked points, whose names are in the plots.
    assert sum(payload[:12] in drawn for payload in PAYLOADS) >= 8
    assert "no learning curves of runs/r0/epochs.csv" in said


def test_nothing_that_was_answered_runs_and_a_phone_shows_it(
    browser: Browser, tmp_path: Path, small_corpus: CorpusFiles
) -> None:
    path = write_report(hostile_answers(tmp_path, small_corpus))
    visit = Visit(browser, path, viewport={"width": 375, "height": 700})
    assert visit.page.evaluate("document.documentElement.scrollWidth") == 375
    for place in visit.page.locator("section:has(td.wide) th button").all()[:3]:
        place.click()
    assert visit.page.evaluate("window.ran") is None
    assert visit.requests == [path.as_uri()]
    assert visit.troubles == []
    assert visit.page.locator("img, iframe, a:not([href^='#s-']), script").count() == 1


def test_sentences_are_not_squeezed_on_a_phone(browser: Browser, tmp_path: Path, small_corpus: CorpusFiles) -> None:
    """Their table scrolls instead."""
    said = Prediction(*("a word or two " * 9, "DT NN CC CD " * 9, "DT NN CC NN " * 9))
    keep(tmp_path, good(small_corpus, "a", 100.0, 10.0, predictions=(said,)))
    page = Visit(browser, write_report(tmp_path), viewport={"width": 375, "height": 700}).page
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    texts = page.locator("section:has(h3:text-is('Predictions and truth')) td").all()
    assert len(texts) == 3
    assert min((text.bounding_box() or {"width": 0})["width"] for text in texts) >= 176


@pytest.mark.parametrize(
    "attempt",
    [
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))",
        "document.body.insertAdjacentHTML('beforeend', '<img src=data:, onerror=window.ran=1>')",
        "document.body.append(Object.assign(document.createElement('script'), {src: 'data:text/javascript,ran=1'}))",
        "Object.assign(document.createElement('a'), {href: 'javascript:window.ran=1'}).click()",
        "document.body.insertAdjacentHTML('beforeend', '<iframe src=\"javascript:parent.ran=1\"></iframe>')",
        "document.body.insertAdjacentHTML('beforeend', '<form action=http://127.0.0.1:9/><button>')"
        " || document.forms[0].submit()",
    ],
)
def test_the_second_wall_holds_where_the_first_would_not(browser: Browser, report: Path, attempt: str) -> None:
    """Were something not escaped, the page's policy would still not let it run or be sent."""
    visit = Visit(browser, report)
    visit.page.evaluate(f"() => {{ {attempt}; }}")
    visit.page.wait_for_function("() => new Promise(done => setTimeout(() => done(true)))")
    assert visit.page.evaluate("window.ran") is None
    assert visit.page.url == report.as_uri()
    assert any("Content Security Policy" in text for text in visit.troubles)
    assert not [url for url in visit.requests if url.startswith("http")]
