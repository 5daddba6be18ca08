"""Hourly counters: written from the log and from attempts by a background loop, read by charts, strips and health."""
