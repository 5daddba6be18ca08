"""Access control: keys, scopes, minted tokens, rate limits and client addresses."""
