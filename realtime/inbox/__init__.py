"""Inboxes: URLs that keep what is posted to them and show it to their maker, to try webhooks without a server."""
