"""The skip list as a database table, for jobs that share no file system."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

from taskgate.harness.base.errors import SkipListError
from taskgate.harness.base.redaction import redacted
from taskgate.harness.gate.skip_entry import UNCHECKED, Clearance, Entry, check_id

CONNECT_SECONDS = 10
KNOWN = ("check", "reason", "image", "digest", "fingerprint", "first", "last", "run")

metadata = sa.MetaData()
table = sa.Table(
    "taskgate_skip_list",
    metadata,
    sa.Column("task_id", sa.Text, primary_key=True),
    *(sa.Column(name, sa.Text) for name in KNOWN),
)


class TableSkipList:
    """The table `taskgate_skip_list`, created if it is missing. SQLite and PostgreSQL."""

    def __init__(self, url: str) -> None:
        """Raises SkipListError for a URL that can't be used; does not connect yet."""
        try:
            parsed = sa.make_url(url)
            if parsed.drivername in ("postgres", "postgresql"):
                parsed = parsed.set(drivername="postgresql+psycopg")
            self.name = redacted(url)
            kind = parsed.get_backend_name()
            if kind not in ("sqlite", "postgresql"):
                raise SkipListError(f"{kind} is neither sqlite nor postgresql", file=self.name)
            if kind == "sqlite" and parsed.database in (None, "", ":memory:"):
                raise SkipListError("a database in memory keeps nothing: sqlite:///path", file=self.name)
            # Without client_encoding, psycopg gives bytes for the text of a database of SQL_ASCII.
            postgres = {"connect_timeout": CONNECT_SECONDS, "client_encoding": "utf8"}
            wait = {"timeout": CONNECT_SECONDS} if kind == "sqlite" else postgres
            self._insert = sqlite.insert if kind == "sqlite" else postgresql.insert
            self._engine = sa.create_engine(parsed, connect_args=wait, poolclass=sa.NullPool)
        except (NoSuchModuleError, ImportError) as error:
            kind = url.partition(":")[0]
            extra = ": pip install 'taskgate[postgresql]'" if kind.startswith("postgresql") else ""
            raise SkipListError(f"can't be used: {error}{extra}", file=f"{kind}://…") from error
        except (SQLAlchemyError, ValueError):
            # The message, and the error itself, may hold a part of a password that isn't percent-encoded.
            where = url.partition("://")[0] + "://…"
            raise SkipListError("is no database URL; are `/`, `@` and `:` percent-encoded?", file=where) from None

    def read(self) -> dict[str, Entry]:
        try:
            with self._engine.connect() as connection:
                if not sa.inspect(connection).has_table(table.name):
                    return {}
                rows = connection.execute(sa.select(table)).mappings()
                return {row["task_id"]: Entry(**row) for row in rows}
        except SQLAlchemyError as error:
            raise self._failure(error) from error

    def update(self, add: Iterable[Entry], remove: Iterable[str | Clearance]) -> None:
        adding = [
            {"task_id": entry.task_id, **{name: _storable(getattr(entry, name)) for name in KNOWN}} for entry in add
        ]
        for row in adding:
            check_id(str(row["task_id"]), self.name)
        kept = {row["task_id"] for row in adding}
        removing = {
            name: item for item in remove if (name := item if isinstance(item, str) else item.task_id) not in kept
        }
        if not adding and not removing:
            return
        not_by_hand = sa.or_(*(table.c[name].is_not(None) for name in KNOWN))
        insert = self._insert(table)
        fresh = {name: insert.excluded[name] for name in KNOWN if name != "first"}
        upsert = insert.on_conflict_do_update(
            index_elements=["task_id"],
            set_={**fresh, "first": sa.func.coalesce(table.c.first, insert.excluded.first)},
            where=sa.and_(not_by_hand, sa.not_(_outweighs(insert.excluded))),
        )
        try:
            self._create()
            with self._engine.begin() as connection:
                if connection.dialect.name == "postgresql":
                    # One writer at a time: a job that adds what another removes would be a deadlock. Readers go on.
                    connection.execute(sa.text(f"LOCK TABLE {table.name} IN SHARE ROW EXCLUSIVE MODE"))
                if adding:
                    connection.execute(upsert, adding)
                for task_id, item in removing.items():
                    delete = sa.delete(table).where(table.c.task_id == task_id, not_by_hand)
                    connection.execute(delete if isinstance(item, str) else delete.where(_cleared(item)))
        except SQLAlchemyError as error:
            raise self._failure(error) from error

    def discard(self, ids: Iterable[str]) -> None:
        try:
            self._create()
            with self._engine.begin() as connection:
                for task_id in ids:
                    connection.execute(sa.delete(table).where(table.c.task_id == task_id))
        except SQLAlchemyError as error:
            raise self._failure(error) from error

    def _create(self) -> None:
        try:
            metadata.create_all(self._engine)
        except SQLAlchemyError:
            # Another job may have created it meanwhile.
            with self._engine.connect() as connection:
                if not sa.inspect(connection).has_table(table.name):
                    raise

    def _failure(self, error: SQLAlchemyError) -> SkipListError:
        lines = str(getattr(error, "orig", None) or error).strip().splitlines() or ["unknown"]
        return SkipListError(f"the database failed: {lines[0]}", file=self.name)


def _outweighs(fresh: sa.ColumnCollection[str, sa.ColumnElement[str]]) -> sa.ColumnElement[bool]:
    """`skip_entry.outweighs` for the database: is the row that is there the newer statement about the same digest?"""
    newer = sa.func.coalesce(table.c.last, "") > sa.func.coalesce(fresh.last, "")
    return sa.and_(sa.func.coalesce(table.c.digest == fresh.digest, sa.false()), newer)


def _cleared(clearance: Clearance) -> sa.ColumnElement[bool]:
    """`Clearance.clears` as a condition: what another job writes between reading and deleting must stay."""
    checks = [name for name in UNCHECKED if name] + sorted(clearance.checks)
    ran = sa.or_(table.c.check.is_(None), table.c.check.in_(checks))
    same = [table.c.digest == clearance.digest] if clearance.digest else []
    if same and clearance.judged:
        same = [sa.and_(*same, sa.func.coalesce(table.c.last, "") <= clearance.judged)]
    if seen := clearance.seen:
        same.append(sa.and_(*(table.c[name].is_not_distinct_from(getattr(seen, name)) for name in KNOWN)))
    return sa.and_(ran, sa.or_(sa.false(), *same))


def _storable(text: str | None) -> str | None:
    """What any database takes: no NUL, no half of a surrogate pair."""
    return (text or "").replace("\0", "").encode(errors="backslashreplace").decode() or None
