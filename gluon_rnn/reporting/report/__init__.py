"""Reports of sweeps, ``report.html`` and ``report.md``, made from folders of results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gluon_rnn.common.errors import UserError


def write_report(
    directories: Path | str | Sequence[Path | str],
    output: Path | str | None = None,
    *,
    plots: bool = False,
    speeds: Path | str | Sequence[Path | str] = (),
    epochs: int | None = None,
    targets: Sequence[float] = (),
) -> Path:
    """Write ``report.md`` and ``report.html`` of one or several folders of results.

    Equal rows give equal bytes, on any machine and at any time. The page is one file and asks no network for anything.

    Args:
        directories: a sweep's folder, or several; each holds ``runs/`` with records, or at least ``runs.csv``.
        output: the folder to write to, made if need be; None: the first of `directories`.
        speeds: folders of throughput runs. Their speeds and memory stand for those of the runs of the same network,
            which do not count then.
        epochs: shows longer runs as they were after so many epochs; None: each at its end.
        targets: perplexities to which the report shows epochs, tokens and seconds; empty: some that tell points apart.
        plots: whether each plot becomes a file of its own, too, ``plots/*.svg``, which ``report.md`` then shows.

    Returns:
        The path of ``report.html``.

    Raises:
        UserError: a folder holds no runs, its ``notes.yaml`` is wrong, a run cannot be shown after so many `epochs`, or
            the report cannot be written.
    """
    # Pandas, matplotlib and Jinja take longer to import than a sweep to plan.
    from gluon_rnn.common.files import expand, write_atomically
    from gluon_rnn.reporting.report.document import compose
    from gluon_rnn.reporting.report.reading import read_folders
    from gluon_rnn.reporting.report.rendering import to_html, to_markdown, to_pictures

    folders, timed = ([expand(item) for item in _listed(given)] for given in (directories, speeds))
    if not folders:
        raise UserError("no folder of results is given; name one such as results/quick")
    document = compose(read_folders(folders, speeds=timed, epochs=epochs), targets)
    pictures = {f"plots/{name}": svg for name, svg in to_pictures(document).items()} if plots else {}
    page, text = to_html(document), to_markdown(document, tuple(pictures))
    target = folders[0] if output is None else expand(output)
    try:
        (target / "plots" if pictures else target).mkdir(parents=True, exist_ok=True)
        for address, svg in pictures.items():
            write_atomically(target / address, svg)
        write_atomically(target / "report.md", text)
        write_atomically(target / "report.html", page)
    except OSError as error:
        raise UserError(
            f"cannot write the report to {target}: {error.strerror or error}; give --output another folder"
        ) from None
    return target / "report.html"


def _listed(folders: Path | str | Sequence[Path | str]) -> Sequence[Path | str]:
    return [folders] if isinstance(folders, Path | str) else folders
