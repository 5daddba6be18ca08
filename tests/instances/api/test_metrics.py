"""GET /metrics: Prometheus' text format, and who may read it."""

from __future__ import annotations

import base64
import re

import pytest

from tests.server import Server

LINE = re.compile(r'([a-z_]+)(\{([a-zA-Z]+="([^"\\\n]|\\["\\n])*",?)*\})? (\d+)')


def parsed(text: str) -> dict[str, list[str]]:
    """Return the lines of each metric of a text in format 0.0.4. Fails for another one."""
    assert text.endswith("\n")
    found: dict[str, list[str]] = {}
    typed = ""
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, typed, kind = line.split(" ")
            assert kind == "gauge"
            assert typed not in found, "all lines of a metric stand together"
            found[typed] = []
        elif not line.startswith("# HELP "):
            match = LINE.fullmatch(line)
            assert match, line
            assert match[1] == typed
            found[typed].append(line)
    return found


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_the_instances_and_their_states_are_metrics(fresh_server):
    server = fresh_server(PROMETHEUS_METRICS="true", SERVER_URL="https://evo.example.com")
    server.create('lo"ja')
    closed = server.create("loja", integration="WHATSAPP-BUSINESS")
    server.request("DELETE", server.path("/instance/logout", closed))
    response = server.get("/metrics", key=None, headers={"Host": "evo.example.com"})

    assert response.status == 200
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert parsed(response.body.decode()) == {
        "evolution_environment_info": [
            'evolution_environment_info{version="2.4.0",clientName="evolution",serverUrl="https://evo.example.com"} 1'
        ],
        "evolution_instances_total": ["evolution_instances_total 2"],
        "evolution_instance_up": [
            r'evolution_instance_up{instance="lo\"ja",integration="EVOLUTION"} 1',
            'evolution_instance_up{instance="loja",integration="WHATSAPP-BUSINESS"} 0',
        ],
        "evolution_instance_state": [
            r'evolution_instance_state{instance="lo\"ja",integration="EVOLUTION",state="open"} 1',
            'evolution_instance_state{instance="loja",integration="WHATSAPP-BUSINESS",state="close"} 1',
        ],
    }


@pytest.mark.any_database
def test_metrics_are_off_by_default(server: Server):
    assert server.get("/metrics").status == 404


@pytest.mark.any_database
def test_metrics_are_for_those_who_are_allowed_and_know_the_password(start_server):
    guarded = start_server(
        PROMETHEUS_METRICS="true",
        METRICS_AUTH_REQUIRED="true",
        METRICS_USER="prometheus",
        METRICS_PASSWORD="pa:ss",
        METRICS_ALLOWED_IPS="127.0.0.1,10.0.0.0/8",
        TRUSTED_PROXIES="127.0.0.1",
    )
    for headers, status, text in (
        ({}, 401, "Authentication required"),
        ({"Authorization": "Bearer x"}, 401, "Authentication required"),
        ({"Authorization": "Basic ***"}, 401, "Invalid credentials"),
        (basic("prometheus", "pa:"), 401, "Invalid credentials"),
        (basic("Prometheus", "pa:ss"), 401, "Invalid credentials"),
        (basic("prometheus", "pa:ss") | {"X-Forwarded-For": "192.0.2.1"}, 403, "Forbidden: IP not allowed"),
    ):
        response = guarded.get("/metrics", headers=headers)
        assert (response.status, response.body.decode()) == (status, text)
        assert (response.headers["WWW-Authenticate"] is not None) == (status == 401)
    for address in ("127.0.0.1", "10.1.2.3"):
        headers = basic("prometheus", "pa:ss") | {"X-Forwarded-For": address}
        assert guarded.get("/metrics", headers=headers).status == 200


@pytest.mark.any_database
def test_an_invented_address_does_not_open_the_metrics(start_server):
    server = start_server(PROMETHEUS_METRICS="true", METRICS_ALLOWED_IPS="10.0.0.1")
    response = server.get("/metrics", headers={"X-Forwarded-For": "10.0.0.1"})
    assert (response.status, response.body) == (403, b"Forbidden: IP not allowed")


@pytest.mark.any_database
def test_a_password_that_is_required_and_not_set_opens_nothing(start_server):
    server = start_server(PROMETHEUS_METRICS="true", METRICS_AUTH_REQUIRED="true")
    response = server.get("/metrics", headers=basic("", ""))
    assert (response.status, response.body) == (500, b"Metrics authentication not configured")


@pytest.mark.slow
def test_the_metrics_of_many_instances_are_made_in_pieces(fresh_server):
    server = fresh_server(PROMETHEUS_METRICS="true")
    server.shell(
        "from instances.crypto import Secret\nfrom instances.models import Instance\nsecret = Secret('x')\n"
        "many = [Instance(name=f'n{i}', token_digest=str(i), token=secret) for i in range(1_501)]\n"
        "Instance.objects.bulk_create(many)"
    )
    found = parsed(server.get("/metrics").body.decode())  # a stall of over 50 ms would fail the test
    assert found["evolution_instances_total"] == ["evolution_instances_total 1501"]
    assert len(set(found["evolution_instance_up"])) == len(set(found["evolution_instance_state"])) == 1_501
