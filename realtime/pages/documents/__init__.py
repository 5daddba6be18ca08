"""The documents at /docs/, offline: references, schemas and guides."""
