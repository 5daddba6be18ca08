"""WhatsApp numbers (instances), and the events that happen to them."""
