"""Reads a listing as a stream of records, so that 250,000 LRPs never are one message in memory.

Every list response of the BBS has the same shape: an error in field 1, and one record after another in
field 2. Only the conversion of a record needs generated code.

Source: protobuf's encoding specification; cloudfoundry/bbs models/desired_lrp_requests.proto.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

import httpx
from google.protobuf.message import DecodeError

from controller.bbs.bbs_errors import SYSTEM, error_from_exception, error_from_message
from protos.bbs.error_pb2 import Error
from reconcile.errors import Invalid, Unavailable

T = TypeVar("T")

MAX_RECORD = 64 * 1024 * 1024
"""Bytes of one record; no BBS sends more."""

_ERROR, _RECORD = 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class BrokenListing(Exception):
    """The body is no protobuf message, or ends within a record."""


class RecordReader:
    """Splits a message into its length-delimited fields as the bytes arrive."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield number and payload of each field that a chunk completes; the iterator must be exhausted.

        Raises:
            BrokenListing: The bytes are no message.
        """
        self._rest += chunk
        at = 0
        while (field := self._field(at)) is not None:
            number, start, at = field
            if start >= 0:
                yield number, bytes(self._rest[start:at])
        del self._rest[:at]

    def finish(self) -> None:
        """Check that the body ended at the end of a field.

        Raises:
            BrokenListing: It did not.
        """
        if self._rest:
            raise BrokenListing("it ends within a record")

    def _field(self, at: int) -> tuple[int, int, int] | None:
        """Find number, start and end of the field at an offset; the start is -1 for a number."""
        if (tag := self._varint(at)) is None:
            return None
        key, at = tag
        number, kind = key >> 3, key & 7
        if kind in {_FIXED64, _FIXED32}:
            end = at + (8 if kind == _FIXED64 else 4)
            return (number, -1, end) if end <= len(self._rest) else None
        if kind not in {_VARINT, _BYTES} or number == 0:
            raise BrokenListing(f"it has a field {number} of kind {kind}")
        if (value := self._varint(at)) is None:
            return None
        size, at = value
        if kind == _VARINT:
            return number, -1, at
        if size > MAX_RECORD:
            raise BrokenListing(f"it has a record of {size} bytes")
        return (number, at, at + size) if at + size <= len(self._rest) else None

    def _varint(self, at: int) -> tuple[int, int] | None:
        value = 0
        for shift, byte in enumerate(self._rest[at : at + 10]):
            value |= (byte & 0x7F) << (7 * shift)
            if byte < 0x80:
                return value, at + shift + 1
        if len(self._rest) - at >= 10:
            raise BrokenListing("it has a number of more than ten bytes")
        return None


class Listing(Generic[T]):
    """The records of one list call, read as they arrive; it can be iterated once.

    A listing that breaks off raises an error in the middle: the records before it are valid, but incomplete.
    Wrap the iterator in `contextlib.aclosing` where the loop over it may end early.

    Attributes:
        skipped: Number of records that could not be read, of which nothing is known.
        received: Number of records, those included that are left out or could not be read.
    """

    def __init__(
        self,
        body: AbstractAsyncContextManager[httpx.Response],
        *,
        convert: Callable[[bytes], T | None],
        call: str,
    ) -> None:
        self.skipped = 0
        self.received = 0
        self._body = body
        self._convert = convert
        self._call = call

    async def __aiter__(self) -> AsyncIterator[T]:
        """Yield the records.

        Raises:
            Unavailable: The listing ended too early, or there was no response.
        """
        reader = RecordReader()
        try:
            async with self._body as response:
                async for chunk in response.aiter_bytes():
                    for number, payload in reader.feed(chunk):
                        if number == _ERROR:
                            raise error_from_message(Error.FromString(payload), call=self._call)
                        self.received += number == _RECORD
                        record = self._read(payload) if number == _RECORD else None
                        if record is not None:
                            yield record
                    await asyncio.sleep(0)  # a chunk that has already arrived is returned without giving way
                reader.finish()
        except (BrokenListing, DecodeError) as error:
            raise Unavailable(SYSTEM, "BrokenListing", f"{self._call}: {error}") from error
        except httpx.HTTPError as error:
            raise error_from_exception(error, call=self._call) from error

    def _read(self, payload: bytes) -> T | None:
        try:
            return self._convert(payload)
        except (DecodeError, Invalid):
            self.skipped += 1
            return None
