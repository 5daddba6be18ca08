"""Prints docs/events.md."""

from instances.events.document import document

print(document(), end="")
