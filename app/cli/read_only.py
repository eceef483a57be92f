"""A role that reads the views made for BI tools, and nothing else: what `falgate migrate --read-only-role` makes."""

import re
from typing import Final

import asyncpg

from app.cli.refusals import Refusal
from app.db import Database, Lock, Plain

VIEWS: Final = ("closed_month_totals", "job_costs", "ledger_entries", "quota_standing", "spend_by_day")

_NAME: Final = re.compile(r"(?!pg_)[a-z][a-z0-9_]{0,62}", re.ASCII)
_RESERVED: Final = frozenset({"public", "none", "current_role", "current_user", "session_user"})

# A role may also become each role that it belongs to (SET ROLE), whether it inherits from that one or not.
_ROLE: Final = """
SELECT bool_or(m.rolsuper OR m.rolreplication OR m.rolcreaterole OR m.oid = s.nspowner OR m.rolname = current_user
       OR EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = s.oid AND c.relowner = m.oid))
FROM pg_roles r JOIN pg_roles m ON pg_has_role(r.oid, m.oid, 'MEMBER'), pg_namespace s
WHERE r.rolname = $1 AND s.nspname = current_schema()
"""
_MORE: Final = """
SELECT c.relname FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
JOIN pg_roles m ON pg_has_role($1::name, m.oid, 'MEMBER')
WHERE s.nspname = current_schema() AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
  AND CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(m.oid, c.oid, 'USAGE, SELECT, UPDATE')
           ELSE has_any_column_privilege(m.oid, c.oid, 'INSERT, UPDATE, REFERENCES')
             OR has_table_privilege(m.oid, c.oid, 'DELETE, TRUNCATE, TRIGGER')
             OR (c.relname <> ALL ($2) AND has_any_column_privilege(m.oid, c.oid, 'SELECT')) END
ORDER BY c.relname LIMIT 1
"""


def require_role_name(name: str) -> None:
    """Raises Refusal for what is no plain name of a role of one's own."""
    if _NAME.fullmatch(name) is None or name in _RESERVED:
        raise Refusal(
            f"{name[:80]!r} cannot be the read-only role: take 1 to 63 of a-z, 0-9 and _, beginning with a letter and"
            " not with pg_."
        )


async def make_read_only_role(db: Database, name: str) -> bool:
    """Make the role if it is missing, and let it read the views; whether it was made.

    All or nothing, and the same however often. Raises Refusal when it cannot be made, or could do more than read
    the views.
    """
    require_role_name(name)
    async with db.begin_plain(first=f"SELECT pg_advisory_xact_lock({Lock.MIGRATE:d})") as plain:
        can_do_more = await plain.fetchval(_ROLE, name)
        if can_do_more:
            raise Refusal(
                f"The role {name} owns the database, makes roles, or is a superuser, or may become one who does: take"
                " another name."
            )
        if can_do_more is None:
            await _create(plain, name)
        await _grant(plain, name)
        if (table := await plain.fetchval(_MORE, name, list(VIEWS))) is not None:
            raise Refusal(
                f"The role {name} may do more than read the views, with {table} for one: take another name, or take"
                " that away from it (and from PUBLIC, and from the roles it belongs to)."
            )
    return can_do_more is None


async def _create(plain: Plain, name: str) -> None:
    try:
        await plain.execute(f'CREATE ROLE "{name}" NOLOGIN')
    except asyncpg.InsufficientPrivilegeError:
        raise Refusal(
            f'The user of DATABASE_URL may not make roles: let a superuser run CREATE ROLE "{name}" NOLOGIN; and then'
            " run this again."
        ) from None


async def _grant(plain: Plain, name: str) -> None:
    schema = await plain.fetchval("SELECT quote_ident(current_schema())")
    await plain.execute(f'REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM "{name}"')
    await plain.execute(f'GRANT USAGE ON SCHEMA {schema} TO "{name}"')
    await plain.execute(f'GRANT SELECT ON {", ".join(f"{schema}.{view}" for view in VIEWS)} TO "{name}"')
