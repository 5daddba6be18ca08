"""REST routes of the log, of endpoints and of deliveries."""
