"""A plot of the results: CPU against Node's, latency at fixed rates, and rates of our server alone."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from matplotlib import pyplot
from matplotlib.axes import Axes

from bench.report import short
from bench.rows import ROWS, SERVERS, Results, Row

matplotlib.use("Agg")  # no window

COLOURS = {"ours": "#1b7f5c", "node": "#8a8a8a", "stock": "#c9a227", "limit": "#4a6fa5"}
TARGET_COLOUR = "#b03030"


def plot(results: Results, path: Path, machine: str) -> None:
    figure = pyplot.figure(figsize=(14, 8), layout="constrained")
    figure.suptitle(machine, fontsize=8, x=0.01, ha="left")
    grid = figure.add_gridspec(2, 2, width_ratios=(3, 2))
    _plot_gains(figure.add_subplot(grid[:, 0]), results)
    _plot_latencies(figure.add_subplot(grid[0, 1]), results)
    _plot_alone(figure.add_subplot(grid[1, 1]), results)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def _label(axes: Axes, titles: list[str], title: str) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_yticks(range(len(titles)), titles, fontsize=8)
    axes.set_ylim(len(titles) - 0.4, -0.6)
    axes.tick_params(axis="x", labelsize=8)


def _use_log_scale(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")


def _plot_gains(axes: Axes, results: Results) -> None:
    rows = [row for row in ROWS if row.kind == "gain" and row.ratio(results)]
    if not rows:
        return axes.set_axis_off()
    others = [server for server in SERVERS if server != "node"]
    for offset, server in enumerate(others):
        found = [(index, ratio) for index, row in enumerate(rows) if (ratio := row.ratio(results, server))]
        heights = [index + (offset - 1) * 0.26 for index, _ in found]
        values = [ratio.value for _, ratio in found]
        # a median over medians may lie outside of the rounds' own ratios
        below = [max(0.0, ratio.value - ratio.low) for _, ratio in found]
        above = [max(0.0, ratio.high - ratio.value) for _, ratio in found]
        axes.barh(heights, values, 0.24, color=COLOURS[server], label=SERVERS[server])
        axes.errorbar(values, heights, xerr=[below, above], fmt="none", color="black", lw=1, capsize=2)
        for y, (_, ratio) in zip(heights, found, strict=True):
            axes.text(max(ratio.high, ratio.value) * 1.08, y, short(ratio.value), va="center", fontsize=7)
    for index, row in enumerate(rows):
        _plot_targets(axes, index, row.bar, row.goal)
    _label(axes, [row.title for row in rows], "CPU per frame, Node's over theirs: right of 1 is better than Node")
    _use_log_scale(axes)
    axes.axvline(1, color=COLOURS["node"], lw=2, label=SERVERS["node"])
    axes.set_xlabel("red: the bar dotted, the goal solid", fontsize=8)
    axes.legend(loc="lower right", fontsize=8)


def _plot_targets(axes: Axes, index: int, bar: float | None, goal: float | None) -> None:
    for target, style in ((bar, ":"), (goal, "-")):
        if target is not None:
            axes.plot([target, target], [index - 0.42, index + 0.42], color=TARGET_COLOUR, ls=style, lw=1.2)


def _plot_latencies(axes: Axes, results: Results) -> None:
    titles = {row.step: row.title for row in ROWS if row.metric == "p99" and row.step != "post latency"}
    steps = [step for step in titles if Row("", step, "p99", "").values(results, "ours")]
    if not steps:
        return axes.set_axis_off()
    for offset, server in enumerate(SERVERS):
        for index, step in enumerate(steps):
            p50, p99 = (Row("", step, metric, "").values(results, server) for metric in ("p50", "p99"))
            if p50 is None or p99 is None:
                continue
            y = index + (offset - 1.5) * 0.2
            ends = [max(values.median, 0.01) for values in (p50, p99)]
            axes.plot(ends, [y, y], color=COLOURS[server], lw=3, solid_capstyle="round")
            axes.plot(ends[:1], [y], "o", color=COLOURS[server], ms=5)
            axes.text(ends[1] * 1.15, y, f"{short(ends[0])} / {short(ends[1])}", va="center", fontsize=7)
    _label(axes, [titles[step].replace(": ", ":\n") for step in steps], "Latency in ms: p50 (dot) to p99 (end)")
    _use_log_scale(axes)
    axes.margins(x=0.25)


def _plot_alone(axes: Axes, results: Results) -> None:
    rows = [row for row in ROWS if row.kind == "at least" and row.metric == "rate" and row.values(results, "ours")]
    if not rows:
        return axes.set_axis_off()
    for index, row in enumerate(rows):
        values = row.values(results, "ours")
        if values:
            low, high = values.range
            axes.barh(index, values.median, 0.5, color=COLOURS["ours"])
            axes.plot([low, high], [index, index], color="black", lw=1)
            axes.text(high, index, f"  {short(values.median)}", va="center", fontsize=7)
        _plot_targets(axes, index, row.bar, row.goal)
    _label(axes, [row.title.replace(" to ", "\nto ") for row in rows], "evoapi on one core, a second")
    axes.margins(x=0.15)
