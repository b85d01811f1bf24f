"""A store whose header or schema cannot be read, made readable: a copy of it gets another first page.

Tables are found through their root pages, and these are the same in every store of a page size: tables are made in one
order, and what later schemas add comes behind. The first page that is grafted knows the tables that salvage reads, in
so few words that all of them stand on it.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import apsw

from buffer.sqlite import PAGE_BYTES, open_store

PAGE_SIZES: Final = (PAGE_BYTES, 4096)
"""Of stores as they are made, and as they were made at first."""

_PAGES_LOOKED_AT: Final = 64
_TABLES: Final = {
    "boot": "(id INTEGER PRIMARY KEY,count,epoch)",
    "series": "(id INTEGER PRIMARY KEY,meter,task,last_slot,class)",
    "record": "(id INTEGER PRIMARY KEY,series,moment,kind,body)",
    "event": "(id INTEGER PRIMARY KEY,moment,body)",
    "lane": "(kind INTEGER PRIMARY KEY,sealed_upto)",
    "batch": "(id INTEGER PRIMARY KEY,epoch,seq,kind,kid,first,last)",
    "requeue": "(id INTEGER PRIMARY KEY,kind,first,last)",
    "voided": "(epoch,seq,PRIMARY KEY(epoch,seq))WITHOUT ROWID",
    "fact": "(name PRIMARY KEY,value)WITHOUT ROWID",
    "sqlite_sequence": "(name,seq)",
}
"""What salvage reads, each table with the columns that it reads or that stand before them."""


def graft(damaged: Sequence[Path], copy: Sequence[Path]) -> None:
    """Copy a file set (WAL, shared memory, database) and give the database a first page. Raises OSError, apsw.Error."""
    for source, target in zip(damaged, copy, strict=True):
        target.unlink(missing_ok=True)
        if source.exists() and not source.name.endswith("-shm"):
            shutil.copyfile(source, target)
    path = copy[-1]
    donor = path.with_name(f"{path.stem}.donor{path.suffix}")
    size = page_bytes(path)
    try:
        page = bytearray(_first_page(donor, size))
    finally:
        for part in ("", "-wal", "-shm", "-journal"):
            donor.with_name(donor.name + part).unlink(missing_ok=True)
    # SQLite file format, section 1.3: pages at 28, free list at 32 and 36, change counter at 24, repeated at 92 for the
    # page count to be believed.
    page[28:32] = (path.stat().st_size // size).to_bytes(4, "big")
    page[32:40] = bytes(8)
    page[92:96] = page[24:28]
    with path.open("r+b") as file:
        file.write(page)


def page_bytes(path: Path) -> int:
    """How long the pages of a file are: as its header says, or, where that is damage, as its pages show.

    SQLite file format, section 1.3: the size at 16; 1.6: where the page of a B-tree begins there is 2, 5, 10 or 13.
    """
    small, large = PAGE_SIZES
    with path.open("rb") as file:
        content = file.read(_PAGES_LOOKED_AT * large)
    said = int.from_bytes(content[16:18], "big")
    if said in PAGE_SIZES:
        return said
    # Where only small pages can begin.
    begins = [content[at] in (2, 5, 10, 13) for at in range(small, len(content), small) if at % large]
    return small if sum(begins) > len(begins) / 8 else large


def _first_page(donor: Path, size: int) -> bytes:
    """The page that knows where the tables of `_TABLES` begin."""
    fresh = open_store(donor, page_bytes=size)
    try:
        roots = dict(fresh.execute("SELECT name, rootpage FROM sqlite_schema WHERE type = 'table'"))
        fresh.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
        fresh.execute("PRAGMA writable_schema = ON")
        # The old rows go before a new one comes, so that there are never more than fit on the page.
        fresh.execute("DELETE FROM sqlite_schema")
        fresh.executemany(
            "INSERT INTO sqlite_schema VALUES ('table', ?1, ?1, ?2, ?3)",
            [(name, roots[name], f"CREATE TABLE {name}{columns}") for name, columns in _TABLES.items()],
        )
    finally:
        fresh.close()
    page = donor.read_bytes()[:size]
    # Section 1.6, the page's own header at 100: a leaf, so that nothing else is needed to read the schema.
    assert page[100] == 13, "the schema of the graft stands on one page"
    return page
