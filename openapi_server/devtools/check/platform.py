"""Checks of the analytics platform's contract: progress and a result, or a job that is polled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from openapi_server.devtools.check.contract_client import QUESTION
from openapi_server.devtools.check.probes import UNKNOWN_ANIMAL, CheckFunction, InvalidRequest, Skipped, StreamProbes
from openapi_server.devtools.check.recording import HEARTBEAT_TOLERANCE_S, Recording, RequestSpec
from openapi_server.devtools.check.responses import check_cookie, check_forward, check_problem, check_problem_object
from openapi_server.devtools.check.stream_rules import StreamRules, check_progress, require

STATES = ("pending", "running", "succeeded")
NO_SIMULATION = "this server simulates no failures: {} answers 404"


class PlatformProbes(StreamProbes):
    """The checks of the contract `platform`."""

    contract = "platform"
    operation = "/api/v1/stream"

    def list_checks(self) -> dict[str, CheckFunction]:
        return super().list_checks() | {
            "cookie": self.check_cookie,
            "progress": self.check_progress,
            "result": self.check_result,
            "job": self.check_job,
            "foreign job": self.check_foreign_job,
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

    async def check_progress(self) -> str:
        return check_progress((await self.get_recording()).events)

    async def check_result(self) -> str:
        """The result has a response, and every source a type and a title."""
        result = self._get_result(await self.get_recording())
        require(isinstance(result.get("response"), str), f"the result has no response: {str(result)[:80]}")
        named = [(source.get("type"), source.get("title")) for source in result.get("sources", [])]
        require(all(kind and title for kind, title in named), f"a source without type or title: {named}")
        return f"a response of {len(result['response'])} characters, {len(named)} sources"

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
        path = f"{self.operation}/error"
        recording = await self.new_recorder().record(self.server.new_client(), RequestSpec(path, {"query": QUESTION}))
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
        recorder = self.new_recorder(lambda events: any(event.event == "heartbeat" for event in events))
        recording = await recorder.record(self.server.new_client(), RequestSpec(path, {"query": QUESTION}))
        if recording.status == 404:
            raise Skipped(NO_SIMULATION.format(path))
        heartbeats = [event for event in recording.events if event.event == "heartbeat"]
        require(heartbeats, f"no heartbeat within {recording.gap_s:.1f} s; the stream was {recording.end}")
        require(recording.gap_s <= longest_s, f"{recording.gap_s:.1f} s without a heartbeat; {longest_s} s are allowed")
        require(heartbeats[0].id is None, f"the heartbeat has the id {heartbeats[0].id}")
        return f"after {recording.gap_s:.1f} s, without an id"

    async def _start_job(self, client: httpx.AsyncClient) -> Mapping[str, Any]:
        answer = await self.send(RequestSpec(f"{self.operation}?mode=job", {"query": QUESTION}), client)
        where = f"POST {self.operation}?mode=job"
        require(answer.status_code in (200, 202), f"{where}: {answer.status_code} {answer.text[:80]!r}")
        job: Mapping[str, Any] = answer.json()
        missing = [name for name in ("job_id", "status", "polling_url") if not job.get(name)]
        require(not missing, f"{where}: no {' and no '.join(missing)}")
        require(job["status"] == "pending", f"{where}: status {job['status']}, not pending")
        return job

    def _get_result(self, recording: Recording) -> Mapping[str, Any]:
        results = [event.data for event in recording.events if event.event == "result"]
        require(len(results) == 1, f"{len(results)} result events")
        return results[0]
