"""`zoochat check`, `client`, `mock` and `spec`: for people who build clients or servers of the chat APIs."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import click

CONTRACTS = ("convo", "platform", "sessions", "tokens", "devices")


@click.command()
@click.argument("url")
@click.option(
    "--contract", "contracts", multiple=True, type=click.Choice(CONTRACTS), help="Contract to check; repeatable."
)
@click.option("--username", default="user1", show_default=True, help="Account for the sessions contract.")
@click.option("--password", default="user1-demo", show_default=True, envvar="ZOOCHAT_PASSWORD")
@click.option("--admin", default="admin", show_default=True, help="Administrator who gives that account credits.")
@click.option("--admin-password", default="admin-demo", show_default=True, envvar="ZOOCHAT_ADMIN_PASSWORD")
@click.option("--stranger", default="keeper1", show_default=True, help="Account without access to its sessions.")
@click.option("--stranger-password", default="keeper1-demo", show_default=True, envvar="ZOOCHAT_STRANGER_PASSWORD")
@click.option(
    "--heartbeat", "heartbeat_s", default=15.0, show_default=True, help="Longest silence of a stream, in seconds."
)
@click.option("--strict", "is_strict", is_flag=True, help="Exit with code 1 also if an extra check fails.")
@click.option("--json", "is_json", is_flag=True, help="Print the findings as JSON.")
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), help="Also write the findings as JUnit XML.")
def check(
    url: str,
    contracts: tuple[str, ...],
    username: str,
    password: str,
    admin: str,
    admin_password: str,
    stranger: str,
    stranger_password: str,
    heartbeat_s: float,
    is_strict: bool,
    is_json: bool,
    junit: Path | None,
) -> None:
    """Run conformance tests against the server at URL.

    Without --contract, all contracts in the server's OpenAPI description are checked.

    Passwords may be set in ZOOCHAT_PASSWORD, ZOOCHAT_ADMIN_PASSWORD and ZOOCHAT_STRANGER_PASSWORD.

    There are two sections: `required` is what the source document of a contract asks, `extra` what the API of this
    server adds, such as event ids, resuming and problem objects.

    The checks send real messages, each in a session of its own, and allocate credits to the account if it has few.
    Exit code 0: no required check failed; 1: at least one did; 2: the server could not be checked.
    """
    from openapi_server.devtools.check.contract_client import CheckAccounts, Credentials
    from openapi_server.devtools.check.report import format_json, format_junit, has_failed, print_tables
    from openapi_server.devtools.check.runner import CheckImpossible, CheckOptions, run_with_progress

    accounts = CheckAccounts(
        user=Credentials(username, password),
        admin=Credentials(admin, admin_password),
        other_user=Credentials(stranger, stranger_password),
    )
    options = CheckOptions(url.rstrip("/"), contracts, heartbeat_s, accounts)
    try:
        findings = asyncio.run(run_with_progress(options))
    except CheckImpossible as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    if is_json:
        click.echo(format_json(url, findings))
    else:
        print_tables(options.url, findings)
    if junit is not None:
        junit.write_text(format_junit(url, findings), encoding="utf-8")
    sys.exit(1 if has_failed(findings, is_strict=is_strict) else 0)


@click.command()
@click.option("--url", required=True, help="URL to post to, such as http://localhost:8080/api/v1/stream.")
@click.option("--query", required=True, help="Query to send.")
@click.option("--history", type=click.Path(path_type=Path), help="JSON file with a list of {role, content}.")
@click.option("--expect-job", is_flag=True, help="Print a warning when the answer is a stream, not a job.")
@click.option(
    "--poll-interval",
    default=2.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Time between two polls in seconds.",
)
@click.option("--no-auto-load", is_flag=True, help="Ask the chatbot not to load documents.")
@click.option("--no-memory", is_flag=True, help="Ask the chatbot not to use earlier queries.")
@click.option("--timeout", default=300.0, show_default=True, type=click.FloatRange(min=0), help="Timeout in seconds.")
@click.option("--verbose", is_flag=True, help="Print raw chunks, lines, cookies and decoded events.")
@click.option("--save-output", type=click.Path(path_type=Path, dir_okay=False), help="JSON file to save the events to.")
def client(
    url: str,
    query: str,
    history: Path | None,
    expect_job: bool,
    poll_interval: float,
    no_auto_load: bool,
    no_memory: bool,
    timeout: float,
    verbose: bool,
    save_output: Path | None,
) -> None:
    """Send a query to a chatbot as the analytics platform does, and print the answer.

    Exit code 0 with a result, 1 without one, 130 on Ctrl-C.
    """
    from openapi_server.devtools.client import ChatRequest, HistoryError, Timeouts, read_history, run_client

    try:
        messages = read_history(history) if history else []
    except HistoryError as error:
        raise click.BadParameter(str(error), param_hint="--history") from None
    request = ChatRequest(
        url, query, messages, auto_load=not no_auto_load, memory=not no_memory, expects_job=expect_job
    )
    sys.exit(run_client(request, Timeouts(timeout, poll_interval), is_verbose=verbose, save_to=save_output))


@click.command()
@click.option(
    "--port", default=5000, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 for any free one."
)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option(
    "--delay",
    default=1.5,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Time between two steps in seconds.",
)
@click.option(
    "--minimal",
    "is_minimal",
    is_flag=True,
    help="Do only what the platform's quick start asks: no event ids, no resuming, no problem objects.",
)
def mock(port: int, host: str, delay: float, is_minimal: bool) -> None:
    """Run a mock chatbot with scripted answers, without a model or a database."""
    from openapi_server.devtools.mock.app import serve_mock

    serve_mock(host, port, delay, is_minimal=is_minimal)


@click.command()
@click.option("--openapi", "version", type=click.Choice(["3.0", "3.2"]), default="3.0", show_default=True)
@click.option("--format", "form", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
def spec(version: str, form: str) -> None:
    """Print the API description.

    OpenAPI 3.0 is `openapi.yaml`, for generators of clients. OpenAPI 3.2 is made from it: each stream has an
    `itemSchema`, and each operation all of its responses. A server has both at /openapi.json and /openapi-3.2.json.
    """
    from openapi_server.spec import load_spec, load_spec_3_2, read_spec
    from openapi_server.yaml_files import dump_yaml

    if (version, form) == ("3.0", "yaml"):
        text = read_spec()
    else:
        document = load_spec() if version == "3.0" else load_spec_3_2()
        text = dump_yaml(document) if form == "yaml" else json.dumps(document, ensure_ascii=False, indent=2) + "\n"
    click.echo(text, nl=False)
