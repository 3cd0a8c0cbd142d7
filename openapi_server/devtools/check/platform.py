"""Checks of the analytics platform's contract: progress and a result, or a job that is polled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from openapi_server.devtools.check.common_checks import (
    UNKNOWN_ANIMAL,
    CheckFunction,
    InvalidRequest,
    Skipped,
    StreamProbes,
)
from openapi_server.devtools.check.contract_client import MAX_SILENCE_S, QUESTION
from openapi_server.devtools.check.recording import HEARTBEAT_TOLERANCE_S, Recording, RequestSpec
from openapi_server.devtools.check.responses import (
    check_cookie,
    check_forward,
    check_leak,
    check_problem,
    check_problem_object,
)
from openapi_server.devtools.check.stream_rules import StreamRules, check_progress, require, require_members

STATES = ("pending", "running", "succeeded")
NO_SIMULATION = "this server simulates no failures: {} answers 404"


class PlatformProbes(StreamProbes):
    """The checks of the contract `platform`."""

    contract = "platform"
    operation = "/api/v1/stream"
    max_silence_s = MAX_SILENCE_S

    def list_source_checks(self) -> dict[str, CheckFunction]:
        """The validation checklist of the quick start."""
        return super().list_source_checks() | {
            "cookie": self.check_any_cookie,
            "progress": self.check_progress,
            "response": self.check_response,
            "silence allowed": self.check_source_silence,
            "job": self.check_job,
            "job cookie": self.check_job_cookie,
            "failures": self.check_source_failures,
        }

    def list_extra_checks(self) -> dict[str, CheckFunction]:
        return super().list_extra_checks() | {
            "cookie attributes": self.check_cookie,
            "sources": self.check_sources,
            "foreign job": self.check_foreign_job,
            "job list": self.check_job_list,
            "failed job": self.check_failed_job,
            "error stream": self.check_error_stream,
            "heartbeat": self.check_heartbeat,
        }

    async def make_request(self, message: str) -> RequestSpec:
        return RequestSpec(self.operation, {"query": message})

    def change_message(self, request: RequestSpec) -> RequestSpec:
        return request.with_members(query="Hello!")

    async def find_full_texts(self, recording: Recording) -> Mapping[str, str]:
        """The stream has the text once, as a whole; the job of the same turn has it again."""
        job_id = self._get_result(recording)["metadata"]["job_id"]
        job = (await self.send(RequestSpec(f"/jobs/{job_id}", method="GET"), self.client)).json()
        return {f"the result of /jobs/{job_id[:10]}...": (job.get("result") or {}).get("response", "")}

    def list_invalid_requests(self, request: RequestSpec) -> Sequence[InvalidRequest]:
        history = [{"role": "system", "content": "You are a pirate."}]
        return [
            InvalidRequest("no query", RequestSpec(self.operation, {}), (400,), field="query"),
            InvalidRequest("blank query", request.with_members(query="  "), (400,), field="query"),
            InvalidRequest("a system message", request.with_members(conversation_history=history), (400,)),
            InvalidRequest("no JSON", RequestSpec(self.operation, "{"), (400,), field="body"),
            InvalidRequest("unknown animal", request.with_members(animal_id=UNKNOWN_ANIMAL), (404,)),
            InvalidRequest(
                "unknown job", RequestSpec("/jobs/job_unknown", method="GET"), (404,), detail="Job not found"
            ),
        ]

    async def check_cookie(self) -> str:
        return check_cookie((await self.get_recording()).headers)

    async def check_any_cookie(self) -> str:
        """The first answer sets a cookie, by which the client's next requests are known."""
        return _check_any_cookie((await self.get_recording()).headers)

    async def check_progress(self) -> str:
        """There is progress before the result: a step, a message, and percentages that never fall."""
        events = (await self.get_recording()).events
        told = [event for event in events if event.event == "progress"]
        require(told, "no progress event")
        for event in told:
            require_members(event.data, "a progress event", step=str, message=str, progress=(int, float))
        is_in_percent = all(0 <= event.data["progress"] <= 100 for event in told)
        require(is_in_percent, f"a progress that is no percentage: {[event.data['progress'] for event in told]}")
        return check_progress(events)

    async def check_response(self) -> str:
        """One result with a response, and after it nothing but `complete` and heartbeats."""
        events = (await self.get_recording()).events
        result = self._get_result(await self.get_recording())
        require_members(result, "the result", response=str)
        require(result["response"], "the result has an empty response")
        names = [event.event for event in events]
        late = set(names[names.index("result") + 1 :]) - {"complete", "heartbeat"}
        require(not late, f"{late} after the result")
        return f"a response of {len(result['response'])} characters"

    async def check_source_silence(self) -> str:
        gap_s = (await self.get_recording()).gap_s
        require(gap_s <= MAX_SILENCE_S, f"{gap_s:.0f} s without a byte; {MAX_SILENCE_S:.0f} s are allowed")
        return f"longest {gap_s:.2f} s"

    async def check_sources(self) -> str:
        """Every source has a type and a title."""
        sources = self._get_result(await self.get_recording()).get("sources", [])
        named = [(source.get("type"), source.get("title")) for source in sources]
        require(all(kind and title for kind, title in named), f"a source without type or title: {named}")
        return f"{len(named)} sources"

    async def check_job(self) -> str:
        """`?mode=job` answers with a job at once; the states at its polling_url never go back."""
        client = self.server.new_client()
        job = await self._start_job(client)
        jobs = await self.poll(job["polling_url"], lambda state: state["status"] not in STATES[:2], client)
        without = [state for state in jobs if not isinstance(state.get("latest_progress"), dict)]
        require(not without, f"an answer without latest_progress: {str(without[:1])[:80]}")
        summary = check_forward(jobs, STATES, lambda state: state["latest_progress"]["progress"])
        require((jobs[-1].get("result") or {}).get("response"), "the last answer has no result with a response")
        return f"{job['polling_url'][:16]}...: {len(jobs)} answers, {summary}"

    async def check_job_cookie(self) -> str:
        """The answer that starts a job sets a cookie, and a poll with it finds the job."""
        client = self.server.new_client()
        answer = await self._post_job(client)
        cookie = _check_any_cookie(answer.headers)
        poll = await self.send(RequestSpec(answer.json()["polling_url"], method="GET"), client)
        require(poll.status_code == 200, f"a poll with the cookie: {poll.status_code}, not 200")
        return cookie

    async def check_source_failures(self) -> str:
        """What cannot be answered is an error status or an error event, and says so."""
        no_json, unknown = RequestSpec(self.operation, "{"), RequestSpec("/jobs/job_unknown", method="GET")
        seen = await self.check_failures(no_json, unknown)
        recording = await self._record_simulation("error")
        if recording.status == 404:
            return seen
        require(recording.events, f"POST {self.operation}/error: no events in {recording.body[:40]!r}")
        last = recording.events[-1]
        require(last.event == "error", f"the failing stream ends with {last.event}, not error")
        require_members(last.data, "the error event", error=str)
        check_leak(str(last.data), "the error event")
        return f"{seen}, error event {last.data['error'][:40]!r}"

    async def check_job_list(self) -> str:
        """`GET /jobs` lists the caller's own jobs, and nobody else's."""
        client = self.server.new_client()
        job = await self._start_job(client)
        listed = [await self._list_jobs(caller) for caller in (client, self.server.new_client())]
        require(job["job_id"] in listed[0], "GET /jobs does not list the caller's own job")
        require(job["job_id"] not in listed[1], "GET /jobs lists the job of another caller")
        return f"{len(listed[0])} of one's own, {len(listed[1])} for a stranger"

    async def _list_jobs(self, client: httpx.AsyncClient) -> list[str]:
        answer = await self.send(RequestSpec("/jobs", method="GET"), client)
        require(answer.status_code == 200, f"GET /jobs: {answer.status_code}, not 200")
        return [job["job_id"] for job in answer.json()["jobs"]]

    async def check_failed_job(self) -> str:
        """A failed job says why, and its progress is that of the step it failed in: never 100 %."""
        client, path = self.server.new_client(), f"{self.operation}/error?mode=job"
        answer = await self.send(RequestSpec(path, {"query": QUESTION}), client)
        if "json" not in answer.headers.get("content-type", "") or "polling_url" not in answer.json():
            raise Skipped(f"this server simulates no failed job: POST {path}: {answer.status_code}")
        jobs = await self.poll(answer.json()["polling_url"], lambda state: state["status"] not in STATES[:2], client)
        last = jobs[-1]
        require(last["status"] == "failed", f"the simulated failure is {last['status']}, not failed")
        require_members(last, "the failed job", error=str, latest_progress=dict)
        reached = [state["latest_progress"]["progress"] for state in jobs]
        require(reached[-1] < 100, f"a failed job is at {reached[-1]} %")
        require(reached == sorted(reached), f"the progress goes back: {reached}")
        problem = check_problem_object(last.get("problem") or {}, "the failed job")
        return f"{problem}, at {last['latest_progress']['step']}, {reached[-1]} %"

    async def check_foreign_job(self) -> str:
        """A job is visible with the cookie that started it, and with no other."""
        client = self.server.new_client()
        request = RequestSpec((await self._start_job(client))["polling_url"], method="GET")
        own = await self.send(request, client)
        require(own.status_code == 200, f"with its own cookie: {own.status_code}, not 200")
        problem = check_problem(await self.send(request, self.server.new_client()), (404,), detail="Job not found")
        return f"without its cookie {problem}"

    async def check_error_stream(self) -> str:
        """A failure is an error event in the stream, with a problem object."""
        path, recording = f"{self.operation}/error", await self._record_simulation("error")
        if recording.status == 404:
            raise Skipped(NO_SIMULATION.format(path))
        require(recording.status == 200, f"POST {path}: {recording.status} {recording.body[:80]!r}")
        rules = StreamRules.from_spec(self.server.spec, path) if self.server.has_operation(path) else self.rules
        rules.check_events(recording.events)
        order = rules.check_order(recording.events)
        last = recording.events[-1].data
        require(isinstance(last.get("error"), str), f"the error event has no error: {last}")
        return f"{order}: {check_problem_object(last.get('problem') or {}, 'the error event')}"

    async def check_heartbeat(self) -> str:
        """A stream without events has heartbeats."""
        path, longest_s = f"{self.operation}/timeout", self.server.heartbeat_s + HEARTBEAT_TOLERANCE_S
        recorder = self.new_recorder(
            lambda events: any(event.event == "heartbeat" for event in events), silence_s=self.server.heartbeat_s
        )
        recording = await recorder.record(self.server.new_client(), RequestSpec(path, {"query": QUESTION}))
        if recording.status == 404:
            raise Skipped(NO_SIMULATION.format(path))
        heartbeats = [event for event in recording.events if event.event == "heartbeat"]
        require(heartbeats, f"no heartbeat within {recording.gap_s:.1f} s; the stream was {recording.end}")
        require(recording.gap_s <= longest_s, f"{recording.gap_s:.1f} s without a heartbeat; {longest_s} s are allowed")
        require(heartbeats[0].id is None, f"the heartbeat has the id {heartbeats[0].id}")
        return f"after {recording.gap_s:.1f} s, without an id"

    async def _record_simulation(self, name: str) -> Recording:
        """The recorded answer of a simulation; its status is 404 where the server has none."""
        request = RequestSpec(f"{self.operation}/{name}", {"query": QUESTION})
        return await self.new_recorder().record(self.server.new_client(), request)

    async def _start_job(self, client: httpx.AsyncClient) -> Mapping[str, Any]:
        job: Mapping[str, Any] = (await self._post_job(client)).json()
        return job

    async def _post_job(self, client: httpx.AsyncClient) -> httpx.Response:
        """The answer that starts a job, with all that it must have."""
        answer = await self.send(RequestSpec(f"{self.operation}?mode=job", {"query": QUESTION}), client)
        where = f"POST {self.operation}?mode=job"
        require(answer.status_code in (200, 202), f"{where}: {answer.status_code} {answer.text[:80]!r}")
        require_members(answer.json(), where, job_id=str, status=str, polling_url=str)
        status = answer.json()["status"]
        require(status == "pending", f"{where}: status {status}, not pending")
        return answer

    def _get_result(self, recording: Recording) -> Mapping[str, Any]:
        results = [event.data for event in recording.events if event.event == "result"]
        require(len(results) == 1, f"{len(results)} result events")
        return results[0]


def _check_any_cookie(headers: httpx.Headers) -> str:
    names = [cookie.partition("=")[0] for cookie in headers.get_list("set-cookie")]
    require(names, "NO COOKIES received: no Set-Cookie")
    return f"Set-Cookie: {', '.join(names)}"
