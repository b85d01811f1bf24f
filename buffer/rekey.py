"""When the centre cannot open a data key any more: its record made anew, or what was sealed under it sealed again."""

import apsw

from buffer.settling import count_voided, drop_keys
from buffer.sqlite import transaction
from buffer.store import Store


def reseal(store: Store, connection: apsw.Connection, kid: bytes, reason: str) -> int:
    """Give up every unsettled batch under this data key, and queue their rows to be sealed again under another.

    The batches were good, so none is halved and none comes nearer to being parked. Returns how many they were.
    """
    with transaction(connection):
        connection.execute("INSERT OR REPLACE INTO voided SELECT epoch, seq, ? FROM batch WHERE kid = ?", (reason, kid))
        connection.execute(
            "INSERT INTO requeue (kind, first, last, attempts)"
            " SELECT kind, first, last, attempts FROM batch WHERE kid = ? ORDER BY epoch, seq",
            (kid,),
        )
        connection.execute("DELETE FROM batch WHERE kid = ?", (kid,))
        found = connection.changes()
        drop_keys(store, connection)
    count_voided(store, connection, found, batches=-found)
    return found


def replace_key_record(connection: apsw.Connection, kid: bytes, message: bytes) -> None:
    """The same data key in another record: signed anew, or wrapped for others."""
    with transaction(connection):
        connection.execute("UPDATE key_record SET message = ? WHERE kid = ?", (message, kid))
