"""The inbox: URLs that show what is posted to them, to try webhooks without a server."""
