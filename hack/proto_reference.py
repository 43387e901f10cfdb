"""Reads protos/admin/admin.proto as text, comments included, and writes it as tables.

A descriptor made by the compiler has no comments, and this file is ours, so its form is known.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PROTO = Path(__file__).parent.parent / "protos" / "admin" / "admin.proto"

_BLOCK = re.compile(r"^(service|message|enum) (\w+) \{(\})?")
_CALL = re.compile(r"^rpc (\w+)\((stream )?(\w+)\) returns \((stream )?(\w+)\);")
_FIELD = re.compile(r"^(?:(repeated) )?(map<.+>|[\w.]+) (\w+) = \d+;")
_VALUE = re.compile(r"^([A-Z][A-Z0-9_]*) = (\d+);")


@dataclass(slots=True)
class _Block:
    kind: str
    name: str
    comment: str
    rows: list[tuple[str, ...]] = field(default_factory=list)


def _blocks(text: str) -> Iterator[_Block]:
    block: _Block | None = None
    comment, depth = list[str](), 0
    for line in map(str.strip, text.splitlines()):
        if line.startswith("//"):
            comment.append(line.removeprefix("//").strip())
            continue
        said, begun = " ".join(comment), _BLOCK.match(line)
        if begun:
            block, depth = _Block(begun[1], begun[2], said), 1
            if begun[3]:
                yield block
                block = None
        elif block is not None and line.startswith("oneof"):
            depth += 1
        elif block is not None and line == "}":
            depth -= 1
            if not depth:
                yield block
                block = None
        elif block is not None and line:
            block.rows.append(_row(line, said))
        comment = []


def _row(line: str, comment: str) -> tuple[str, ...]:
    if call := _CALL.match(line):
        return (call[1], f"{call[2] or ''}{call[3]}", f"{call[4] or ''}{call[5]}", comment)
    if entry := _FIELD.match(line):
        return (entry[3], f"{entry[1]} {entry[2]}" if entry[1] else entry[2], comment)
    if value := _VALUE.match(line):
        return (value[1], comment)
    raise ValueError(f"{PROTO.name}: cannot read {line}")


def admin_api() -> str:
    """Write the calls, messages and enumerations of the admin API."""
    text = PROTO.read_text()
    blocks = list(_blocks(text))
    linked = {block.name for block in blocks if block.rows}
    lines = list[str]()
    for block in blocks:
        if block.kind == "service":
            lines += ["## Calls", "", "| call | request | answer | meaning |", "| --- | --- | --- | --- |"]
            lines += [
                f"| `{name}` | {_type(asked, linked)} | {_type(answer, linked)} | {comment} |"
                for name, asked, answer, comment in block.rows
            ]
            lines.append("")
    for kind, heading in (("message", "Messages"), ("enum", "Enumerations")):
        lines += [f"## {heading}", ""]
        for block in blocks:
            if block.kind == kind and block.rows:
                lines += [*_table(block, linked), ""]
    return "\n".join(lines).rstrip()


def _table(block: _Block, linked: set[str]) -> list[str]:
    lines = [f"### {block.name}", "", *([block.comment, ""] if block.comment else [])]
    if block.name == "Reason":
        return [
            *lines,
            "One value for each of the [reasons](reasons.md), in capitals, with the prefix `REASON_`.",
        ]
    if block.kind == "enum":
        rows = [f"| `{name}` | {comment} |" for name, comment in block.rows]
        return [*lines, "| value | meaning |", "| --- | --- |", *rows]
    rows = [f"| `{name}` | {_type(kind, linked)} | {comment} |" for name, kind, comment in block.rows]
    return [*lines, "| field | type | meaning |", "| --- | --- | --- |", *rows]


def _type(text: str, linked: set[str]) -> str:
    prefix, _, name = text.rpartition(" ")
    shown = f"[{name}](#{name.lower()})" if name in linked else f"`{name}`"
    return f"{prefix} {shown}".strip()
