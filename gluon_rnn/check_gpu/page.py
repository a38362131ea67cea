"""``check_gpu.md``: the verdict, then a table of each part, then what was left out and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gluon_rnn.check_gpu.parts import PARTS, SIZES

if TYPE_CHECKING:
    from gluon_rnn.check_gpu.running import Result

#: Digits of a value that are worth showing, if more than four.
_DIGITS = {"loss": 8, "reference_loss": 8}
#: Operators that the page lists of each model; the JSON file has more.
_OPERATORS_SHOWN = 12
#: What the comparison of steps shows, in the order of its columns: the part, and which of its items.
_CONTENDERS: dict[str, tuple[str, dict[str, Any]]] = {
    "this suite": ("steps", {"cell": "lstm"}),
    "from scratch": ("steps", {"cell": "custom_lstm"}),
    "notebook's loop": ("notebook", {}),
    "PyTorch as shipped": ("pytorch", {"fused": False, "tf32": False}),
    "PyTorch fused": ("pytorch", {"fused": True, "tf32": False}),
    "this suite, TF32": ("steps-tf32", {"cell": "lstm", "own": True}),
    "PyTorch fused, TF32": ("pytorch", {"fused": True, "tf32": True}),
    "this suite, float16": ("steps-float16", {"cell": "lstm", "own": True}),
}


def verdict(results: Mapping[str, Result]) -> dict[str, Any]:
    """What the parts come to: ``ok``, whether all that was checked holds; ``text``, in a line; and what is missing."""
    judged = {name: result for name, result in results.items() if PARTS[name].judged}
    failed = {name: result.failed for name, result in judged.items() if result.failed}
    crashed = [name for name, result in judged.items() if result.state == "crashed"]
    incomplete = [name for name, result in results.items() if result.state in ("out of time", "not begun")]
    skipped = [name for name, result in results.items() if result.state == "skipped"]
    if failed or crashed:
        text = f"Problems in {', '.join(dict.fromkeys([*failed, *crashed]))}."
    elif not any(result.items for result in results.values()):
        text = "Nothing was checked."
    else:
        text = "Everything that was checked holds."
    if incomplete:
        text += f" Not complete: {', '.join(incomplete)}."
    return {
        "ok": not failed and not crashed and any(result.items for result in results.values()),
        "text": text,
        "failed": failed,
        "crashed": crashed,
        "incomplete": incomplete,
        "skipped": skipped,
    }


def line(name: str, result: Result) -> str:
    """The result of a part, for a terminal."""
    checked = [each for each in result.items if each.get("ok") is not None]
    text = f"{name:<14} {result.state:<11} {result.seconds:4.0f} s  {len(result.items)} of {len(result.planned)} items"
    if checked:
        text += f", {sum(bool(each['ok']) for each in checked)} of {len(checked)} checks hold"
    if result.failed:
        text += f"; failed: {', '.join(result.failed[:3])}{' ...' if len(result.failed) > 3 else ''}"
    return f"{text}; {result.why}" if result.why else text


def write(about: Mapping[str, Any], said: Mapping[str, Any], results: Mapping[str, Result]) -> str:
    """The page."""
    machine = about["machine"]
    gpus = ", ".join(f"{gpu['name']} ({gpu['memory_mb']} MiB)" for gpu in machine["gpus"]) or "no GPU"
    lines = [
        "# GPU check",
        "",
        f"**{said['text']}**",
        "",
        f"Device {about['device']} of {machine['cpu_name']}, {machine['cores']} cores, {gpus}; MXNet "
        f"{about['versions'].get('mxnet', 'unknown')} with code for {about['library'] or 'no GPU'}; "
        f"{about['began']}, {about['minutes']:g} minutes.",
        "",
        *_table(["part", "state", "s", "items", "checks that hold", "remarks"], map(_summary, results.items()), left=2),
        "",
        *_problems(results),
        *_comparison(results),
    ]
    for name, result in results.items():
        if result.items and name != "tests":
            lines += _section(name, result)
        elif result.items:
            lines += _outcomes(result)
    lines += _left_out(results)
    return "\n".join(lines).rstrip() + "\n"


def _summary(item: tuple[str, Result]) -> list[str]:
    name, result = item
    checked = [each["ok"] for each in result.items if each.get("ok") is not None]
    held = f"{sum(map(bool, checked))} of {len(checked)}" if checked else ""
    return [
        name,
        result.state,
        f"{result.seconds:.0f}",
        f"{len(result.items)} of {len(result.planned)}",
        held,
        result.why,
    ]


def _problems(results: Mapping[str, Result]) -> list[str]:
    """What does not hold, with all that is known of it."""
    lines = []
    for name, result in results.items():
        for each in result.items:
            if each.get("ok") is False:
                lines.append(f"- {name}, {each['item']}: {each.get('error') or _details(each)}")
        lines += [f"- {name}, {item}: the process died: {how}" for item, how in result.crashes.items()]
        if result.state == "crashed":
            lines.append(f"- {name}: the process died: {result.why}")
    return ["## Problems", "", *lines, ""] if lines else []


def _details(item: Mapping[str, Any]) -> str:
    left_out = ("item", "ok", "seconds", "operators")
    return ", ".join(f"{key} {_text(value)}" for key, value in item.items() if key not in left_out)


def _comparison(results: Mapping[str, Result]) -> list[str]:
    """A step of everyone beside each other, and how this suite compares."""
    columns = {title: _times(results, part, wanted) for title, (part, wanted) in _CONTENDERS.items()}
    columns = {title: times for title, times in columns.items() if times}
    if not columns:
        return []
    rows = [
        [str(size), *(f"{times[size]:.2f}" if size in times else "" for times in columns.values())]
        for size in SIZES
        if any(size in times for times in columns.values())
    ]
    lines = [
        "## A step beside others",
        "",
        "ms a step: two layers of LSTM, tied, vocabulary 33,278, batch 20, bptt 35.",
        "",
    ]
    lines += [*_table(["hidden", *columns], rows), ""]
    ours = columns.get("this suite")
    if ours and len(columns) > 1:
        shares = [
            [title, *(f"{times[size] / ours[size]:.2f}" if size in times and size in ours else "" for size in SIZES)]
            for title, times in columns.items()
            if title != "this suite"
        ]
        head = ["time of a step over this suite's", *(f"hidden {size}" for size in SIZES)]
        lines += [*_table(head, shares), ""]
    return lines


def _times(results: Mapping[str, Result], part: str, wanted: Mapping[str, Any]) -> dict[int, float]:
    """The ms of a step by size, of the items of a part that are as `wanted`."""
    if part not in results:
        return {}
    conditions = {key: value for key, value in wanted.items() if key != "own"}
    return {
        each["hidden"]: each["ms"]
        for each in results[part].items
        if "ms" in each
        and all(each.get(key) == value for key, value in conditions.items())
        and not (wanted.get("own") and "notebook" in each["item"])
    }


def _section(name: str, result: Result) -> list[str]:
    part = PARTS[name]
    items = _with_fastest(result.items) if part.module == "products" else result.items
    shown = {key: title for key, title in part.columns.items() if any(each.get(key) is not None for each in items)}
    rows = [[each["item"], *(_text(each.get(key), digits=_DIGITS.get(key, 4)) for key in shown)] for each in items]
    left = 2 if {"value", "what", "product"} & {*shown} else 1
    lines = [f"## {part.title}", "", *_table(["", *shown.values()], rows, left=left), ""]
    for each in items:
        if operators := each.get("operators"):
            rows = [[op["operator"], f"{op['calls']:.0f}", f"{op['ms']:.3f}"] for op in operators[:_OPERATORS_SHOWN]]
            lines += [f"Operators of {each['item']}:", "", *_table(["operator", "calls a step", "ms a step"], rows), ""]
    return lines


def _with_fastest(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mark the fastest right form of each product and size."""
    best: dict[tuple[Any, Any], float] = {}
    for each in items:
        if "ms" in each and each.get("ok"):
            key = each.get("hidden"), each["product"]
            best[key] = min(best.get(key, float("inf")), each["ms"])
    return [
        {
            **each,
            "fastest": "fastest" if each.get("ms") == best.get((each.get("hidden"), each.get("product")), -1) else None,
        }
        for each in items
    ]


