from __future__ import annotations

from django.db import connection, models, transaction

from instances.events import access_changed


class AccessRevision(models.Model):
    """A revision number, changed in the transaction of every change of who may receive which events.

    It is the sum of its rows, and each change adds a row. With a single counter row, concurrent changes would wait for
    each other, and two that hold locks on instances as well would deadlock.
    """

    #: Number of changes after which the rows are folded into one, so that there are few to sum.
    FOLD_EVERY = 100

    amount = models.BigIntegerField(default=1)

    def __str__(self) -> str:
        return f"+{self.amount}"

    @classmethod
    def current(cls) -> int:
        """Return the current revision; access that was checked under another one must be checked again."""
        with connection.cursor() as cursor:  # plain SQL: it is read with every few requests
            cursor.execute("SELECT COALESCE(SUM(amount), 0) FROM instances_accessrevision")
            return int(cursor.fetchone()[0])

    @classmethod
    def bump(cls) -> None:
        """Change the revision, and send `access_changed` in this process once the transaction commits.

        Call it in the transaction of the change.
        """
        with transaction.atomic(savepoint=False):
            change = cls.objects.create()
            if change.pk % cls.FOLD_EVERY == 0:
                cls._fold()
            transaction.on_commit(cls._send_access_changed, robust=True)

    @classmethod
    def _fold(cls) -> None:
        """Replace the rows by one of the same sum, except those that another transaction is folding."""
        rows = dict(cls.objects.select_for_update(skip_locked=True).values_list("pk", "amount"))
        cls.objects.filter(pk__in=list(rows)).delete()
        cls.objects.create(amount=sum(rows.values()))

    @classmethod
    def _send_access_changed(cls) -> None:
        access_changed.send(sender=cls)
