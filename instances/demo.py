"""The two instances that a first run finds, so that there is something to connect to."""

from instances.models import ConnectionState, Integration

DEMO = [
    {
        "name": "demo",
        "integration": Integration.EVOLUTION,
        "number": "5511999990000",
        "owner_jid": "5511999990000@s.whatsapp.net",
        "profile_name": "Demo",
        "connection_state": ConnectionState.OPEN,
    },
    {
        "name": "demo-cloud",
        "integration": Integration.CLOUD_API,
        "number": "1122334455667",
        "business_id": "1234567890987654321",
        "owner_jid": "972123456789@s.whatsapp.net",
        "profile_name": "Demo Cloud API",
        "connection_state": ConnectionState.OPEN,
    },
]
