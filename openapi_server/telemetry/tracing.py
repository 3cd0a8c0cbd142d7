"""OpenTelemetry traces: implements `Tracer`. Needs the extra `telemetry`; import it only where traces are wanted.

A span for each HTTP request and each turn, and one for each stage of a turn. Their names and attributes are those of
OpenTelemetry's semantic conventions for HTTP and for generative AI, and are all in this module. No span holds a text
of a message or of a reply, and no whole id.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from openapi_server import __version__
from openapi_server.models.ids import shorten_id
from openapi_server.models.turn import Stage
from openapi_server.models.turn_events import Completed, Failed, Started

SERVICE = "zoochat"
# How long the end of the process waits for a collector to take the last spans, in seconds.
FLUSH_TIMEOUT_S = 2.0

# Attributes of HTTP spans.
HTTP_METHOD = "http.request.method"
HTTP_ROUTE = "http.route"
HTTP_STATUS = "http.response.status_code"
ERROR_TYPE = "error.type"

# Attributes of generative AI.
OPERATION = "gen_ai.operation.name"
AGENT_ID = "gen_ai.agent.id"
AGENT_NAME = "gen_ai.agent.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
FINISH_REASONS = "gen_ai.response.finish_reasons"
FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"

# Our own, for which there is no convention. `zoochat.turn` is the shortened id that the log lines have, too.
TURN = "zoochat.turn"
CONTRACT = "zoochat.contract"
FACTS = "zoochat.facts"
FLAGGED = "zoochat.moderation.categories"

# The values of `gen_ai.operation.name`. Moderation and reranking have none in the conventions.
INVOKE_AGENT, CHAT = "invoke_agent", "chat"
STAGE_OPERATIONS = {Stage.RETRIEVAL: "retrieval", Stage.GENERATION: CHAT}
# The values of `gen_ai.provider.name`, where they differ from those of the setting PROVIDER.
PROVIDER_NAMES = {"bedrock": "aws.bedrock"}

_propagator = TraceContextTextMapPropagator()

log = structlog.get_logger(__name__)


class OpenTelemetryRequestSpan:
    """Implements `RequestSpan`."""

    def __init__(self, span: Span, method: str) -> None:
        self._span = span
        self._method = method

    def describe(self, route: str | None, status: int | None) -> None:
        span = self._span
        if route is not None:
            span.update_name(f"{self._method} {route}")
            span.set_attribute(HTTP_ROUTE, route)
        if status is not None:
            span.set_attribute(HTTP_STATUS, status)
        if status is not None and status >= 500:
            span.set_attribute(ERROR_TYPE, str(status))
            span.set_status(Status(StatusCode.ERROR))


class OpenTelemetryTurn:
    """Implements `TurnTrace`."""

    def __init__(self, tracer: trace.Tracer, started: Started, contract: str, provider: str) -> None:
        self._tracer = tracer
        self._started = started
        self._provider = PROVIDER_NAMES.get(provider, provider)
        self._stage: Stage | None = None
        self._stage_span: Span | None = None
        self._span = tracer.start_span(
            f"{INVOKE_AGENT} {started.animal_name}",
            attributes={
                OPERATION: INVOKE_AGENT,
                AGENT_ID: started.animal_id,
                AGENT_NAME: started.animal_name,
                PROVIDER: self._provider,
                REQUEST_MODEL: started.model,
                CONTRACT: contract,
                TURN: shorten_id(started.turn_id),
            },
        )

    def start_stage(self, stage: Stage) -> None:
        is_generation = stage is Stage.GENERATION
        self._stage = stage
        self._stage_span = self._tracer.start_span(
            f"{CHAT} {self._started.model}" if is_generation else stage.value,
            trace.set_span_in_context(self._span, Context()),
            SpanKind.CLIENT if is_generation else SpanKind.INTERNAL,
        )
        if operation := STAGE_OPERATIONS.get(stage):
            self._stage_span.set_attribute(OPERATION, operation)
        if is_generation:
            self._stage_span.set_attributes({PROVIDER: self._provider, REQUEST_MODEL: self._started.model})

    def end_stage(self, found: int | None = None) -> None:
        span = self._stage_span
        # Generation ends with the turn: only then it is known what was generated.
        if span is None or self._stage is Stage.GENERATION:
            return
        if found is not None:
            span.set_attribute(FACTS, found)
        span.end()
        self._stage_span = None

    def end(self, event: Completed | Failed) -> None:
        for span in (self._stage_span, self._span):
            if span is not None:
                _describe_end(span, event)
                span.end()
        self._stage_span = None


class OpenTelemetryTracer:
    """Implements `Tracer`. `provider` is the one that the settings name; `processor` gets every span that has ended."""

    def __init__(self, processor: SpanProcessor, provider: str) -> None:
        resource = Resource.create({SERVICE_NAME: SERVICE, SERVICE_VERSION: __version__})
        self._spans = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._spans.add_span_processor(processor)
        self._tracer = self._spans.get_tracer(SERVICE, __version__)
        self._provider = provider

    @contextmanager
    def trace_request(self, method: str, headers: Mapping[str, str]) -> Iterator[OpenTelemetryRequestSpan]:
        # Into an empty context: what runs in the process besides belongs to no request.
        parent = _propagator.extract(headers, Context())
        span = self._tracer.start_span(method, parent, SpanKind.SERVER, {HTTP_METHOD: method})
        # An exception would be recorded with its text.
        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            yield OpenTelemetryRequestSpan(span, method)

    def trace_turn(self, started: Started, contract: str) -> OpenTelemetryTurn:
        return OpenTelemetryTurn(self._tracer, started, contract, self._provider)

    def close(self) -> None:
        """Send what is left. Blocks for as long as the collector takes."""
        self._spans.shutdown()


@asynccontextmanager
async def open_tracer(endpoint: str, provider: str) -> AsyncIterator[OpenTelemetryTracer]:
    """Sends spans to the OTLP endpoint (HTTP) in a thread of its own; while it is away, they are dropped.

    Other settings come from the standard variables, such as `OTEL_EXPORTER_OTLP_HEADERS` and `OTEL_TRACES_SAMPLER`.
    """
    exporter = _Exporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    tracer = OpenTelemetryTracer(BatchSpanProcessor(exporter), provider)
    log.info("traces_sent", endpoint=endpoint)
    try:
        yield tracer
    finally:
        closing = threading.Thread(target=tracer.close, name="telemetry-close", daemon=True)
        closing.start()
        closing.join(FLUSH_TIMEOUT_S)
        if closing.is_alive():
            log.warning("last_spans_not_sent", endpoint=endpoint)
            # It ends the exporter's pauses between its attempts.
            exporter.shutdown()


class _Exporter(OTLPSpanExporter):
    """May be shut down twice without a warning: here, and by its processor."""

    _is_shut_down = False

    def shutdown(self) -> None:
        if not self._is_shut_down:
            self._is_shut_down = True
            super().shutdown()  # type: ignore[no-untyped-call]


def _describe_end(span: Span, event: Completed | Failed) -> None:
    if isinstance(event, Failed):
        span.set_attribute(ERROR_TYPE, event.problem.code)
        span.set_status(Status(StatusCode.ERROR))
        return
    span.set_attributes(
        {
            RESPONSE_MODEL: event.model,
            FINISH_REASONS: (event.finish_reason.value,),
            INPUT_TOKENS: event.usage.prompt_tokens,
            OUTPUT_TOKENS: event.usage.completion_tokens,
        }
    )
    if event.first_token_ms is not None:
        span.set_attribute(FIRST_CHUNK, event.first_token_ms / 1000)
    if event.moderation.categories:
        span.set_attribute(FLAGGED, event.moderation.categories)
