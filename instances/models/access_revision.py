from __future__ import annotations

from django.db import connection, models, transaction

from instances.events import access_changed


class AccessRevision(models.Model):
    """A number that changes, in the same transaction, whenever somebody may hear more or less than before.

    It is a sum: each change adds a row. Were it one row that all count up, changes would wait for each other, and two
    that hold instances as well could wait for ever.
    """

    #: How many changes become one row again: what is summed up stays short.
    FOLD_EVERY = 100

    amount = models.BigIntegerField(default=1)

    def __str__(self) -> str:
        return f"+{self.amount}"

    @classmethod
    def current(cls) -> int:
        """What has been looked at under another number must be looked at again."""
        with connection.cursor() as cursor:  # plain SQL: it is asked with every few requests
            cursor.execute("SELECT COALESCE(SUM(amount), 0) FROM instances_accessrevision")
            return int(cursor.fetchone()[0])

    @classmethod
    def bump(cls) -> None:
        """Call it in the transaction of the change; once that commits, `access_changed` is sent in this process."""
        with transaction.atomic(savepoint=False):
            change = cls.objects.create()
            if change.pk % cls.FOLD_EVERY == 0:
                cls._fold()
            transaction.on_commit(cls._tell, robust=True)

    @classmethod
    def _fold(cls) -> None:
        """One row for many, of the same sum. Rows that another transaction is folding are left to it."""
        rows = dict(cls.objects.select_for_update(skip_locked=True).values_list("pk", "amount"))
        cls.objects.filter(pk__in=list(rows)).delete()
        cls.objects.create(amount=sum(rows.values()))

    @classmethod
    def _tell(cls) -> None:
        access_changed.send(sender=cls)
