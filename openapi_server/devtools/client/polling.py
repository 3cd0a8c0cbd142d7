"""Polling a job until it is finished."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx

from openapi_server.devtools.client.asking import NoResult
from openapi_server.devtools.client.printing import Transcript, refusal, sentence_of

ATTEMPTS = 150
FINAL = ("succeeded", "failed")
# A server that restarts answers so, or not at all, for a moment.
PASSING = (429, 502, 503, 504)
MAX_MISSES = 5


async def follow(http: httpx.AsyncClient, answer: httpx.Response, interval_s: float, transcript: Transcript) -> None:
    """Poll the job that the answer speaks of; its result is in the transcript then. Raises `NoResult`."""
    job = _object(answer)
    if not isinstance(job.get("job_id"), str):
        raise NoResult("The answer is neither a stream of events nor a job with a job_id")
    transcript.say(f"📋 Detected JSON job response\nJob payload: {job}")
    url = _polling_url(answer.url, job)
    transcript.say(f"🔄 Polling job at: {url}")
    transcript.cookies(answer)
    await _finish(await _final_state(http, url, interval_s, transcript), transcript)


async def _final_state(
    http: httpx.AsyncClient, url: httpx.URL, interval_s: float, transcript: Transcript
) -> dict[str, Any]:
    latest: object = None
    misses = 0
    for attempt in range(1, ATTEMPTS + 1):
        transcript.say(f"\n🔄 Poll attempt {attempt}/{ATTEMPTS}")
        job = await _poll(http, url, transcript)
        misses = misses + 1 if job is None else 0
        if misses == MAX_MISSES:
            raise NoResult(f"{MAX_MISSES} polls in a row failed")
        if job is not None:
            latest = _note(job, latest, transcript)
            if job.get("status") in FINAL:
                return job
        await asyncio.sleep(interval_s)
    raise NoResult(f"The job was not finished after {ATTEMPTS} polls")


async def _poll(http: httpx.AsyncClient, url: httpx.URL, transcript: Transcript) -> dict[str, Any] | None:
    """The job's state; None when a later poll may do better."""
    try:
        answer = await http.get(url)
    except httpx.TransportError as error:
        transcript.say(f"⚠️ No answer: {error or type(error).__name__}")
        return None
    if answer.status_code in PASSING:
        transcript.say(f"⚠️ {await refusal(answer)}")
        return None
    if answer.status_code != 200:
        raise await refusal(answer)
    return _object(answer)


def _note(job: dict[str, Any], latest: object, transcript: Transcript) -> object:
    """Print the state, and keep its progress when that is news."""
    progress = job.get("latest_progress")
    state = json.dumps({"status": job.get("status"), "latest_progress": progress}, ensure_ascii=False)
    transcript.say(f"📊 Job status: {state}")
    if progress is not None and progress != latest:
        transcript.keep("progress", progress)
    return progress


async def _finish(job: dict[str, Any], transcript: Transcript) -> None:
    status = job["status"]
    transcript.say(f"\n{'✅' if status == 'succeeded' else '❌'} Job finished with status: {status}")
    if status == "succeeded":
        transcript.event("result", json.dumps(job.get("result")))
        return
    transcript.keep("error", {name: job[name] for name in ("error", "problem") if name in job})
    raise NoResult(sentence_of(job) or "The job failed and does not say why")


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise NoResult("The answer is not a JSON object")
    return body


def _polling_url(asked: httpx.URL, job: dict[str, Any]) -> httpx.URL:
    """Relative to the server's origin, whatever the path was that we posted to.

    >>> str(_polling_url(httpx.URL("http://zoo.example:5000/api/v1/stream?mode=job"), {"polling_url": "/jobs/job_1"}))
    'http://zoo.example:5000/jobs/job_1'
    """
    given = job.get("polling_url")
    if not isinstance(given, str) or not given:
        raise NoResult("The job has no polling_url")
    try:
        return asked.copy_with(path="/", query=None).join(given)
    except httpx.InvalidURL:
        raise NoResult(f"The job's polling_url is no address: {given}") from None
