"""Socket.IO and Engine.IO clients that tests control."""
