"""A project that has Channels already: evoapi's Socket.IO is mounted beside its own consumer and its own Django."""
