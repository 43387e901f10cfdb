"""Watches in the database itself that only the instance with the newest term writes to the store.

Each instance has a database user of its own. Triggers note who wrote in which transaction, and PostgreSQL
keeps when each transaction was committed: so this rests on nothing that the program says of itself.
"""

import asyncio

from psycopg import sql

from tests.own_server import OwnServer

DATABASE = "docker_cache"

_TRIGGERS = """
CREATE SCHEMA watch;
CREATE TABLE watch.terms (xid xid8, term bigint, writer text);
CREATE TABLE watch.writes (xid xid8, writer text, name text, PRIMARY KEY (xid, name));

CREATE FUNCTION watch.note_term() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO watch.terms VALUES (pg_current_xact_id(), NEW.term, session_user);
    RETURN NULL;
END $$;

CREATE FUNCTION watch.note_write() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO watch.writes VALUES (pg_current_xact_id(), session_user, TG_TABLE_NAME) ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;

CREATE FUNCTION watch.watch_table() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE made record;
BEGIN
    FOR made IN SELECT * FROM pg_event_trigger_ddl_commands()
        WHERE command_tag = 'CREATE TABLE' AND schema_name = 'public'
    LOOP
        IF made.object_identity = 'public.leadership' THEN
            EXECUTE 'CREATE TRIGGER watch_term AFTER UPDATE ON public.leadership
                FOR EACH ROW EXECUTE FUNCTION watch.note_term()';
        ELSE
            EXECUTE format('CREATE TRIGGER watch_write AFTER INSERT OR UPDATE OR DELETE ON %s
                FOR EACH STATEMENT EXECUTE FUNCTION watch.note_write()', made.object_identity);
        END IF;
    END LOOP;
END $$;

CREATE EVENT TRIGGER watch_tables ON ddl_command_end WHEN TAG IN ('CREATE TABLE')
    EXECUTE FUNCTION watch.watch_table();
"""

_LATE = """
SELECT w.writer, w.name, t.term, t.writer
FROM watch.writes w
CROSS JOIN LATERAL (
    SELECT term, writer FROM watch.terms
    WHERE pg_xact_commit_timestamp(xid::xid) < pg_xact_commit_timestamp(w.xid::xid)
    ORDER BY term DESC LIMIT 1
) t
WHERE t.writer <> w.writer
"""

_COUNTS = "SELECT (SELECT count(*) FROM watch.writes), (SELECT count(*) FROM watch.terms)"


class StoreWatch:
    """Follows the writes to one database.

    Attributes:
        writes: How many were seen, after `find_late_writes`.
        terms: How many terms have begun, after it.
    """

    def __init__(self, server: OwnServer) -> None:
        self.writes = self.terms = 0
        self._server = server

    async def prepare(self, *users: str) -> None:
        """Create the empty database, with a user for each instance."""
        await asyncio.to_thread(self._prepare, users)

    def _prepare(self, users: tuple[str, ...]) -> None:
        with self._server.connect("postgres") as connection:
            for user in users:
                connection.execute(sql.SQL("CREATE ROLE {} SUPERUSER LOGIN").format(sql.Identifier(user)))
            connection.execute(f"CREATE DATABASE {DATABASE}")
        with self._server.connect(DATABASE) as connection:
            connection.execute(_TRIGGERS)

    def url(self, user: str) -> str:
        """Give the URL with which an instance connects."""
        return f"postgresql://{user}@127.0.0.1:{self._server.port}/{DATABASE}"

    async def find_late_writes(self) -> list[str]:
        """Name the transactions that were committed after another instance's term had begun."""
        return await asyncio.to_thread(self._find_late_writes)

    def _find_late_writes(self) -> list[str]:
        with self._server.connect(DATABASE) as connection:
            late = connection.execute(_LATE).fetchall()
            counts = connection.execute(_COUNTS).fetchone()
        assert counts is not None
        self.writes, self.terms = counts
        return [
            f"{writer} has written to {name} in the term {term} of {other}"
            for writer, name, term, other in late
        ]
