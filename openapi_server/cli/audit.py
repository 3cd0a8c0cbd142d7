"""`zoochat audit`: lists the audit trail."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import click

from openapi_server.cli.context import print_table, run_with_context
from openapi_server.models.audit import AuditEntry


@click.command()
@click.option(
    "--since", type=click.DateTime(), help="Only from this day or time on, in UTC: 2026-11-21, 2026-11-21T10:30:40."
)
@click.option("--limit", default=1000, show_default=True, type=click.IntRange(1, 100_000), help="Number of entries.")
@click.option("--json", "is_json", is_flag=True, help="Print a JSON array.")
def audit(since: datetime | None, limit: int, is_json: bool) -> None:
    """List who did what to whose data, latest first. It never contains what was said."""
    since_utc = since.replace(tzinfo=UTC) if since else None
    entries = run_with_context(lambda context: context.stores.audit.list_entries(limit, since_utc)).items
    if is_json:
        from openapi_server.wire.personal_data import encode_audit_entry

        click.echo(json.dumps([encode_audit_entry(entry) for entry in entries], indent=2))
    else:
        print_table(("time (UTC)", "action", "role", "actor", "target", "request"), map(_format_row, entries))


def _format_row(entry: AuditEntry) -> tuple[str, ...]:
    actor, at = entry.actor, f"{entry.at:%Y-%m-%d %H:%M:%S}"
    return at, entry.action, actor.role, actor.name or "", entry.target or "", entry.request_id or ""
