"""Prints docs/limits.md."""

from instances.bounds.bound import document

print(document(), end="")
