"""The documents for programs: OpenAPI, AsyncAPI and JSON Schemas."""

from __future__ import annotations

from realtime.pages.documents.navigation import Page, Section

SECTION = Section(
    "For programs",
    "The same in forms that code generators, validators and other tools read.",
    lambda: [
        Page("OpenAPI", "/docs/openapi.json", "The REST routes, as an OpenAPI 3.0 document."),
        Page("AsyncAPI", "/docs/asyncapi.json", "The events over each transport, as an AsyncAPI 3.0 document."),
        Page("JSON Schema", "/docs/schemas/envelope.json", "The envelope; each event has a schema beside it."),
    ],
)
