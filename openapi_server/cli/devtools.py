"""`zoochat client` and `zoochat mock`: the two ends of the platform's contract, for people who build the other one."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.option("--url", required=True, help="Where to post, such as http://localhost:8080/api/v1/stream.")
@click.option("--query", required=True, help="What to ask.")
@click.option("--history", type=click.Path(path_type=Path), help="A JSON file: a list of {role, content}.")
@click.option("--expect-job", is_flag=True, help="Say so when the answer is a stream instead.")
@click.option("--poll-interval", default=2.0, show_default=True, type=click.FloatRange(min=0), help="Seconds.")
@click.option("--no-auto-load", is_flag=True, help="Ask for an answer without documents.")
@click.option("--no-memory", is_flag=True, help="Ask for an answer without earlier questions.")
@click.option("--timeout", default=300.0, show_default=True, type=click.FloatRange(min=0), help="Patience, in seconds.")
@click.option("--verbose", is_flag=True, help="Show raw chunks, lines, cookies and decoded events.")
@click.option("--save-output", type=click.Path(path_type=Path, dir_okay=False), help="A file for the events as JSON.")
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
    """Ask a chatbot as the analytics platform does, and print what comes.

    Exit code 0 when a result came, 1 when none came, 130 on Ctrl-C.
    """
    from openapi_server.devtools.client.asking import ChatRequest, HistoryError, Timeouts, read_history
    from openapi_server.devtools.client.running import run_client

    try:
        told = read_history(history) if history else []
    except HistoryError as error:
        raise click.BadParameter(str(error), param_hint="--history") from None
    question = ChatRequest(url, query, told, auto_load=not no_auto_load, memory=not no_memory, expects_job=expect_job)
    sys.exit(run_client(question, Timeouts(timeout, poll_interval), is_verbose=verbose, save_to=save_output))


@click.command()
@click.option("--port", default=5000, show_default=True, type=click.IntRange(0, 65535), help="0: any that is free.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option(
    "--delay", default=1.5, show_default=True, type=click.FloatRange(min=0), help="Seconds between two steps."
)
def mock(port: int, host: str, delay: float) -> None:
    """Stand in for a chatbot: scripted steps, no model, no database."""
    from openapi_server.devtools.mock.serving import serve_mock

    serve_mock(host, port, delay)
