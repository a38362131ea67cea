"""Tables for notebooks: whatever a cell says is text."""

from __future__ import annotations

from gluon_rnn.common.markup import html_table


def test_cells_are_text() -> None:
    table = html_table([("<b>", 1), ("&", None)], head=("a<", "b"), caption="x > y")
    assert table == (
        '<table><caption style="white-space: nowrap; text-align: left">x &gt; y</caption>'
        "<thead><tr><th>a&lt;</th><th>b</th></tr></thead>"
        "<tbody><tr><td>&lt;b&gt;</td><td>1</td></tr><tr><td>&amp;</td><td>None</td></tr></tbody></table>"
    )
    assert html_table([]) == "<table><tbody></tbody></table>"
