"""The benchmark: `make bench`, or in less time and less exactly `make bench-quick`. See README.md."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from bench import plot, report, workload
from bench.processes import ROOT, WORK, NotValid, compile_c, cores
from bench.rows import Results
from bench.scenarios import GROUPS, Figures, Group, Scale

DOCS = ROOT / "docs"
QUICK = Scale(clients=0.3, events=0.25, seconds=1.5)

#: Measured with the predecessor of this benchmark: docs/performance.md.
EVOLUTION = (
    "Evolution API 2.3.6 from POST to 100 clients, one core: 67 events/s with PostgreSQL, 720 with no database at all."
)


def main() -> None:
    options = _options()
    _raise_file_limit()
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir()
    machine = _machine()
    print(machine, flush=True)
    if options.quick:
        print("Quick: where a row says 1000 or 5000 there are 300 and 1500, with as many frames a second between them.")
    compile_c()
    workload.database()
    workload.write_requests()
    groups = [group for group in GROUPS if options.only in group.name]
    results, lost = measure(groups, QUICK if options.quick else Scale(), options.rounds)
    shutil.rmtree(WORK / "data")
    for problem in lost:
        print(f"NOT VALID: {problem}", file=sys.stderr)
    _write(results, machine, options)
    sys.exit(1 if lost else 0)


def measure(groups: list[Group], scale: Scale, rounds: int) -> tuple[Results, list[str]]:
    """Run all rounds, each with the servers in another order; return results and problems."""
    results: Results = []
    lost = []
    began = time.monotonic()
    for number in range(rounds):
        for group in groups:
            kinds = group.kinds()
            turn = number % len(kinds)
            for kind in kinds[turn:] + kinds[:turn]:
                passed = time.monotonic() - began
                print(f"{passed:5.0f} s  round {number + 1} of {rounds}: {group.name}, {kind}", file=sys.stderr)
                figures: dict[str, Figures] = {}
                try:
                    group.run(kind, scale, figures)
                except NotValid as error:
                    lost.append(f"round {number + 1}, {group.name}, {kind}: {error}")
                results += [{"row": row, "server": kind, "round": number, **step} for row, step in figures.items()]
    return results, lost


def _write(results: Results, machine: str, options: argparse.Namespace) -> None:
    (WORK / "results.json").write_text(json.dumps({"machine": machine, "results": results}, indent=1))
    text = "\n\n".join(filter(None, (report.table(results), report.fastest(results), EVOLUTION)))
    print(f"\n{text}\n")
    plot.plot(results, WORK / "performance.png", machine)
    print(f"Plot: {WORK / 'performance.png'}; figures: {WORK / 'results.json'}")
    if options.docs:
        shutil.copy(WORK / "performance.png", DOCS / "performance.png")
        size = f"{options.rounds} rounds{', quick' if options.quick else ''}"
        day = datetime.now(UTC).strftime("%Y-%m-%d")
        report.write_docs(DOCS / "performance.md", f"{day}, {size}. {machine}\n\n{text}\n\n![](performance.png)")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer clients, fewer events")
    parser.add_argument("--rounds", type=int, help="how often each server is measured (5; with --quick 1)")
    parser.add_argument("--only", default="", help="only groups with this in their name, e.g. POST")
    parser.add_argument("--docs", action="store_true", help="put table and plot into docs/performance.md")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 5)
    return options


def _raise_file_limit() -> None:
    needed = max(group.clients for group in GROUPS) + 200
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise SystemExit(f"This takes {needed} open files in a process, and `ulimit -Hn` is {hard}.")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _machine() -> str:
    server, load = cores()
    if os.getloadavg()[0] > 0.5:
        print(f"The machine is busy (load average {os.getloadavg()[0]:.2f}).", file=sys.stderr)
    if server == load:
        print("There is one core for server and generator: the figures compare with nothing.", file=sys.stderr)
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return (
        f"{_processor()}, {os.cpu_count()} cores (server on {server}, generator on {load}), "
        f"Linux {platform.release()}, Python {platform.python_version()}, Node {node[1:]}, "
        f"socket.io {_npm_version('socket.io')}; fsync of a small file {_fsync_time() * 1e3:.2f} ms."
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _npm_version(package: str) -> Any:
    return json.loads((ROOT / "node_modules" / package / "package.json").read_text())["version"]


def _fsync_time() -> float:
    """Return the median of 50 fsyncs in seconds: the least time of a commit."""
    times = []
    with (WORK / "fsync").open("wb", buffering=0) as file:
        for _ in range(50):
            file.write(b"x" * 4096)
            began = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return median(times)


if __name__ == "__main__":
    main()
