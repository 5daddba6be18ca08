"""kill -9 while events and attempts are counted: each is counted once."""

from __future__ import annotations

from tests.forking import fork_server
from tests.in_process import until
from tests.server import Server, server_environment

#: Records 2,000 events of two instances, and 1,500 attempts.
FILL = """
from django.utils import timezone
from instances.events import EventType
from instances.models import Instance
from realtime.delivery.models import Attempt, Delivery
from realtime.log.models import Event, EventDraft
drafts = [EventDraft(EventType.CALL, number) for number in range(999)]
for name in ("one", "two"):
    instance = Instance.objects.create(name=name)
    Event.objects.record_all(instance, drafts)
known = {"instance_id": instance.pk, "name": "two", "seq": 1, "event_id": "e", "type": "call", "body": b""}
delivery = Delivery.objects.create(endpoint_id=1, transport="webhook", destination="", state="dead", **known)
now = timezone.now()
Attempt.objects.bulk_create(
    Attempt(delivery=delivery, number=number, at=now, duration_ms=1, status=500) for number in range(1500)
)
"""

#: Counts pages of a hundred rows, and prints a line after each.
COUNT = """
import time
from datetime import timedelta
from django.db.models import Sum
from realtime.counters import counter, pages
from realtime.counters.models import HourTotal
pages.COUNTED_PAGE_EVENTS = counter.COUNTED_PAGE_EVENTS = 100
counter.LEASE = timedelta(0)
counting = counter.Counter()
while True:
    has_more = counting.step()
    counted = HourTotal.objects.aggregate(events=Sum("events"), failed=Sum("failed"))
    is_level = not has_more and counted["events"] == 2000 and counted["failed"] == 1500
    print("level" if is_level else has_more, flush=True)
    time.sleep(0.01)
"""

SUMS = """
from django.db.models import Sum
from realtime.counters.models import EndpointHour, HourTotal, InstanceHour
events = InstanceHour.objects.aggregate(sum=Sum("events"))["sum"]
print(events, *HourTotal.objects.aggregate(events=Sum("events"), failed=Sum("failed")).values())
print(EndpointHour.objects.get().failed, EndpointHour.objects.get().latency_ms)
"""


def test_counting_that_is_killed_again_and_again_counts_everything_once(migrated, tmp_path):
    with server_environment(migrated, tmp_path) as environment:
        server = Server(environment)
        server.log.touch()
        server.manage("shell", "--no-imports", "-c", FILL)
        output = tmp_path / "steps"
        output.touch()
        for steps in (3, 8):
            counting = fork_server.run(
                "manage", ["shell", "--no-imports", "-c", COUNT], server.environment, output, output
            )
            until(lambda steps=steps: output.read_text().count("True") >= steps)
            counting.kill()
            counting.wait(20)
        assert "level" not in output.read_text()
        counting = fork_server.run("manage", ["shell", "--no-imports", "-c", COUNT], server.environment, output, output)
        until(lambda: "level" in output.read_text())
        counting.kill()
        counting.wait(20)
        assert server.manage("shell", "--no-imports", "-c", SUMS) == "2000 2000 1500\n1500 1500\n"
