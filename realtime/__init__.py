"""Delivery of the instances' events: an ordered log, and from it sockets, webhooks and message brokers."""
