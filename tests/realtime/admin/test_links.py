"""From a message to its events and deliveries, and the filter by instance, in a browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from instances.models import Chat, Contact, Instance, Message
from realtime.delivery.models import Delivery
from realtime.log.models import Event
from tests.in_process import until
from tests.instances.admin.pages import at
from tests.receiver import Receiver

pytest_plugins = ("tests.browser",)

pytestmark = pytest.mark.any_database


def names(page, column="name"):
    return [cell.strip() for cell in page.locator(f"#result_list tbody .field-{column}").all_inner_texts()]


def test_a_message_leads_to_its_event_that_to_its_delivery_and_back(admin_page, server):
    instance = server.create()
    with Receiver() as receiver:
        webhook = {"enabled": True, "url": receiver.url, "events": ["MESSAGES_UPSERT"]}
        assert server.post(f"/webhook/set/{instance.name}", {"webhook": webhook}).status == 201
        server.receive(instance, "Good morning")
        until(lambda: receiver.requests)
    event_id = receiver.requests[0].id
    wa_id = receiver.requests[0].json["data"]["key"]["id"]

    admin_page.goto(f"{at('changelist', Message)}?q={wa_id}")
    admin_page.get_by_role("link", name=wa_id).click()
    admin_page.locator(".field-events").get_by_role("link", name="show").click()
    assert names(admin_page, "type") == ["messages.upsert"]
    admin_page.get_by_role("link", name=instance.name).click()
    expect(admin_page.locator(".readonly.field-event_id")).to_have_text(event_id)
    expect(admin_page.locator(".field-message").get_by_role("link")).to_have_text(wa_id)
    admin_page.locator(".field-deliveries").get_by_role("link", name="1", exact=True).click()
    admin_page.get_by_role("link", name=instance.name).first.click()
    admin_page.locator(".field-shown_event").get_by_role("link", name=event_id).click()
    admin_page.locator(".field-message").get_by_role("link", name=wa_id).click()
    expect(admin_page.locator(".readonly.field-wa_id")).to_have_text(wa_id)


def test_the_search_box_finds_while_one_types_and_is_a_page_on_a_phone(admin_page, server):
    instance = server.create()
    server.receive(instance, f"Are the shoes of {instance.name} still there?")
    admin_page.goto(at("changelist", Event))
    admin_page.keyboard.press("Control+k")
    admin_page.keyboard.type(f"shoes of {instance.name}")
    hit = admin_page.locator("#search-hits").get_by_role("link")
    expect(hit).to_contain_text(f"Message of {instance.name}")
    admin_page.keyboard.press("Escape")
    expect(hit).to_have_count(0)
    admin_page.keyboard.press("Control+k")
    admin_page.keyboard.type(instance.name)
    expect(hit.filter(has_text="Instance, open")).to_be_visible()

    admin_page.set_viewport_size({"width": 360, "height": 740})
    admin_page.get_by_role("link", name="Search").click()
    admin_page.get_by_role("searchbox").fill(f"{instance.name} 2")
    admin_page.get_by_role("searchbox").press("Enter")
    admin_page.get_by_role("link", name=f"{instance.name} 2").click()
    expect(admin_page.locator(".readonly.field-seq")).to_have_text("2")


def test_events_and_deliveries_are_found_by_id_seq_and_whatsapp_id(admin_page, server):
    instance, other = server.create(), server.create()
    for each in (instance, other):
        server.receive(each, "Hi")
    (event,) = server.get(f"/event/find/{instance.name}?type=messages.upsert").json["events"]
    wa_id = event["data"]["key"]["id"]
    for term in (event["id"], wa_id, f"{instance.name} {event['seq']}"):
        admin_page.goto(f"{at('changelist', Event)}?q={term}")
        assert names(admin_page) == [instance.name], term
        assert names(admin_page, "type") == ["messages.upsert"]
    for each in (instance, other):
        admin_page.goto(f"{at('changelist', Event)}?q={event['seq']}&instance_id={each.id}")
        assert (str(event["seq"]), "messages.upsert") in zip(
            names(admin_page, "seq"), names(admin_page, "type"), strict=True
        )
    server.receive(other, "Ho", id=str(event["seq"]))
    admin_page.goto(f"{at('changelist', Event)}?q={event['seq']}&instance_id={instance.id}")
    assert str(event["seq"]) in names(admin_page, "seq")
    admin_page.goto(f"{at('changelist', Event)}?q=nobody-has-this")
    assert names(admin_page) == []


@pytest.mark.slow
def test_lists_are_filtered_by_an_instance_that_is_searched_for(admin_page, server):
    instance, other = server.create(), server.create()
    for each in (instance, other):
        server.receive(each, "Hi")
    for model, column in ((Message, "instance"), (Event, "name")):
        admin_page.goto(f"{at('changelist', model)}?q=e")
        admin_page.get_by_role("button", name="Filters").click()
        admin_page.locator(".instance-filter .select2-selection").click()
        admin_page.locator(".select2-search__field").fill(instance.name)
        admin_page.get_by_role("option", name=instance.name).click()
        admin_page.get_by_role("button", name="Filter", exact=True).click()
        admin_page.wait_for_url("**instance_id**")
        assert set(names(admin_page, column)) == {instance.name}, model
        assert "q=e" in admin_page.url
        admin_page.get_by_role("button", name="Filters").click()
        expect(admin_page.locator(".instance-filter .select2-selection")).to_contain_text(instance.name)
        admin_page.get_by_role("link", name="All instances").click()
        admin_page.wait_for_url(lambda url: "instance_id" not in url)
        assert set(names(admin_page, column)) > {instance.name}


def test_no_list_grows_with_the_number_of_instances(admin_client, db):
    sizes = []
    for number in (1, 200):
        Instance.objects.bulk_create(Instance(name=f"shop-{number}-{each}") for each in range(number))
        lists = [at("changelist", model) for model in (Message, Contact, Chat, Delivery)]
        sizes.append([len(admin_client.get(f"{url}?_facets=True").content) for url in lists])
    assert sizes[0] == pytest.approx(sizes[1], abs=200)
    assert admin_client.get(f"{at('changelist', Message)}?instance_id=nonsense").status_code == 200
