"""Bytes under uvicorn: HTTP and WebSocket protocol classes, RFC 6455 frames, and the outbox."""
