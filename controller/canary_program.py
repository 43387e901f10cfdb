"""Builds the program in a canary's image: an ELF file for Linux on x86-64 that ends at once, or only pauses.

It is static, and makes one system call. A cell with another processor cannot run it, and says so once it has
pulled the image and made the container: that is all that a canary asks.

Source: System V ABI, ELF-64 object file format; Linux system call numbers of x86-64.
"""

import struct

_ADDRESS = 0x400000
_HEADER_SIZE = 64
_SEGMENT_SIZE = 56
_ENTRY = _HEADER_SIZE + _SEGMENT_SIZE

_EXIT = bytes.fromhex("bf00000000 b83c000000 0f05")
"""mov edi, 0; mov eax, 60; syscall: exit(0)."""

_PAUSE = bytes.fromhex("b822000000 0f05 ebf7")
"""mov eax, 34; syscall; jmp to the start: pause(), again after each signal that has not ended it."""


def exiting_program() -> bytes:
    """Build the program that exits with status 0."""
    return _elf(_EXIT)


def pausing_program() -> bytes:
    """Build the program that waits for the signal that ends it."""
    return _elf(_PAUSE)


def _elf(code: bytes) -> bytes:
    """Write an executable of one segment, which holds the headers as well."""
    identification = b"\x7fELF" + bytes([2, 1, 1])  # 64 bits, little-endian, version 1
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        identification,
        2,  # executable
        62,  # x86-64
        1,
        _ADDRESS + _ENTRY,
        _HEADER_SIZE,  # where the segment's header begins
        0,
        0,
        _HEADER_SIZE,
        _SEGMENT_SIZE,
        1,
        0,
        0,
        0,
    )
    size = _ENTRY + len(code)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _ADDRESS, _ADDRESS, size, size, 0x1000)  # load; read, execute
    return header + segment + code
