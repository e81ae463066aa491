from .journal import (
    Journal as Journal,
    read_journal as read_journal,
)
from .records import (
    Failure as Failure,
    JournalRecord as JournalRecord,
    request_key as request_key,
)
