"""`roundsman users`: people whom jobs are about."""

from typing import Annotated

import typer

from contract.http.targets import EditUser, NewUser, User
from roundsman.cli.options import noun, verb
from roundsman.cli.output import Column
from roundsman.cli.session import connect, output_of
from roundsman.cli.target_files import (
    AllOrNothing,
    File,
    Query,
    Tags,
    To,
    read_pairs,
    read_query,
    run_file,
    show,
)

app = noun("People whom jobs are about.")
UserId = Annotated[str, typer.Argument(help="The user's id.", metavar="USER")]


@verb(app, "create", "roundsman users create ada --name 'Ada' --email ada@example.com")
def create(
    ctx: typer.Context,
    user: UserId,
    name: Annotated[str, typer.Option(help="A name for people.")] = "",
    email: Annotated[str, typer.Option(help="Mail address.")] = "",
    phone: Annotated[str, typer.Option(help="Phone number.")] = "",
    tag: Tags = None,
) -> None:
    """Add a user; not one who logs in."""
    fields = {"id": user, "name": name, "email": email, "phone": phone}
    new = NewUser.model_validate({**fields, "tags": read_pairs(tag, "--tag")})
    _show(ctx, connect(ctx).users.create(new))


@verb(app, "list", "roundsman users list")
def list_(ctx: typer.Context) -> None:
    """List all users."""
    output_of(ctx).items(connect(ctx).users.list(), COLUMNS)


@verb(app, "get", "roundsman users get ada")
def get(ctx: typer.Context, user: UserId) -> None:
    """Show a user."""
    _show(ctx, connect(ctx).users.get(user))


@verb(app, "edit", "roundsman users edit ada --tag team=north")
def edit(
    ctx: typer.Context,
    user: UserId,
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    email: Annotated[str | None, typer.Option(help="Mail address.")] = None,
    phone: Annotated[str | None, typer.Option(help="Phone number.")] = None,
    tag: Tags = None,
) -> None:
    """Change a user."""
    change = EditUser(name=name, email=email, phone=phone, tags=read_pairs(tag, "--tag") or None)
    _show(ctx, connect(ctx).users.edit(user, change))


@verb(app, "delete", "roundsman users delete ada")
def delete(ctx: typer.Context, user: UserId) -> None:
    """Delete a user."""
    connect(ctx).users.delete(user)
    output_of(ctx).say(f"User {user} is deleted.")


@verb(app, "import", "roundsman users import -f users.csv")
def import_(ctx: typer.Context, file: File, all_or_nothing: AllOrNothing = False) -> None:
    """Add or change users: columns id, name, type, email, phone, tags.NAME, attributes.NAME."""
    mode = "all_or_nothing" if all_or_nothing else "keep_good"
    run_file(ctx, file, lambda c, content: c.users.import_file(content, mode=mode))  # type: ignore[arg-type]


@verb(app, "export", "roundsman users export --to users.csv")
def export(ctx: typer.Context, to: To, query: Query = None) -> None:
    """Write users into a CSV file."""
    client = connect(ctx)
    ended = show(ctx, client, client.users.export(query=read_query(query)))
    client.runs.download(ended.id, to)


def _show(ctx: typer.Context, found: User) -> None:
    output_of(ctx).item(
        found,
        [
            ("id", found.id),
            ("name", found.name),
            ("email", found.email),
            ("phone", found.phone),
            ("tags", found.tags),
            ("updated", found.updated_at),
        ],
    )


COLUMNS = [
    Column[User]("ID", lambda user: user.id),
    Column[User]("NAME", lambda user: user.name),
    Column[User]("EMAIL", lambda user: user.email),
    Column[User]("PHONE", lambda user: user.phone),
    Column[User]("TAGS", lambda user: user.tags),
]
