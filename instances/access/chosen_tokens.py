"""Tokens that tenants choose for their instances: a choice is a guess at the keys of others, and limited as such."""

from __future__ import annotations

from django.conf import settings
from django.db import connection

from instances.access.rate_limit import failed_authentications
from instances.crypto import digest, digests, is_same
from instances.errors import ApiError
from instances.integrations import shared_credentials
from instances.models import ApiKey, Instance
from instances.models.instance import MIN_TOKEN_LENGTH

#: One sentence for weak tokens and for tokens that exist: it must not tell whether a guess is somebody's key.
REFUSED = (
    f"This token cannot be used: choose another one of {MIN_TOKEN_LENGTH} characters or more, "
    "or leave it out to have one generated"
)


def count_as_guess(address: str) -> None:
    """Count a chosen token as a wrong key of this address. Raises ApiError after too many."""
    if not failed_authentications.allows(address):
        raise ApiError("Too many wrong keys and chosen tokens from this address; try again later", status_code=429)


def check_chosen_token(instance: Instance, token: str) -> None:
    """Raise ApiError for a token that is weak or that another key has; call it in the transaction that stores it.

    Instances may share one that is their provider's credential: the Graph token of a business with several numbers.
    """
    if connection.vendor == "postgresql":
        # of two tenants that choose the same token at once, the second one waits here for the first one's commit
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [int(digest(token)[:15], 16)])
    candidates = digests(token)
    others = Instance.objects.filter(token_digest__in=candidates).exclude(pk=instance.pk)
    if instance.provider.token_is_credential:
        others = others.exclude(integration__in=shared_credentials())
    is_taken = (
        is_same(token, settings.AUTHENTICATION_API_KEY)
        or ApiKey.objects.filter(digest__in=candidates).exists()
        or others.exists()
    )
    if is_taken or len(token) < MIN_TOKEN_LENGTH:
        raise ApiError(REFUSED)