def _outcomes(result: Result) -> list[str]:
    """Of tests the numbers; `_problems` has those that failed."""
    outcomes = [each.get("outcome", "failed") for each in result.items]
    counts = ", ".join(f"{outcomes.count(kind)} {kind}" for kind in dict.fromkeys(outcomes))
    return [f"## {PARTS['tests'].title}", "", f"{counts}, of {len(result.planned)}.", ""]


def _left_out(results: Mapping[str, Result]) -> list[str]:
    lines = []
    for name, result in results.items():
        if result.state in ("skipped", "not begun"):
            lines.append(f"- {name}: {result.why or 'its turn did not come'}")
        elif result.state != "done":
            done = {each["item"] for each in result.items} | {*result.crashes}
            missing = [each for each in result.planned if each not in done]
            more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
            lines.append(f"- {name} ({result.state}): {', '.join(missing[:8]) or 'nothing is known of it'}{more}")
    return ["## Left out", "", *lines, ""] if lines else []


def _text(value: Any, *, digits: int = 4) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> list[str]:
    marks = ["---"] * left + ["---:"] * (len(head) - left)
    cells = ([each.replace("|", "\\|").replace("\n", " ") for each in row] for row in rows)
    return [f"| {' | '.join(row)} |" for row in (head, marks, *cells)]
