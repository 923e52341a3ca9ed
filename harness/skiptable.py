"""The skip list as a database table, for jobs that share no file system."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

from taskgate.harness.errors import SkipListError
from taskgate.harness.skiplist import Entry

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
    """The table `taskgate_skip_list`, made where it is missing. SQLite and PostgreSQL."""

    def __init__(self, url: str) -> None:
        """Raises SkipListError for a URL that can't be used; does not connect yet."""
        try:
            parsed = sa.make_url(url)
            if parsed.drivername in ("postgres", "postgresql"):
                parsed = parsed.set(drivername="postgresql+psycopg")
            self.name = parsed.render_as_string(hide_password=True)
            kind = parsed.get_backend_name()
            if kind not in ("sqlite", "postgresql"):
                raise SkipListError(f"{kind} is neither sqlite nor postgresql", file=self.name)
            # Without client_encoding, psycopg gives bytes for the text of a database of SQL_ASCII.
            postgres = {"connect_timeout": CONNECT_SECONDS, "client_encoding": "utf8"}
            wait = {"timeout": CONNECT_SECONDS} if kind == "sqlite" else postgres
            self._insert = sqlite.insert if kind == "sqlite" else postgresql.insert
            self._engine = sa.create_engine(parsed, connect_args=wait, poolclass=sa.NullPool)
        except (SQLAlchemyError, NoSuchModuleError, ImportError, ValueError) as error:
            raise SkipListError(f"can't be used: {error}", file=url.partition("://")[0] + "://…") from error

    def read(self) -> dict[str, Entry]:
        try:
            with self._engine.connect() as connection:
                if not sa.inspect(connection).has_table(table.name):
                    return {}
                rows = connection.execute(sa.select(table)).mappings()
                return {row["task_id"]: Entry(**row) for row in rows}
        except SQLAlchemyError as error:
            raise self._trouble(error) from error

    def update(self, add: Iterable[Entry], remove: Iterable[str]) -> None:
        # PostgreSQL's texts hold no NUL.
        adding = [
            {
                "task_id": entry.task_id,
                **{name: (getattr(entry, name) or "").replace("\0", "") or None for name in KNOWN},
            }
            for entry in add
        ]
        removing = list(remove)
        not_by_hand = sa.or_(*(table.c[name].is_not(None) for name in KNOWN))
        insert = self._insert(table)
        fresh = {name: insert.excluded[name] for name in KNOWN if name != "first"}
        upsert = insert.on_conflict_do_update(
            index_elements=["task_id"],
            set_={**fresh, "first": sa.func.coalesce(table.c.first, insert.excluded.first)},
            where=not_by_hand,
        )
        try:
            self._create()
            with self._engine.begin() as connection:
                if adding:
                    # In one order everywhere, so that two jobs never wait for each other.
                    connection.execute(upsert, sorted(adding, key=lambda row: str(row["task_id"])))
                for start in range(0, len(removing), 500):
                    part = sorted(removing)[start : start + 500]
                    connection.execute(sa.delete(table).where(table.c.task_id.in_(part), not_by_hand))
        except SQLAlchemyError as error:
            raise self._trouble(error) from error

    def _create(self) -> None:
        try:
            metadata.create_all(self._engine)
        except SQLAlchemyError:
            # Another job may have made it between the look and the making.
            with self._engine.connect() as connection:
                if not sa.inspect(connection).has_table(table.name):
                    raise

    def _trouble(self, error: SQLAlchemyError) -> SkipListError:
        words = str(getattr(error, "orig", None) or error).strip().splitlines() or ["unknown"]
        return SkipListError(f"the database failed: {words[0]}", file=self.name)
