"""Two demo instances, created by the first run."""

from instances.models import ConnectionState
from instances.providers.cloud_api import CloudApi
from instances.providers.evolution import EvolutionChannel

DEMO = [
    {
        "name": "demo",
        "integration": EvolutionChannel.integration,
        "number": "550000000001",
        "owner_jid": "5511999990000@s.whatsapp.net",
        "profile_name": "Demo",
        "connection_state": ConnectionState.OPEN,
    },
    {
        "name": "demo-cloud",
        "integration": CloudApi.integration,
        "number": "100000000000001",
        "business_id": "200000000000002",
        "owner_jid": "5511999990001@s.whatsapp.net",
        "profile_name": "Demo Cloud API",
        "connection_state": ConnectionState.OPEN,
    },
]
