"""The documents: each of their snippets and commands is run as it stands there."""
