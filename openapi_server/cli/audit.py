"""`zoochat audit`: who did what with whose things."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from openapi_server.cli.admin import in_office

if TYPE_CHECKING:
    from openapi_server.models.audit import AuditEntry


@click.command()
@click.option(
    "--since", type=click.DateTime(), help="Only from this day or time on, in UTC: 2026-11-21, 2026-11-21T10:30:40."
)
@click.option("--limit", default=1000, show_default=True, type=click.IntRange(1, 100_000), help="The latest so many.")
@click.option("--json", "is_json", is_flag=True, help="Print a JSON array.")
def audit(since: datetime | None, limit: int, is_json: bool) -> None:
    """Show who did what with whose things, latest first. What was said does not stand in it."""
    moment = since.replace(tzinfo=UTC) if since else None
    entries = in_office(lambda office: office.audit.entries(limit, moment)).items
    if is_json:
        from openapi_server.wire.personal_data import audit_object

        click.echo(json.dumps([audit_object(entry) for entry in entries], indent=2))
    else:
        from openapi_server.cli.tables import show_table

        show_table(("when (UTC)", "deed", "role", "who", "about", "request"), map(_row, entries))


def _row(entry: AuditEntry) -> tuple[str, ...]:
    actor, at = entry.actor, f"{entry.at:%Y-%m-%d %H:%M:%S}"
    return at, entry.deed, actor.role, actor.name or "", entry.about or "", entry.request_id or ""
