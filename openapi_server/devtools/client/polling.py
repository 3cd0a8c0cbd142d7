"""Polling a job until it is finished."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx

from openapi_server.devtools.client.asking import ClientError
from openapi_server.devtools.client.printing import Transcript, get_error_message, make_error

MAX_POLLS = 150
FINAL_STATUSES = ("succeeded", "failed")
# A server that restarts answers so, or not at all, for a moment.
TRANSIENT_STATUSES = (429, 502, 503, 504)
MAX_FAILED_POLLS = 5


async def poll_job(http: httpx.AsyncClient, answer: httpx.Response, interval_s: float, transcript: Transcript) -> None:
    """Poll the job that the answer speaks of; its result is in the transcript then. Raises `ClientError`."""
    job = _parse_object(answer)
    if not isinstance(job.get("job_id"), str):
        raise ClientError("The answer is neither a stream of events nor a job with a job_id")
    transcript.print(f"📋 Detected JSON job response\nJob payload: {job}")
    url = _resolve_polling_url(answer.url, job)
    transcript.print(f"🔄 Polling job at: {url}")
    transcript.print_cookies(answer)
    await _print_result(await _poll_until_final(http, url, interval_s, transcript), transcript)


async def _poll_until_final(
    http: httpx.AsyncClient, url: httpx.URL, interval_s: float, transcript: Transcript
) -> dict[str, Any]:
    latest: object = None
    misses = 0
    for attempt in range(1, MAX_POLLS + 1):
        transcript.print(f"\n🔄 Poll attempt {attempt}/{MAX_POLLS}")
        job = await _get_job(http, url, transcript)
        misses = misses + 1 if job is None else 0
        if misses == MAX_FAILED_POLLS:
            raise ClientError(f"{MAX_FAILED_POLLS} polls in a row failed")
        if job is not None:
            latest = _print_state(job, latest, transcript)
            if job.get("status") in FINAL_STATUSES:
                return job
        await asyncio.sleep(interval_s)
    raise ClientError(f"The job was not finished after {MAX_POLLS} polls")


async def _get_job(http: httpx.AsyncClient, url: httpx.URL, transcript: Transcript) -> dict[str, Any] | None:
    """The job's state; None when a later poll may do better."""
    try:
        answer = await http.get(url)
    except httpx.TransportError as error:
        transcript.print(f"⚠️ No answer: {error or type(error).__name__}")
        return None
    if answer.status_code in TRANSIENT_STATUSES:
        transcript.print(f"⚠️ {await make_error(answer)}")
        return None
    if answer.status_code != 200:
        raise await make_error(answer)
    return _parse_object(answer)


def _print_state(job: dict[str, Any], latest: object, transcript: Transcript) -> object:
    """Print the state, and keep its progress when that is news."""
    progress = job.get("latest_progress")
    state = json.dumps({"status": job.get("status"), "latest_progress": progress}, ensure_ascii=False)
    transcript.print(f"📊 Job status: {state}")
    if progress is not None and progress != latest:
        transcript.store_event("progress", progress)
    return progress


async def _print_result(job: dict[str, Any], transcript: Transcript) -> None:
    status = job["status"]
    transcript.print(f"\n{'✅' if status == 'succeeded' else '❌'} Job finished with status: {status}")
    if status == "succeeded":
        transcript.add_event("result", json.dumps(job.get("result")))
        return
    transcript.store_event("error", {name: job[name] for name in ("error", "problem") if name in job})
    raise ClientError(get_error_message(job) or "The job failed and does not say why")


def _parse_object(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise ClientError("The answer is not a JSON object")
    return body


def _resolve_polling_url(asked: httpx.URL, job: dict[str, Any]) -> httpx.URL:
    """Relative to the server's origin, whatever the path was that we posted to.

    >>> asked = httpx.URL("http://zoo.example:5000/api/v1/stream?mode=job")
    >>> str(_resolve_polling_url(asked, {"polling_url": "/jobs/job_1"}))
    'http://zoo.example:5000/jobs/job_1'
    """
    given = job.get("polling_url")
    if not isinstance(given, str) or not given:
        raise ClientError("The job has no polling_url")
    try:
        return asked.copy_with(path="/", query=None).join(given)
    except httpx.InvalidURL:
        raise ClientError(f"The job's polling_url is no address: {given}") from None
