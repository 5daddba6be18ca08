"""The measurements: groups of steps, each run with one server process and one set of clients."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bench import workload
from bench.processes import IDLE_TIMEOUT, WORK, Bench, NotValid, server_command
from bench.rows import CEILING

#: Seconds between connecting and reading the memory of idle connections.
IDLE_PAUSE = 3
#: Connections that are set up at the same time.
MAX_CONNECTING = 64

ALL = ("ours", "node", "stock", "limit")
#: Servers for rates at which stock python-socketio cannot keep up by far.
FAST = ("ours", "node", "limit")

#: Figures of a step by metric, of one server in one round.
Figures = dict[str, Any]


@dataclass(frozen=True)
class Scale:
    """Size and duration of the measurements: full for `make bench`, reduced for `make bench-quick`."""

    clients: float = 1
    events: float = 1
    seconds: float = 5

    def of_clients(self, count: int) -> int:
        return count if count <= 100 else round(count * self.clients)


class Step(Protocol):
    @property
    def kinds(self) -> tuple[str, ...]:
        """The servers that the step is for."""

    def run(self, bench: Bench, kind: str, clients: int, scale: Scale) -> dict[str, Figures]:
        """Measure; return figures by the name of their row."""


@dataclass(frozen=True)
class Feed:
    """Events as fast as the server emits them, `per_turn` a turn of its event loop, to one namespace or all in turn."""

    row: str
    #: Frames to all clients together.
    frames: int
    per_turn: int = 1
    command: str = "feed"
    #: True if our events have rendered envelopes, as committed ones have.
    has_envelopes: bool = True
    kinds: tuple[str, ...] = ALL

    def run(self, bench: Bench, kind: str, clients: int, scale: Scale) -> dict[str, Figures]:
        listeners = clients if self.command == "feed" else 1
        frames = self.frames * scale.events * (0.25 if kind == "stock" else 1)
        turns = max(3, round(frames / listeners / self.per_turn))
        self._feed(bench, kind, max(1, turns // 10), listeners)  # compilers, caches and allocators warm up
        return {self.row: self._feed(bench, kind, turns, listeners)}

    def _feed(self, bench: Bench, kind: str, turns: int, listeners: int) -> Figures:
        events = turns * self.per_turn
        if kind == "ours":
            bench.server(f"make {events} {int(self.command == 'round')} {int(self.has_envelopes)}")
        before = bench.server("usage")
        bench.send_load(f"measure {events * listeners}")
        bench.server(f"{self.command} {events} {self.per_turn}")
        report = check_report(bench.load(f"await {IDLE_TIMEOUT}"))
        spent = bench.server("usage")["cpu"] - before["cpu"]
        return {
            "cpu": spent / report["events"] * 1e6,
            "frames": report["events"] / report["seconds"],
            "generator": report["cpu_share"],
        }


@dataclass(frozen=True)
class Rate:
    """Events at a fixed rate from outside. Latency counts from the time at which each event is due."""

    row: str
    #: Frames a second for all clients together.
    frames: int
    kinds: tuple[str, ...] = ALL

    def run(self, bench: Bench, kind: str, clients: int, scale: Scale) -> dict[str, Figures]:
        rate = self.frames / clients
        events = round(rate * scale.seconds)
        before = bench.server("usage")
        bench.send_load(f"measure {events * clients}")
        bench.send_load(f"rate {rate} {events}")
        report = check_report(bench.load(f"await {IDLE_TIMEOUT}"))
        spent = bench.server("usage")["cpu"] - before["cpu"]
        figures = {name: report[name] for name in ("p50", "p99", "max")}
        held = min(1.0, events / rate / report["seconds"])
        return {
            self.row: figures | {"cpu": spent / report["events"] * 1e6, "held": held, "generator": report["cpu_share"]}
        }


@dataclass(frozen=True)
class Posts:
    """Requests that each become an event to all clients: the complete path. The stored rows are counted."""

    row: str
    #: Name of a list of requests (`workload.requests`).
    name: str
    #: Requests a second; 0 for as many as get a response.
    rate: int
    connections: int
    kinds: tuple[str, ...] = ("ours",)

    def run(self, bench: Bench, kind: str, clients: int, scale: Scale) -> dict[str, Figures]:
        self._post(bench, 1)
        stored = bench.server("recorded")
        report, spent = self._post(bench, scale.seconds)
        for name, count in bench.server("recorded").items():
            if count - stored[name] != report["answered"]:
                raise NotValid(f"{report['answered']} posts made {count - stored[name]} {name}")
        figures = {"p50": report["p50"], "p99": report["p99"], "generator": report["cpu_share"]}
        figures |= {"rate": report["events"] / clients / report["seconds"], "http_p99": report["http_p99"]}
        return {self.row: figures | {"cpu": spent / report["answered"] * 1e6}}

    def _post(self, bench: Bench, seconds: float) -> tuple[Figures, float]:
        path = workload.requests(self.name)
        before = bench.server("usage")
        bench.send_load("measure 0")
        bench.send_load(f"http {path} {self.connections} {self.rate} {seconds} 1")
        report = check_report(bench.load(f"await {IDLE_TIMEOUT}"))
        return report, bench.server("usage")["cpu"] - before["cpu"]


@dataclass(frozen=True)
class Reads:
    """Requests that read, as many as get a response."""

    row: str
    name: str
    connections: int = 16
    kinds: tuple[str, ...] = ("ours",)

    def run(self, bench: Bench, kind: str, clients: int, scale: Scale) -> dict[str, Figures]:
        path = workload.requests(self.name)
        for seconds in (0.5, scale.seconds * 0.6):
            bench.send_load("measure 0")
            bench.send_load(f"http {path} {self.connections} 0 {seconds} 0")
            report = check_report(bench.load(f"await {IDLE_TIMEOUT}"))
        rate = report["answered"] / report["http_seconds"]
        return {self.row: {"rate": rate, "p99": report["http_p99"], "generator": report["cpu_share"]}}


@dataclass(frozen=True)
class Group:
    name: str
    clients: int
    steps: tuple[Step, ...] = ()
    #: Names of the rows of set-up and memory, where the group measures them.
    set_up: str = ""
    memory: str = ""
    namespaces: int = 1
    #: Name of the instance that clients listen to.
    instance: str = field(default_factory=lambda: workload.name(0))

    def kinds(self) -> list[str]:
        return [kind for kind in ALL if any(kind in step.kinds for step in self.steps)]

    def run(self, kind: str, scale: Scale, figures: dict[str, Figures]) -> None:
        """Start a server and run the steps; add their figures by the name of their row. Raises NotValid."""
        clients = scale.of_clients(self.clients)
        namespaces = clients if self.namespaces > 1 else 1
        names = [workload.name(number) for number in range(namespaces)] if namespaces > 1 else [self.instance]
        command = server_command(kind, workload.instances(namespaces), f"/{self.instance}")
        with Bench(command, workload.clients(names), _fresh_data(kind)) as bench:
            figures |= self._connect(bench, kind, clients)
            for step in self.steps:
                if kind in step.kinds:
                    figures |= step.run(bench, kind, clients, scale)

    def _connect(self, bench: Bench, kind: str, clients: int) -> dict[str, Figures]:
        before = bench.server("usage")
        report = bench.load(f"connect {clients} {MAX_CONNECTING}") if clients else {"joined": 0, "seconds": 1}
        if report["joined"] != clients:
            raise NotValid(f"of {clients} clients {report['joined']} could join")
        after = bench.server("usage")
        figures: dict[str, Figures] = {}
        if self.set_up and kind != "limit":
            cpu = (after["cpu"] - before["cpu"]) / clients * 1e6
            share = {"generator": report["cpu_share"]}
            figures[self.set_up] = {"cpu": cpu, "rate": clients / report["seconds"]} | share
        if self.memory and kind != "limit":
            time.sleep(IDLE_PAUSE)
            figures[self.memory] = {"memory": (bench.server("usage")["rss"] - before["rss"]) / clients / 1000}
        return figures


def check_report(report: Figures) -> Figures:
    """Return the report. Raises NotValid unless all events were received once and in order and no client left."""
    if report["events"] != report["expected"] or any(report[name] for name in ("wrong", "closed", "failed")):
        raise NotValid(str({name: report[name] for name in ("events", "expected", "wrong", "closed", "failed")}))
    return report


def _fresh_data(kind: str) -> Path:
    path = WORK / "run"
    if kind == "ours":
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(WORK / "data", path)
    return path


GROUPS = (
    Group("10 clients", 10, (Feed("broadcast 10", 100_000),)),
    Group(
        "100 clients",
        100,
        (
            Feed("broadcast 100", 200_000),
            Feed("bursts 100", 200_000, per_turn=10),
            Feed(CEILING, 1_000_000, per_turn=50, kinds=("limit",)),
            Rate("latency 100", 10_000),
        ),
    ),
    Group(
        "1000 clients",
        1000,
        (
            Feed("broadcast 1000", 200_000),
            Feed("bursts 1000", 200_000, per_turn=10),
            Rate("latency 1000", 30_000, kinds=FAST),
            Rate("overload", 120_000, kinds=FAST),
        ),
    ),
    Group(
        "1000 namespaces",
        1000,
        (
            Feed("namespaces", 50_000, per_turn=10, command="round", kinds=("ours", "node", "stock")),
            Feed("namespaces rendered", 50_000, 10, "round", has_envelopes=False, kinds=("ours", "node")),
        ),
        set_up="set-up namespaces",
        namespaces=workload.NAMESPACES,
    ),
    Group(
        "5000 clients",
        5000,
        (Feed("broadcast 5000", 150_000),),
        set_up="set-up",
        memory="memory",
    ),
    Group("POST of Meta, 100 clients", 100, (Posts("post meta", "meta", 0, 32),), instance=workload.META),
    Group("POST of Meta, 1 client", 1, (Posts("post latency", "meta", 100, 8),), instance=workload.META),
    Group("POST of the Evolution channel, 100 clients", 100, (Posts("post evolution", "evolution", 0, 32),)),
    Group("REST", 0, (Reads("fetch instances", "fetch"), Reads("find websocket", "find"))),
)
