"""`falgate keys create`: a key without HTTP, for whoever may open the database."""

import asyncio
from typing import Any
from uuid import UUID

import click
from sqlalchemy import Select, or_, select

from app.accounts.callers import COMMAND_LINE
from app.accounts.keys import create_key
from app.accounts.shapes import KeyBody, MadeKey
from app.accounts.tables import teams, users
from app.cli.database import embedded_option, settings_with_database
from app.cli.installation import open_installation
from app.cli.refusals import Refusal
from app.db import Tx
from app.ids import parse, show
from app.problems import InvalidInput
from app.settings import Settings
from app.wiring import utc_now

_MAKE_ONE = "make one first (POST /v1/users, see the README)"


@click.group
def command() -> None:
    """Keys from the command line."""


@command.command("create")
@click.option("--user", required=True, help="The id, email or name of a user who exists.")
@click.option("--name", default="command line", show_default=True, help="What the key is for.")
@click.option("--team", help="The id or name of the user's team, where a name alone is not enough.")
@embedded_option
def create(*, user: str, name: str, team: str | None, embedded: bool) -> None:
    """Make a key of a user. The secret is printed this once, alone on standard output."""
    with settings_with_database(embedded=embedded) as given:
        key = asyncio.run(_work(given.settings, user=user, name=name, team=team))
    click.echo(f"{show('key', key.id)} of {show('user', key.user_id)}; its secret is shown this once:", err=True)
    click.echo(key.secret)


async def _work(settings: Settings, *, user: str, name: str, team: str | None) -> MadeKey:
    async with open_installation(settings) as db, db.begin() as tx:
        user_id = await _require_user(tx, user, team=team)
        try:
            return await create_key(tx, KeyBody(user_id=user_id, name=name), actor=COMMAND_LINE, now=utc_now())
        except InvalidInput as problem:
            errors: Any = problem.members["errors"]
            raise Refusal("; ".join(fault["detail"] for fault in errors) + ".") from None


async def _require_user(tx: Tx, user: str, *, team: str | None) -> UUID:
    found = list(await tx.scalars(_users(user, team=team)))
    if len(found) == 1:
        return found[0]
    if not found:
        of_team = f" in a team {team!r}" if team else ""
        raise Refusal(f"There is no user of the id, email or name {user!r}{of_team}: {_MAKE_ONE}.")
    listed = ", ".join(show("user", user_id) for user_id in found)
    raise Refusal(f"{len(found)} users are called {user!r}: give the email, the --team, or one of the ids {listed}.")


def _users(user: str, *, team: str | None) -> Select[UUID]:
    """An id names one; an email too, as it is unique; a name may be several."""
    named = or_(users.c.name == user, users.c.email == user, users.c.id == parse("user", user))
    statement = select(users.c.id).join(teams, teams.c.id == users.c.team_id).where(named).order_by(users.c.id)
    if team is not None:
        statement = statement.where(or_(teams.c.name == team, teams.c.id == parse("team", team)))
    return statement
