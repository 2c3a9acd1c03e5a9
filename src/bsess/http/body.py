"""Bodies: unpacked, bounded, and of large ones each element for itself."""

from __future__ import annotations

import codecs
import io
import json
import re
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

from bsess.http.bounded import ExchangeError
from bsess.output.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

BODY_MAX = 64 << 20
LARGE_MAX = 4 << 30
# What is larger than this goes to a file, where it may.
SPILL_FROM = 1 << 20
CHUNK = 1 << 16
_NO_SPACE = re.compile(r"[^ \t\r\n]")
_DECODER = json.JSONDecoder()


def whole(chunks: Iterable[bytes], encoding: str) -> bytes:
    """Return a body. Raises ExchangeError where it is too large or packed in a way that was not asked for."""
    return b"".join(_parts(chunks, encoding, BODY_MAX))


def spilled(chunks: Iterable[bytes], encoding: str) -> BinaryIO:
    """Return a body of any size as a file, in memory while it is small. Raises ExchangeError as `whole`."""
    file: BinaryIO = io.BytesIO()
    size = 0
    for part in _parts(chunks, encoding, LARGE_MAX):
        size += len(part)
        if size > SPILL_FROM and isinstance(file, io.BytesIO):
            import tempfile  # few answers are that large

            memory, file = file, tempfile.TemporaryFile()  # noqa: SIM115  its reader closes it
            file.write(memory.getbuffer())
        file.write(part)
    file.seek(0)
    return file


def elements(file: BinaryIO) -> Iterator[Any]:
    """Yield the elements of a JSON array. Raises ValueError where it is none, or not whole."""
    text = _Text(file)
    if not text.take("["):
        raise ValueError("no array")
    if not text.take("]"):
        yield text.value()
        while text.take(","):
            yield text.value()
        if not text.take("]"):
            raise ValueError("cut off")
    if text.peek():
        raise ValueError("more than an array")


class _Text:
    """A file's text, of which no more is held than one element needs."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._text, self._at, self._wanted = "", 0, CHUNK

    def peek(self) -> str:
        """Return the next character that is no space; none at the end."""
        while True:
            found = _NO_SPACE.search(self._text, self._at)
            if found:
                self._at = found.start()
                return found[0]
            self._at = len(self._text)
            if not self._more():
                return ""

    def take(self, character: str) -> bool:
        """Step over a character, where it is the next one."""
        found = self.peek() == character
        self._at += found
        return found

    def value(self) -> Any:  # noqa: ANN401  whatever the server sent
        """Step over a JSON value and return it; something follows it in every array. Raises ValueError."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError:
                end = len(self._text)
            # A number may go on in what is not read yet.
            if end < len(self._text):
                self._at, self._wanted = end, CHUNK
                return value
            if not self._more():
                raise ValueError("cut off")

    def _more(self) -> bool:
        chunk = self._file.read(self._wanted)
        # Of an element that is larger than all that was read, more is read each time.
        self._wanted *= 2
        self._text, self._at = self._text[self._at :] + self._decode(chunk, final=not chunk), 0
        return bool(chunk)


def _parts(chunks: Iterable[bytes], encoding: str, most: int) -> Iterator[bytes]:
    unpack = _unpacker(encoding)
    size = 0
    for chunk in chunks:
        for part in unpack(chunk):
            size += len(part)
            if size > most:
                raise ExchangeError(f"its answer is larger than {most >> 20} MB", sent=True, passing=False)
            yield part


def _unpacker(encoding: str) -> Callable[[bytes], Iterator[bytes]]:
    if encoding.strip().lower() in ("", "identity"):
        return lambda chunk: iter((chunk,))
    if encoding.strip().lower() not in ("gzip", "deflate", "x-gzip"):
        raise ExchangeError(
            f"its answer is packed as {clean(encoding)[:20]}, which was not asked for", sent=True, passing=False
        )
    unpacker = zlib.decompressobj(wbits=47)

    def unpack(chunk: bytes) -> Iterator[bytes]:
        try:
            while chunk:
                yield unpacker.decompress(chunk, CHUNK)
                chunk = unpacker.unconsumed_tail
        except zlib.error as error:
            raise ExchangeError(f"its answer cannot be unpacked: {error}", sent=True, passing=False) from error

    return unpack
