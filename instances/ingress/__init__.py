"""The ingress: payloads that providers post are authenticated, parsed, and many stored in one transaction."""
