"""A transport that fails before each poll for due deliveries, so that no row is the cause."""

from realtime.delivery.transports.webhook import Webhook


class Faulty(Webhook):
    @property
    def is_on(self) -> bool:
        raise ValueError("Unforeseen")
