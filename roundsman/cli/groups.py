"""`roundsman groups`: groups of devices or users."""

from typing import Annotated

import typer

from contract.http.targets import EditGroup, Group, Member, NewGroup
from roundsman.cli.options import noun, verb
from roundsman.cli.output import Column
from roundsman.cli.session import connect, output_of
from roundsman.cli.target_files import Query, Tags, read_pairs, read_query

app = noun("Groups of devices or users.")
GroupId = Annotated[str, typer.Argument(help="The group's id.", metavar="GROUP")]
Members = Annotated[list[str], typer.Argument(help="Ids of devices or users.", metavar="MEMBER...")]


@verb(
    app,
    "create",
    "roundsman groups create lab --member pump-1 --member pump-2",
    "roundsman groups create berlin --query 'tags.site:berlin'",
)
def create(
    ctx: typer.Context,
    group: GroupId,
    name: Annotated[str, typer.Option(help="A name for people.")] = "",
    of: Annotated[str, typer.Option(help="device or user.")] = "device",
    query: Query = None,
    member: Annotated[list[str] | None, typer.Option(help="An id; repeatable.")] = None,
    tag: Tags = None,
) -> None:
    """Make a group of listed members, or of everything that a saved query fits."""
    fields = {"id": group, "name": name, "resource": of, "query": read_query(query)}
    new = NewGroup.model_validate(
        {**fields, "members": member or [], "tags": read_pairs(tag, "--tag")}
    )
    _show(ctx, connect(ctx).groups.create(new))


@verb(app, "list", "roundsman groups list")
def list_(ctx: typer.Context) -> None:
    """List all groups."""
    output_of(ctx).items(connect(ctx).groups.list(), COLUMNS)


@verb(app, "get", "roundsman groups get lab")
def get(ctx: typer.Context, group: GroupId) -> None:
    """Show a group."""
    _show(ctx, connect(ctx).groups.get(group))


@verb(app, "members", "roundsman groups members lab")
def members(ctx: typer.Context, group: GroupId) -> None:
    """List the members there are now."""
    output_of(ctx).items(
        connect(ctx).groups.members(group), [Column[Member]("ID", lambda member: member.id)]
    )


@verb(app, "edit", "roundsman groups edit berlin --query 'tags.site:(berlin, potsdam)'")
def edit(
    ctx: typer.Context,
    group: GroupId,
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    query: Query = None,
    tag: Tags = None,
) -> None:
    """Change a group's name, tags and saved query."""
    change = EditGroup(name=name, query=read_query(query), tags=read_pairs(tag, "--tag") or None)
    _show(ctx, connect(ctx).groups.edit(group, change))


@verb(app, "add", "roundsman groups add lab pump-3 pump-4")
def add(ctx: typer.Context, group: GroupId, member: Members) -> None:
    """Add listed members."""
    _show(ctx, connect(ctx).groups.change_members(group, add=member))


@verb(app, "remove", "roundsman groups remove lab pump-3")
def remove(ctx: typer.Context, group: GroupId, member: Members) -> None:
    """Take listed members out."""
    _show(ctx, connect(ctx).groups.change_members(group, remove=member))


@verb(app, "delete", "roundsman groups delete lab")
def delete(ctx: typer.Context, group: GroupId) -> None:
    """Delete a group; its members stay."""
    connect(ctx).groups.delete(group)
    output_of(ctx).say(f"Group {group} is deleted.")


def _show(ctx: typer.Context, found: Group) -> None:
    output_of(ctx).item(
        found,
        [
            ("id", found.id),
            ("name", found.name),
            ("of", found.resource),
            ("members", found.members),
            ("query", found.query),
            ("tags", found.tags),
            ("updated", found.updated_at),
        ],
    )


COLUMNS = [
    Column[Group]("ID", lambda group: group.id),
    Column[Group]("NAME", lambda group: group.name),
    Column[Group]("OF", lambda group: group.resource),
    Column[Group]("MEMBERS", lambda group: group.members),
    Column[Group]("QUERY", lambda group: group.query),
    Column[Group]("TAGS", lambda group: group.tags),
]
