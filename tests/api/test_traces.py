"""OpenTelemetry traces of requests and turns, with the exporter of the SDK that keeps spans in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from openapi_server.models.errors import ProviderFailed
from openapi_server.telemetry.tracing import OpenTelemetryTracer
from tests.conftest import OpensClient
from tests.support.fakes import Blocks, Fails, Says

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SECRET = "Xylophone"
ASK = {"message": f"{SECRET} one", "animalId": "lion_001"}
STAGES = ["moderation", "retrieval", "reranking", "chat fake-1"]


class Traces:
    """A tracer, and what it has recorded."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracer = OpenTelemetryTracer(SimpleSpanProcessor(self._exporter), "openai")

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    def get(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.spans if span.name == name]
        return found


@pytest.fixture
def traces() -> Iterator[Traces]:
    traces = Traces()
    yield traces
    traces.tracer.close()


def get_attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


async def test_a_turn_is_a_span_with_one_for_each_stage(open_client: OpensClient, traces: Traces) -> None:
    """Names and attributes of the conventions for generative AI; the turn belongs to its request."""
    client = await open_client(tracer=traces.tracer)
    await client.post("/convo_turn_stream", json=ASK)

    request, turn = traces.get("POST /convo_turn_stream"), traces.get("invoke_agent Leo")
    assert request.context is not None
    assert turn.context is not None
    assert turn.parent is not None
    assert turn.parent.span_id == request.context.span_id
    children = [span for span in traces.spans if span.parent and span.parent.span_id == turn.context.span_id]
    assert [span.name for span in children] == STAGES
    assert {span.context.trace_id for span in traces.spans if span.context} == {request.context.trace_id}
    assert get_attributes(traces.get("retrieval")) == {"gen_ai.operation.name": "retrieval", "zoochat.facts": 1}
    chat = traces.get("chat fake-1")
    assert chat.kind is SpanKind.CLIENT
    assert get_attributes(chat) | {"gen_ai.response.time_to_first_chunk": 0} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "fake-1",
        "gen_ai.response.model": "fake-1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.time_to_first_chunk": 0,
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 3,
    }
    assert get_attributes(turn)["gen_ai.agent.id"] == "lion_001"
    assert get_attributes(turn)["zoochat.contract"] == "convo"


async def test_the_callers_trace_goes_on(open_client: OpensClient, traces: Traces) -> None:
    """By `traceparent` (W3C Trace Context); a header that is none begins a new trace."""
    client = await open_client(tracer=traces.tracer)
    await client.post("/convo_turn", json=ASK, headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    for broken in ("00-zz-01", "", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "x" * 5000):
        assert (await client.get("/health", headers={"traceparent": broken})).status_code == 200

    request = traces.get("POST /convo_turn")
    assert request.context is not None
    assert request.parent is not None
    assert f"{request.context.trace_id:032x}" == TRACE
    assert f"{request.parent.span_id:016x}" == PARENT
    assert all(span.parent is None for span in traces.spans if span.name == "GET /health")


async def test_no_text_and_no_id_is_recorded(open_client: OpensClient, traces: Traces) -> None:
    """Neither of the message nor of the reply, nor of a path; also not in events of a span."""
    client = await open_client(Says("Wombat ", "two."), tracer=traces.tracer)
    stream = await client.post("/convo_turn_stream", json=ASK, headers={"X-Device-ID": f"{SECRET}-3"})
    turn_id = stream.headers["x-streaming-session-id"]
    await client.get(f"/convo_turn/{turn_id}")
    await client.get(f"/{SECRET}/4?message={SECRET}")
    await client.request(SECRET.upper(), "/health")

    recorded = "".join(span.to_json() for span in traces.spans)
    assert SECRET.lower() not in recorded.lower()
    assert "Wombat" not in recorded
    assert turn_id not in recorded
    assert "sess_" not in recorded
    assert {span.name for span in traces.spans} >= {"GET /convo_turn/{turnId}", "GET", "_OTHER /health"}


@pytest.mark.parametrize(
    ("provider", "code"),
    [(Fails(ProviderFailed()), "provider_failed"), (Fails(RuntimeError(SECRET)), "internal_error")],
)
async def test_a_failed_turn_is_an_error_with_its_code(
    open_client: OpensClient, traces: Traces, provider: Fails, code: str
) -> None:
    """The open stage ends with it; what an exception says is not recorded."""
    client = await open_client(provider, tracer=traces.tracer)
    await client.post("/convo_turn_stream", json=ASK)

    for name in ("invoke_agent Leo", "chat fake-1"):
        span = traces.get(name)
        assert span.status.status_code is StatusCode.ERROR
        assert get_attributes(span)["error.type"] == code
    assert SECRET not in "".join(span.to_json() for span in traces.spans)


async def test_a_blocked_message_has_no_generation(open_client: OpensClient, traces: Traces) -> None:
    """Its categories are recorded."""
    client = await open_client(moderator=Blocks(), tracer=traces.tracer)
    await client.post("/convo_turn_stream", json=ASK)

    assert [span.name for span in traces.spans] == ["moderation", "invoke_agent Leo", "POST /convo_turn_stream"]
    turn = get_attributes(traces.get("invoke_agent Leo"))
    assert turn["zoochat.moderation.categories"] == ("danger",)
    assert turn["gen_ai.response.finish_reasons"] == ("blocked",)


async def test_a_missing_thing_is_no_error_of_the_server(open_client: OpensClient, traces: Traces) -> None:
    """As the conventions for HTTP servers say."""
    client = await open_client(tracer=traces.tracer)
    await client.get("/animal/nobody")

    missing = traces.get("GET /animal/{animalId}")
    assert missing.status.status_code is StatusCode.UNSET
    assert get_attributes(missing)["http.response.status_code"] == 404
