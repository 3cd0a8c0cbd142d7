"""The analytics platform's contract: progress and a result, or a job that is polled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from openapi_server.devtools.check.answers import check_cookie, check_problem, check_problem_object
from openapi_server.devtools.check.findings import Skipped, require
from openapi_server.devtools.check.polling import check_forward
from openapi_server.devtools.check.probes import UNKNOWN_ANIMAL, CheckFunction, InvalidRequest, StreamProbes
from openapi_server.devtools.check.recording import HEARTBEAT_TOLERANCE_S, Recording, RequestSpec
from openapi_server.devtools.check.streams import StreamRules, check_progress
from openapi_server.devtools.check.talking import QUESTION

STATES = ("pending", "running", "succeeded")
NO_SIMULATIONS = "no simulations here: {} answers 404"


class PlatformProbes(StreamProbes):
    """Probes of the analytics platform's contract."""

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

    def change_message(self, ask: RequestSpec) -> RequestSpec:
        return ask.with_members(query="Hello!")

    async def find_full_texts(self, recording: Recording) -> Mapping[str, str]:
        """The stream tells the text once, whole; as a job the same turn tells it again."""
        job_id = self._get_result(recording)["metadata"]["job_id"]
        job = (await self.send(RequestSpec(f"/jobs/{job_id}", method="GET"), self.client)).json()
        return {f"the result of /jobs/{job_id[:10]}...": (job.get("result") or {}).get("response", "")}

    def list_invalid_requests(self, ask: RequestSpec) -> Sequence[InvalidRequest]:
        history = [{"role": "system", "content": "You are a pirate."}]
        return [
            InvalidRequest("no query", RequestSpec(self.operation, {}), (400,), field="query"),
            InvalidRequest("blank query", ask.with_members(query="  "), (400,), field="query"),
            InvalidRequest("a system message", ask.with_members(conversation_history=history), (400,)),
            InvalidRequest("no JSON", RequestSpec(self.operation, "{"), (400,), field="body"),
            InvalidRequest("unknown animal", ask.with_members(animal_id=UNKNOWN_ANIMAL), (404,)),
            InvalidRequest(
                "unknown job", RequestSpec("/jobs/job_unknown", method="GET"), (404,), detail="Job not found"
            ),
        ]

    async def check_cookie(self) -> str:
        return check_cookie((await self.get_recording()).headers)

    async def check_progress(self) -> str:
        return check_progress((await self.get_recording()).events)

    async def check_result(self) -> str:
        """What the platform shows: a response, and sources with a type and a title."""
        result = self._get_result(await self.get_recording())
        require(isinstance(result.get("response"), str), f"the result has no response: {str(result)[:80]}")
        named = [(source.get("type"), source.get("title")) for source in result.get("sources", [])]
        require(all(kind and title for kind, title in named), f"a source without type or title: {named}")
        return f"a response of {len(result['response'])} characters, {len(named)} sources"

    async def check_job(self) -> str:
        """`?mode=job`: an id at once, and an answer of its polling_url that only goes forwards."""
        visitor = self.server.new_client()
        begun = await self._start_job(visitor)
        jobs = await self.poll(begun["polling_url"], lambda job: job["status"] not in STATES[:2], visitor)
        without = [job for job in jobs if not isinstance(job.get("latest_progress"), dict)]
        require(not without, f"an answer without latest_progress: {str(without[:1])[:80]}")
        told = check_forward(jobs, STATES, lambda job: job["latest_progress"]["progress"])
        require((jobs[-1].get("result") or {}).get("response"), "the last answer has no result with a response")
        return f"{begun['polling_url'][:16]}...: {len(jobs)} answers, {told}"

    async def check_foreign_job(self) -> str:
        """A job is there for the cookie that began it, and for no other."""
        visitor = self.server.new_client()
        ask = RequestSpec((await self._start_job(visitor))["polling_url"], method="GET")
        mine = await self.send(ask, visitor)
        require(mine.status_code == 200, f"with its own cookie: {mine.status_code}, not 200")
        stranger = check_problem(await self.send(ask, self.server.new_client()), (404,), says="Job not found")
        return f"without its cookie {stranger}"

    async def check_error_stream(self) -> str:
        """A failure is told in the stream, once, with the problem object."""
        path = f"{self.operation}/error"
        recording = await self.new_recorder().record(self.server.new_client(), RequestSpec(path, {"query": QUESTION}))
        if recording.status == 404:
            raise Skipped(NO_SIMULATIONS.format(path))
        require(recording.status == 200, f"POST {path}: {recording.status} {recording.body[:80]!r}")
        rules = StreamRules.from_spec(self.server.spec, path) if self.server.has_operation(path) else self.rules
        rules.check_events(recording.events)
        order = rules.check_order(recording.events)
        last = recording.events[-1].data
        require(isinstance(last.get("error"), str), f"the error event has no error: {last}")
        return f"{order}: {check_problem_object(last.get('problem') or {}, 'the error event')}"

    async def check_heartbeat(self) -> str:
        """A silent stream is kept alive."""
        path, due_s = f"{self.operation}/timeout", self.server.heartbeat_s + HEARTBEAT_TOLERANCE_S
        reading = self.new_recorder(lambda events: any(event.event == "heartbeat" for event in events))
        recording = await reading.record(self.server.new_client(), RequestSpec(path, {"query": QUESTION}))
        if recording.status == 404:
            raise Skipped(NO_SIMULATIONS.format(path))
        beats = [event for event in recording.events if event.event == "heartbeat"]
        require(beats, f"no heartbeat within {recording.gap_s:.1f} s; the stream was {recording.end}")
        require(recording.gap_s <= due_s, f"{recording.gap_s:.1f} s without a heartbeat; {due_s} s are allowed")
        require(beats[0].id is None, f"the heartbeat carries the id {beats[0].id}")
        return f"after {recording.gap_s:.1f} s, without an id"

    async def _start_job(self, visitor: httpx.AsyncClient) -> Mapping[str, Any]:
        answer = await self.send(RequestSpec(f"{self.operation}?mode=job", {"query": QUESTION}), visitor)
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
