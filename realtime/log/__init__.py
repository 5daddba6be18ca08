"""The event log: events are recorded, numbered, coalesced, paged and pruned."""
