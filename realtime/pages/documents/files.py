"""The documents for programs: OpenAPI, AsyncAPI and JSON Schemas."""

from __future__ import annotations

from realtime.pages.documents.navigation import DocumentPage, Section

SECTION = Section(
    "For programs",
    "The same in forms that code generators, validators and other tools read.",
    lambda: [
        DocumentPage("OpenAPI", "/docs/openapi.json", "The REST routes, as an OpenAPI 3.0 document."),
        DocumentPage("AsyncAPI", "/docs/asyncapi.json", "The events over each transport, as an AsyncAPI 3.0 document."),
        DocumentPage("JSON Schema", "/docs/schemas/envelope.json", "The envelope; each event has a schema beside it."),
    ],
)
