from __future__ import annotations

from django.contrib import admin
from django.utils.html import format_html, format_html_join

from instances.admin import format_time
from realtime.admin.connected import ConnectedPages
from realtime.admin.overview.words import milliseconds
from realtime.operation.models import Process


@admin.register(Process)
class ProcessAdmin(ConnectedPages):
    instance_lookup = ""
    list_display = (
        *("command", "host", "pid", "state", "connections", "relay_lag", "started_at", "seen_at"),
        *("last_error", "set_aside_count"),
    )
    list_display_links = ("command",)
    fields = (
        *("command", "host", "pid", "state", "connections", "relay_lag", "started_at", "seen_at"),
        *("shown_loops", "shown_set_aside"),
    )
    sortable_by = ()

    @admin.display(description="relay lag")
    def relay_lag(self, process: Process) -> str:
        return milliseconds(process.relay_lag_ms)

    @admin.display(description="last error")
    def last_error(self, process: Process) -> str:
        """Return the loop that failed last, with its error."""
        failed = [(loop.failed_at, loop) for loop in process.loop_states if loop.failed_at]
        if not failed:
            return "none"
        moment, loop = max(failed, key=lambda each: each[0])
        return f"{format_time(moment)} {loop.name}: {loop.error}"

    @admin.display(description="loops")
    def shown_loops(self, process: Process) -> str:
        rows = format_html_join(
            "",
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            (
                (
                    loop.name,
                    format_time(loop.since),
                    loop.restarts,
                    f"{format_time(loop.failed_at)} {loop.error}" if loop.failed_at else "none",
                )
                for loop in process.loop_states
            ),
        )
        head = "<tr><th>Loop</th><th>Since</th><th>Restarts</th><th>Last error</th></tr>"
        return format_html("<table><thead>" + head + "</thead><tbody>{}</tbody></table>", rows)

    @admin.display(description="set aside")
    def set_aside_count(self, process: Process) -> int:
        return len(process.set_aside)

    @admin.display(description="set aside")
    def shown_set_aside(self, process: Process) -> str:
        """Return what cannot be read, or fails, and is left out while the loops go on."""
        if not process.set_aside:
            return "nothing"
        rows = format_html_join(
            "",
            "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
            ((each.name, format_time(each.since), each.error) for each in process.set_aside),
        )
        head = "<tr><th>What</th><th>Since</th><th>Error</th></tr>"
        return format_html("<table><thead>" + head + "</thead><tbody>{}</tbody></table>", rows)
