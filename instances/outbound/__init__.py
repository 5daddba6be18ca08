"""Calls to the outside: the HTTP client, the guard against server-side request forgery, webhook secrets and headers."""
