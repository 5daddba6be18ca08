"""The results as a table, in the terminal and in docs/performance.md."""

from __future__ import annotations

from pathlib import Path

from bench.rows import ROWS, SERVERS, Results, Row, Values

HEADS = ("", "", *SERVERS.values(), "to Node", "frames/s", "bar", "goal", "reached", "generator")

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"


def table(results: Results) -> str:
    """Return the table in Markdown, aligned for a terminal."""
    lines = [HEADS, *(_cells(row, results) for row in ROWS if row.values(results, "ours"))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADS))]
    rule = tuple("-" * width for width in widths)
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in (lines[0], rule, *lines[1:])
    )


def _cells(row: Row, results: Results) -> tuple[str, ...]:
    ratio = row.ratio(results) if row.kind in ("gain", "cost") else None
    wall = Row("", row.step, "frames", "", kind="cost").ratio(results) if row.kind == "gain" else None
    shares = [figures["generator"] for figures in results if figures["row"] == row.step and "generator" in figures]
    return (
        row.title,
        row.unit,
        *(_figure(row.values(results, server)) for server in SERVERS),
        str(ratio or ""),
        f"{wall.value:.2f}x" if wall else "",
        row.wanted(row.bar),
        row.wanted(row.goal),
        row.result(results),
        f"{max(shares):.0%}" if shares else "",
    )


def _figure(values: Values | None) -> str:
    if values is None:
        return ""
    low, high = values.range
    return short(values.median) + (f" [{short(low)}-{short(high)}]" if low < high else "")


def short(number: float) -> str:
    """Format a number with its significant digits."""
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def fastest(results: Results) -> str:
    """Return the highest rates of the generator: below them it is not the bottleneck."""
    titles = {row.step: row.title for row in ROWS}
    parts = []
    for server, name in SERVERS.items():
        rates = {
            figures["row"]: figures["frames"]
            for figures in results
            if figures["server"] == server and "frames" in figures
        }
        if rates:
            row = max(rates, key=lambda row: rates[row])
            parts.append(f"{name} {rates[row]:,.0f} ({titles.get(row, row)})")
    return f"The most frames a second that the generator took from each: {', '.join(parts)}." if parts else ""


def write_docs(page: Path, text: str) -> None:
    """Replace the part of the page between BEGIN and END."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
