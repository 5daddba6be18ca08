"""The live console: events as they arrive, and what became of each."""
