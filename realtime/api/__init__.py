"""REST routes of events, webhook endpoints and deliveries."""
