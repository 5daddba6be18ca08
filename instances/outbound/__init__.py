"""Requests to the outside: the HTTP client, the SSRF guard, and the headers and secrets of webhooks."""
