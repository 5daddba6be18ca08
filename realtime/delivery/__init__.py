"""Deliveries to endpoints: rows, dispatcher, concurrency limits, resending, and a transport a file."""
