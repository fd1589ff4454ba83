"""``/api/auth/users/`` and ``/api/auth/roles/``."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from sluice_core.auth import ROLES, Identity, Scope
from sluice_core.auth.fastapi import REFUSALS, require
from sluice_core.auth.scopes import resolve
from sluice_registry.handlers.answers import Key, Limit, json_response, page_response
from sluice_registry.handlers.tokens import Role
from sluice_registry.service.users import NewUser, Users

__all__ = ["router"]

PATH = "/api/auth/users/"

Username = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[A-Za-z0-9_.@+-]{1,150}$")]
Email = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=254, pattern=r"^([^@\s\x00]+@[^@\s\x00]+)?$")
]
Password = Annotated[SecretStr, Field(min_length=8, max_length=1024)]
Roles = Annotated[list[Role], Field(max_length=50)]


class NewAccount(BaseModel):
    """A user to be made."""

    model_config = ConfigDict(extra="forbid")

    username: Username
    email: Email = ""
    roles: Roles = []
    is_active: bool = True
    password: Password | None = Field(None, description="Without one he cannot log in by password")


class AccountChange(BaseModel):
    """What may change; what is absent stays."""

    model_config = ConfigDict(extra="forbid")

    # The defaults are never written.
    email: Email = Field(default_factory=str)
    roles: Roles = Field(default_factory=list)
    is_active: bool = Field(default_factory=bool)
    password: Password | None = Field(None, description="null: he cannot log in by password any more")


class Account(BaseModel):
    """A user."""

    username: str
    email: str
    is_active: bool
    roles: list[str]
    created_at: datetime
    last_login: datetime | None


class ScopeShown(BaseModel):
    """A right."""

    name: str
    description: str


class RoleShown(BaseModel):
    """A set of rights that has a name."""

    name: str
    scopes: list[ScopeShown]


def router(users: Users) -> APIRouter:
    """Return everything about users and roles."""
    routes = APIRouter(tags=["auth"])
    admin = require(Scope.TOKENS_ADMIN)
    unknown: dict[int | str, dict[str, Any]] = {404: {"description": "No such user"}}

    @routes.get(
        PATH,
        summary="Users by name",
        operation_id="users_list",
        response_description="A page of users",
        response_model=list[Account],
        responses=REFUSALS,
    )
    async def find(
        request: Request,
        _: Annotated[Identity, admin],
        limit: Limit = 100,
        after: Annotated[Key, Query(description="Only names behind this one")] = "",
        active: Annotated[bool | None, Query(description="Only those who are, or are not, switched on")] = None,
        role: Annotated[Role | None, Query(description="Only those with this role")] = None,
    ) -> Response:
        rows = await users.after(after, limit + 1, active=active, role=role)
        return page_response(request, rows, limit, key="username")

    @routes.post(
        PATH,
        status_code=201,
        summary="Make a user",
        description="Nobody can grant more than he may.",
        operation_id="users_create",
        response_description="The user",
        response_model=Account,
        responses=REFUSALS | {409: {"description": "There is one of this name"}},
    )
    async def create(body: NewAccount, caller: Annotated[Identity, admin]) -> Response:
        new = NewUser(
            username=body.username,
            email=body.email,
            roles=sorted(set(body.roles)),
            is_active=body.is_active,
            password=None if body.password is None else body.password.get_secret_value(),
        )
        return json_response(await users.create(new, caller), 201)

    @routes.get(
        f"{PATH}{{username}}/",
        summary="One user",
        operation_id="users_read",
        response_description="The user",
        response_model=Account,
        responses=REFUSALS | unknown,
    )
    async def read(username: Key, _: Annotated[Identity, admin]) -> Response:
        return json_response(await users.get(username))

    @routes.patch(
        f"{PATH}{{username}}/",
        summary="Change roles, address or password of a user, or switch him off or on",
        description="Who is switched off loses his tokens and sessions at once, and does not get them back. New roles "
        "or a new password end his sessions. Nobody changes a user who may more than himself.",
        operation_id="users_change",
        response_description="The user as he is now",
        response_model=Account,
        responses=REFUSALS | unknown,
    )
    async def change(username: Key, body: AccountChange, caller: Annotated[Identity, admin]) -> Response:
        changes = body.model_dump(exclude_unset=True)
        if "roles" in changes:
            changes["roles"] = sorted(set(changes["roles"]))
        if body.password is not None:
            changes["password"] = body.password.get_secret_value()
        return json_response(await users.change(username, changes, caller))

    @routes.delete(
        f"{PATH}{{username}}/",
        status_code=204,
        summary="Switch a user off",
        description="His name stays taken, so that nobody else gets what he has made.",
        operation_id="users_disable",
        response_description="He is switched off",
        responses=REFUSALS | unknown,
    )
    async def disable(username: Key, caller: Annotated[Identity, admin]) -> Response:
        await users.change(username, {"is_active": False}, caller)
        return Response(status_code=204)

    @routes.delete(
        f"{PATH}{{username}}/facility/",
        status_code=204,
        summary="Part a user from his account of the facility",
        description="Ends his sessions. Who logs in at the facility by this name next is the user from then on, unless "
        "he has a password here. For somebody whose account there was made anew.",
        operation_id="users_unbind",
        response_description="He belongs to no account of the facility",
        responses=REFUSALS | unknown,
    )
    async def unbind(username: Key, caller: Annotated[Identity, admin]) -> Response:
        await users.unbind(username, caller)
        return Response(status_code=204)

    @routes.get(
        "/api/auth/roles/",
        summary="Roles, and what they grant",
        operation_id="roles_list",
        response_description="The roles",
        response_model=list[RoleShown],
        responses={401: REFUSALS[401]},
    )
    async def roles(_: Annotated[Identity, require()]) -> Response:
        return json_response([{"name": role, "scopes": _scopes(role)} for role in ROLES])

    return routes


def _scopes(role: str) -> list[dict[str, str]]:
    return [{"name": scope, "description": Scope(scope).description} for scope in sorted(resolve([role], ()))]
