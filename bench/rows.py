"""Rows of the table: the figure of each, and its bar and goal."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

Results = list[dict[str, Any]]

SERVERS = {"ours": "evoapi", "node": "Node", "stock": "stock", "limit": "send()"}


@dataclass(frozen=True)
class Values:
    """A figure of a server, by round."""

    by_round: dict[int, float]

    @property
    def median(self) -> float:
        return median(self.by_round.values())

    @property
    def range(self) -> tuple[float, float]:
        return min(self.by_round.values()), max(self.by_round.values())

    def over(self, other: Values) -> Ratio:
        """Return the ratio of the medians, with the range of the ratios of each round."""
        rounds = self.by_round.keys() & other.by_round.keys()
        each = [self.by_round[number] / other.by_round[number] for number in rounds]
        return Ratio(self.median / other.median, min(each), max(each))


@dataclass(frozen=True)
class Ratio:
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        spread = "" if self.low == self.high else f" [{self.low:.2f}-{self.high:.2f}]"
        return f"{self.value:.2f}x{spread}"


@dataclass(frozen=True)
class Row:
    title: str
    #: Name of the step and of the metric in it.
    step: str
    metric: str
    unit: str
    bar: float | None = None
    goal: float | None = None
    #: The figure that bar and goal apply to: for "gain" Node's over ours, for "cost" ours over Node's, for "at least"
    #: and "at most" ours.
    kind: str = "gain"

    def values(self, results: Results, server: str) -> Values | None:
        found = {
            figures["round"]: figures[self.metric]
            for figures in results
            if figures["row"] == self.step and figures["server"] == server and self.metric in figures
        }
        return Values(found) if found else None

    def ratio(self, results: Results, server: str = "ours") -> Ratio | None:
        """Return the ratio of the server to Node: above 1 is better for a gain, below 1 for a cost."""
        mine, node = self.values(results, server), self.values(results, "node")
        if not mine or not node or server == "node":
            return None
        return node.over(mine) if self.kind == "gain" else mine.over(node)

    def reached(self, results: Results) -> float | None:
        ours = self.values(results, "ours")
        if self.kind in ("at least", "at most"):
            return ours.median if ours else None
        ratio = self.ratio(results)
        return ratio.value if ratio else None

    def result(self, results: Results) -> str:
        reached = self.reached(results)
        if reached is None or self.bar is None or self.goal is None:
            return ""
        sign = 1 if self.kind in ("gain", "at least") else -1
        if sign * reached >= sign * self.goal:
            return "goal"
        return "bar" if sign * reached >= sign * self.bar else "BELOW"

    def wanted(self, target: float | None) -> str:
        if target is None:
            return ""
        sign = ">=" if self.kind in ("gain", "at least") else "<="
        return f"{sign} {target:g}{'x' if self.kind in ('gain', 'cost') else ''}"


CPU = "CPU µs/frame"

#: A step of the send() loop alone, with so many events joined that the rate is the generator's own limit.
CEILING = "fifty events a turn to 100"

ROWS = (
    Row("an event a turn to 10", "broadcast 10", "cpu", CPU),
    Row("an event a turn to 100", "broadcast 100", "cpu", CPU, 1.3, 1.5),
    Row("an event a turn to 1000", "broadcast 1000", "cpu", CPU, 1.3, 1.5),
    Row("an event a turn to 5000", "broadcast 5000", "cpu", CPU),
    Row("ten events a turn to 100", "bursts 100", "cpu", CPU, 5, 11),
    Row("ten events a turn to 1000", "bursts 1000", "cpu", CPU, 4, 10),
    Row("1000 namespaces x 1 client, ten events a turn", "namespaces", "cpu", CPU, 1.1, 1.5),
    Row("the same, our envelopes rendered meanwhile", "namespaces rendered", "cpu", CPU),
    Row("100 clients x 100 events/s", "latency 100", "p50", "p50 ms", 1.1, 1.0, "cost"),
    Row("100 clients x 100 events/s", "latency 100", "p99", "p99 ms", 1.1, 1.0, "cost"),
    Row("100 clients x 100 events/s", "latency 100", "cpu", CPU),
    Row("1000 clients x 30 events/s", "latency 1000", "p50", "p50 ms", 1.1, 1.0, "cost"),
    Row("1000 clients x 30 events/s", "latency 1000", "p99", "p99 ms", 1.1, 1.0, "cost"),
    Row("1000 clients x 30 events/s", "latency 1000", "cpu", CPU),
    Row("overload: 1000 clients x 120 events/s", "overload", "p99", "p99 ms", 60, 20, "at most"),
    Row("overload: 1000 clients x 120 events/s", "overload", "held", "share held", 0.97, 0.99, "at least"),
    Row("overload: 1000 clients x 120 events/s", "overload", "cpu", CPU),
    Row("set-up, key checked, one namespace", "set-up", "cpu", "CPU µs/connection", 1.5, 1.0, "cost"),
    Row("set-up, key checked, a namespace each", "set-up namespaces", "cpu", "CPU µs/connection", kind="cost"),
    Row("memory of an idle connection", "memory", "memory", "kB", 2.0, 1.1, "cost"),
    Row("POST /webhook/meta to 100 clients", "post meta", "rate", "events/s", 1000, 3000, "at least"),
    Row("POST /webhook/meta to 100 clients", "post meta", "cpu", "CPU µs/event", kind="at most"),
    Row("POST /webhook/evolution to 100 clients", "post evolution", "rate", "events/s", 1000, 3000, "at least"),
    Row("POST /webhook/meta at 100/s to 1 client", "post latency", "p50", "p50 ms", kind="at most"),
    Row("POST /webhook/meta at 100/s to 1 client", "post latency", "p99", "p99 ms", 6, 3, "at most"),
    Row("GET /instance/fetchInstances", "fetch instances", "rate", "requests/s", 400, 800, "at least"),
    Row("GET /websocket/find", "find websocket", "rate", "requests/s", 400, 800, "at least"),
)
