"""Reads the plan of a statement, as each kind of database explains it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class Step:
    """One way in which rows are found or ordered.

    Attributes:
        table: Whose rows are read; empty for rows that other steps have found.
        index: In which they are found; empty without one.
        is_search: Whether only the rows of some values are read, not all.
        is_by_key: Whether each row is found by the whole of a unique key.
        is_sorted: Whether rows are sorted here.
        is_of_page: Whether the rows are those that a limit has left already.
    """

    table: str = ""
    index: str = ""
    is_search: bool = True
    is_by_key: bool = False
    is_sorted: bool = False
    is_of_page: bool = False


def steps_of(connection: Connection, statement: str, parameters: Any) -> list[Step]:
    """Explain a statement, as it was given to the driver."""
    explain = _EXPLAINED[connection.dialect.name]
    return list(explain(connection, statement, parameters))


def _sqlite(connection: Connection, statement: str, parameters: Any) -> Iterator[Step]:
    rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", tuple(parameters))
    lines = [str(row[3]) for row in rows]
    has_subquery = any("anon_1" in line for line in lines)
    for line in lines:
        found = re.match(r"(SCAN|SEARCH) (\w+)(?: USING (?:COVERING )?(?:INDEX )?(.*))?", line)
        if found is not None and found[2] != "anon_1":
            how = found[3] or ""
            by_key = "sqlite_autoindex" in how
            yield Step(found[2], how, is_search=found[1] == "SEARCH", is_by_key=by_key)
        elif "TEMP B-TREE" in line:
            yield Step(is_sorted=True, is_of_page=has_subquery)


def _postgresql(connection: Connection, statement: str, parameters: Any) -> Iterator[Step]:
    # A table of some hundred rows is read faster without its indexes, and joined by reading both sides.
    for name in ("enable_seqscan", "enable_hashjoin", "enable_mergejoin"):
        connection.exec_driver_sql(f"SET LOCAL {name} = off")
    ((explained,),) = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).all()
    (found,) = explained
    yield from _postgresql_steps(found["Plan"])


def _postgresql_steps(node: dict[str, Any]) -> Iterator[Step]:
    below = node.get("Plans", [])
    kind, table = str(node["Node Type"]), str(node.get("Relation Name", ""))
    if "Scan" in kind and kind != "Bitmap Heap Scan" and (table or "Index Name" in node):
        index = str(node.get("Index Name", ""))
        condition = str(node.get("Index Cond", ""))
        by_key = index.startswith(("pk_", "uq_"))
        yield Step(table or index, index, is_search=bool(condition), is_by_key=by_key and bool(condition))
    if "Sort" in kind:
        yield Step(is_sorted=True, is_of_page=any(_has_limit(each) for each in below))
    for each in below:
        yield from _postgresql_steps(each)


def _has_limit(node: dict[str, Any]) -> bool:
    return node["Node Type"] == "Limit" or any(_has_limit(each) for each in node.get("Plans", []))


def _mysql(connection: Connection, statement: str, parameters: Any) -> Iterator[Step]:
    rows = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).mappings().all()
    has_subquery = any(str(row["table"]).startswith("<") for row in rows)
    for row in rows:
        how, table, extra = str(row["type"] or ""), str(row["table"] or ""), str(row["Extra"] or "")
        if table and not table.startswith("<"):
            yield Step(
                table,
                str(row["key"] or ""),
                is_search=how not in {"ALL", "index"},
                is_by_key=how in {"const", "eq_ref", "system"},
            )
        if "filesort" in extra:
            yield Step(is_sorted=True, is_of_page=has_subquery)


_EXPLAINED = {"sqlite": _sqlite, "postgresql": _postgresql, "mysql": _mysql}
