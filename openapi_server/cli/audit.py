"""`zoochat audit`: who did what with whose things."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from openapi_server.cli.admin import run_with_store

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
    entries = run_with_store(lambda office: office.audit.list_entries(limit, moment)).items
    if is_json:
        from openapi_server.wire.personal_data import encode_audit_entry

        click.echo(json.dumps([encode_audit_entry(entry) for entry in entries], indent=2))
    else:
        from openapi_server.cli.tables import print_table

        print_table(("when (UTC)", "deed", "role", "who", "about", "request"), map(_format_row, entries))


def _format_row(entry: AuditEntry) -> tuple[str, ...]:
    actor, at = entry.actor, f"{entry.at:%Y-%m-%d %H:%M:%S}"
    return at, entry.action, actor.role, actor.name or "", entry.target or "", entry.request_id or ""
