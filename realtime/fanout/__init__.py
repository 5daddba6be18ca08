"""From the log to the listeners of this process: relay, feeds, recovery, namespaces, server-sent events."""
