"""Payloads that providers post: authenticated, parsed, and many stored in one transaction."""
