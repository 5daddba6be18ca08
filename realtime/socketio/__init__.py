"""The Socket.IO server, on an Engine.IO server of our own."""
