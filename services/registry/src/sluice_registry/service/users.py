"""Users: who may log in, and what his sessions may."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from sluice_core.audit import note
from sluice_core.auth import Identity
from sluice_core.database import Database, after_commit
from sluice_registry.errors import UserExists, UserUnknown
from sluice_registry.service.audit import acted
from sluice_registry.service.hashes import Hashes
from sluice_registry.service.identity import TokenIssuer, insist_on_rights
from sluice_registry.store.identity import IdentityStore
from sluice_registry.store.users import Row, UserStore

__all__ = ["NewUser", "Users"]


@dataclass(frozen=True)
class NewUser:
    """A user to be made.

    Attributes
    ----------
    password
        None: he cannot log in by one.
    """

    username: str
    email: str
    roles: Sequence[str]
    is_active: bool
    password: str | None


class Users:
    """What can be done with users; every method raises `DatabaseAway` when PostgreSQL cannot be reached.

    Nobody manages a user who may more than himself: by that user's password, he would be him.

    Parameters
    ----------
    issuer
        Knows what other services must know of them.
    """

    def __init__(self, database: Database, issuer: TokenIssuer, hashes: Hashes) -> None:
        self._database = database
        self._issuer = issuer
        self._hashes = hashes

    async def create(self, new: NewUser, caller: Identity) -> Row:
        """Make a user.

        Raises
        ------
        UserExists
            There is one of this name.
        BeyondOwnRights
            The caller does not hold all that the roles grant.
        PasswordsAway
            Too many passwords wait to be hashed.
        """
        insist_on_rights(caller, new.roles, ())
        hashed = None if new.password is None else await self._hashes.make(new.password)

        def work(connection: Connection) -> Row:
            row = UserStore(connection).add(
                username=new.username,
                email=new.email,
                roles=list(new.roles),
                is_active=new.is_active,
                password_hash=hashed,
            )
            if row is None:
                raise UserExists(f"There is a user {new.username!r} already.")
            acted(connection, "user.created", by=caller.subject, about=new.username, roles=list(new.roles))
            after_commit(connection, self._issuer.changed)
            return row

        row: Row = await self._database.run(self._database.transact, work)
        await self._issuer.refresh()
        return row

    async def get(self, username: str) -> Row:
        """Return a user.

        Raises
        ------
        UserUnknown
            There is none of this name.
        """
        row = await self._database.run(
            lambda: self._database.read(lambda connection: UserStore(connection).get(username))
        )
        return _found(row, username)

    async def after(self, username: str, limit: int, **narrowed: Any) -> Sequence[Row]:
        """Return users in the order of their names, from the first one behind ``username`` on.

        Parameters
        ----------
        narrowed
            ``active`` and ``role`` of `UserStore.after`.
        """
        return await self._database.run(
            lambda: self._database.read(lambda connection: UserStore(connection).after(username, limit, **narrowed))
        )

    async def change(self, username: str, changes: dict[str, Any], caller: Identity) -> Row:
        """Write some of ``email``, ``is_active``, ``roles`` and ``password``.

        Who is switched off loses all his tokens and sessions at once, and does not get them back when he is switched
        on again. New roles or a new password end his sessions.

        Raises
        ------
        UserUnknown
            There is none of this name.
        BeyondOwnRights
            He may more than the caller, or would then.
        PasswordsAway
            Too many passwords wait to be hashed.
        """
        values = {name: value for name, value in changes.items() if name != "password"}
        insist_on_rights(caller, values.get("roles", ()), ())
        if "password" in changes:
            password: str | None = changes["password"]
            values["password_hash"] = None if password is None else await self._hashes.make(password)

        def work(connection: Connection) -> Row:
            users = UserStore(connection)
            before = _found(users.get(username, lock=True), username)
            note().key = username
            insist_on_rights(caller, before["roles"], ())
            row = _found(users.change(username, values), username)
            if not row["is_active"]:
                IdentityStore(connection).revoke_all(username)
            elif "password" in changes or row["roles"] != before["roles"]:
                IdentityStore(connection).revoke_all(username, sessions_only=True)
            acted(connection, "user.changed", by=caller.subject, about=username, changed=sorted(changes))
            after_commit(connection, self._issuer.changed)
            return row

        row: Row = await self._database.run(self._database.transact, work)
        await self._issuer.refresh()
        return row

    async def unbind(self, username: str, caller: Identity) -> None:
        """Forget whom the facility's provider means by this name, and end his sessions.

        Who logs in there by this name next is then the user, unless he has a password; so this is for somebody who got
        a new account there.

        Raises
        ------
        UserUnknown
            There is none of this name.
        BeyondOwnRights
            He may more than the caller.
        """

        def work(connection: Connection) -> None:
            users = UserStore(connection)
            before = _found(users.whole(username), username)
            note().key = username
            insist_on_rights(caller, before["roles"], ())
            if before["facility_subject"] is None:
                return
            users.change(username, {"facility_subject": None})
            IdentityStore(connection).revoke_all(username, sessions_only=True)
            acted(connection, "user.unbound", by=caller.subject, about=username)
            after_commit(connection, self._issuer.changed)

        await self._database.run(self._database.transact, work)
        await self._issuer.refresh()


def _found(row: Row | None, username: str) -> Row:
    if row is None:
        raise UserUnknown(f"There is no user {username!r}.")
    return row
