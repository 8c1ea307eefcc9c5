"""Records of earlier versions: their summary metrics, made anew from their items."""

from __future__ import annotations

import msgspec

from ..records import record, tables
from ..records.axes import LOG_PROB, RECITATION, TWINS
from ..records.encoding import plain
from ..records.record import Record
from ..records.schema import Results
from ..records.store import Store
from .paired import Paired


def migrate(store: Store, old: Record) -> tuple[Record, str]:
    """Write a record anew, with the summary metrics that its items allow now, and remove the old one.

    What no item says stays unknown: a record from before attacks has no ``stays_erased`` and no split score, one that
    was made without an unseen counterpart has memory against twins alone, and without ``log_prob`` there is no memory.

    Args:
        store: that the record lies in.
        old: the record.

    Returns:
        The new record, or the old one where nothing changes; and what is still unknown, in words.

    Raises:
        UserError: the record's tables are damaged, or the folder cannot be written to.
    """
    both = Paired.of(old)
    fields = {name: getattr(old.content, name) for name in Results.__struct_fields__}
    new = Results(**{**fields, "summary": both.summary(), "by_group": both.by_group() or msgspec.UNSET})
    if plain([new.summary, new.by_group or {}]) == plain([old.summary, old.by_group]):  # where nan is equal to nan
        return old, _unknown(old)
    parts = [tables.whole(old, name) for name in old.files()]
    name = old.id.rpartition("-")[0]
    written = record.write(old.path.parent, name, new, *parts)
    if written.path != old.path:
        store.remove(old.path)
    return written, _unknown(written)


def _unknown(found: Record) -> str:
    """What a record does not say, in words."""
    words = []
    items = tables.items(found, tables.BASE)
    bits = set(items.loc[items["metric"] == LOG_PROB, "axis"])
    if not bits >= {RECITATION, TWINS}:
        words.append("no memory, for it has no code lengths of passages and twins")
    elif not len(tables.items(found, tables.UNSEEN)):
        words.append("memory against twins alone, for it has no unseen counterpart")
    if not found.attacks:
        words.append("no split score, for it has no attacks")
    return "; ".join(words)
