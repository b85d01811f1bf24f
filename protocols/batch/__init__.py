"""Records to compact bytes and back: a packed row for the store, and the body of a batch.

`pack` and `unpack` turn one record into one row and back (`row.py`). `encode` and `decode` turn many into columns of
integer differences, deflated (`writing.py`, `reading.py`). Both keep every record as it was, to the last digit, and
the order of records. Bytes that are not ours raise Malformed, in bounded time and memory; a record beyond the limits
in `codes.py` raises ValueError when it is packed or encoded, and more records than one body takes raise TooMuch.
"""

from protocols.batch.codes import RECORDS_MAX, VALUES_MAX, TooMuch
from protocols.batch.reading import decode
from protocols.batch.row import pack, unpack
from protocols.batch.writing import encode, held

__all__ = ["RECORDS_MAX", "VALUES_MAX", "TooMuch", "decode", "encode", "held", "pack", "unpack"]
