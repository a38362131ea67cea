"""What MkDocs does with a page before it renders it."""

from __future__ import annotations

import re
from typing import Any


def on_page_markdown(markdown: str, **_: Any) -> str:
    """`markdown` with links to reports going to the page for browsers, beside which report.md is for code hosts."""
    return re.sub(r"\]\(((?:\S*/)?)report\.md\)", r"](\1report.html)", markdown)
