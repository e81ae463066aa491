from .journal import (
    Failure as Failure,
    Journal as Journal,
    JournalRecord as JournalRecord,
    read_journal as read_journal,
    request_key as request_key,
)
