"""What only DynamoDB has: tables, batches, answers that are lost, requests that are throttled, and items that grow."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError
from click.testing import CliRunner

from openapi_server.cli import main
from openapi_server.cli.doctor import Level, check_dynamodb
from openapi_server.config import DynamoLocation
from openapi_server.models.credits import Allocation, Charge
from openapi_server.models.errors import BodyTooLarge, StoreUnavailable
from openapi_server.models.idempotency import StoredAnswer
from openapi_server.models.personal_data import DataSubject
from openapi_server.models.session import DeviceUser
from openapi_server.models.turn import IdempotencyKey
from openapi_server.models.user import Login, Role, User
from openapi_server.models.versioned_document import Change, ChangeKind
from openapi_server.storage.dynamodb import batches_and_transactions as dynamodb
from openapi_server.storage.dynamodb import deletion, opening
from openapi_server.storage.dynamodb.batches_and_transactions import Database, Key, Table, TableNames
from openapi_server.storage.dynamodb.items import session_key
from openapi_server.storage.dynamodb.sessions import DynamoStore
from openapi_server.storage.factory import Stores
from tests.support.dynamodb import find_tables, make_location, open_checked_client, open_dynamodb, use_tables
from tests.support.examples import NOON, SESSION_ID, TURN_ID, make_outcome, make_session, make_turn
from tests.support.fakes import FakeClock

Sends = Callable[[Any], Any]
THROTTLED = {"__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException", "message": "Slow down"}
BEN = User("ben", Role.USER, "hash of ben's", NOON)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def stores(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Stores]:
    async with open_dynamodb(tmp_path, clock) as opened:
        yield opened


@pytest.fixture
def database(stores: Stores) -> Database:
    assert isinstance(stores.sessions, DynamoStore)
    return stores.sessions._database


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between attempts; botocore's own are half a second on average."""
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)


@contextmanager
def replace_send(client: Any, make: Callable[[Sends], Sends]) -> Iterator[None]:
    """Put something between the client and the network."""
    session = client._endpoint.http_session
    session.send = make(session.send)
    try:
        yield
    finally:
        del session.send


def get_operation(request: Any) -> str:
    """Such as `TransactWriteItems`."""
    target = request.headers["X-Amz-Target"]
    return (target.decode() if isinstance(target, bytes) else target).partition(".")[2]


def make_answer(request: Any, status: int, body: object) -> AWSResponse:
    class Raw:
        def stream(self, *_: object, **__: object) -> Iterator[bytes]:
            yield json.dumps(body).encode()

    return AWSResponse(request.url, status, {"Content-Type": "application/x-amz-json-1.0"}, Raw())


def lose_first_answer(operation: str) -> Callable[[Sends], Sends]:
    """The first request of that kind is carried out, but its answer never comes."""
    lost: list[str] = []

    def make(send: Sends) -> Sends:
        def send_and_lose(request: Any) -> Any:
            answer = send(request)
            if get_operation(request) == operation and not lost:
                lost.append(operation)
                raise ReadTimeoutError(endpoint_url=request.url)
            return answer

        return send_and_lose

    return make


def throttle(count: int) -> Callable[[Sends], Sends]:
    """The first `count` requests are refused."""
    left = [count]

    def make(send: Sends) -> Sends:
        def send_or_refuse(request: Any) -> Any:
            left[0] -= 1
            return make_answer(request, 400, THROTTLED) if left[0] >= 0 else send(request)

        return send_or_refuse

    return make


def fail_to_connect(send: Sends) -> Sends:
    def refuse(request: Any) -> Any:
        raise EndpointConnectionError(endpoint_url=request.url)

    return refuse


# What goes wrong on the way


async def test_a_lost_answer_to_a_beginning_is_no_second_turn(stores: Stores, database: Database) -> None:
    """The client sends the request again, with its token; this endpoint takes it for another one, which fails."""
    with replace_send(database.client, lose_first_answer("TransactWriteItems")):
        assert await stores.sessions.begin_turn(make_turn(), make_session()) == TURN_ID

    assert [turn.turn_id for turn in (await stores.sessions.list_turns(SESSION_ID, 10)).items] == [TURN_ID]


async def test_a_lost_answer_to_an_end_is_no_second_price(stores: Stores, database: Database) -> None:
    """The outcome is told as stored, and was paid once."""
    await stores.accounts.create_user(BEN)
    await stores.credits.allocate_credits(Allocation("ben", 100, NOON))
    await stores.sessions.begin_turn(make_turn(), make_session(), charge=Charge("ben", 60))
    outcome = replace(make_outcome(), credits_used=25)
    with replace_send(database.client, lose_first_answer("TransactWriteItems")):
        assert await stores.sessions.settle_turn(TURN_ID, outcome) == outcome

    balance = await stores.credits.get_balance("ben")
    assert balance is not None
    assert balance.credits == 75


async def test_a_lost_answer_to_a_single_write_changes_nothing(stores: Stores, database: Database) -> None:
    """Such as a new role: written alone, without a transaction."""
    await stores.accounts.create_user(BEN)
    with replace_send(database.client, lose_first_answer("PutItem")):
        assert await stores.accounts.set_role("ben", Role.PARENT)

    user = await stores.accounts.get_user("ben")
    assert user is not None
    assert user.role is Role.PARENT


async def test_a_throttled_request_is_sent_again(stores: Stores, database: Database) -> None:
    """As often as botocore's standard mode does; nobody notices."""
    with replace_send(database.client, throttle(dynamodb.CALL_ATTEMPTS - 1)):
        assert await stores.sessions.begin_turn(make_turn(), make_session()) == TURN_ID


@pytest.mark.parametrize("make", [throttle(1000), fail_to_connect], ids=["throttled", "away"])
async def test_a_store_that_does_not_answer_is_unavailable(
    stores: Stores, database: Database, make: Callable[[Sends], Sends]
) -> None:
    """Callers are told when to come again; nothing is half done, and afterwards all is well without a restart."""
    await stores.sessions.begin_turn(make_turn(), make_session())
    with replace_send(database.client, make):
        for call in (
            stores.sessions.begin_turn(make_turn("turn_b", "sess_b"), make_session("sess_b")),
            stores.sessions.settle_turn(TURN_ID, make_outcome()),
            stores.sessions.get_turn(TURN_ID),
            stores.sessions.ping(),
        ):
            with pytest.raises(StoreUnavailable) as refusal:
                await call
            assert refusal.value.retry_after_s is not None

    assert await stores.sessions.get_session("sess_b") is None
    assert await stores.sessions.settle_turn(TURN_ID, make_outcome()) is not None


async def test_what_a_batch_leaves_is_asked_for_again(stores: Stores, database: Database) -> None:
    """DynamoDB may do any part of a batch: here one item of each request."""
    await asyncio.gather(*(stores.sessions.create_session(make_session(f"sess_{n}")) for n in range(5)))

    def make(send: Sends) -> Sends:
        def send_a_part(request: Any) -> Any:
            if get_operation(request) != "BatchGetItem":
                return send(request)
            ((table, wanted),) = json.loads(request.body)["RequestItems"].items()
            keys = wanted["Keys"]
            found = database.client.get_item(TableName=table, Key=keys[0])["Item"]
            rest = {table: {**wanted, "Keys": keys[1:]}} if keys[1:] else {}
            return make_answer(request, 200, {"Responses": {table: [found]}, "UnprocessedKeys": rest})

        return send_a_part

    with replace_send(database.client, make):
        counts = await stores.sessions.count_messages([f"sess_{n}" for n in range(5)])

    assert counts == {f"sess_{n}": 0 for n in range(5)}
    assert len(await stores.sessions.find_named_sessions(list(counts), None, "-")) == 5


async def test_steps_that_meet_again_and_again_end(
    stores: Stores, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an error that can be told, and not with a thread that is never free again."""
    monkeypatch.setattr(dynamodb, "STEP_ATTEMPTS", 3)
    key = session_key(SESSION_ID)
    attempts = []

    def meet(transaction: dynamodb.Transaction) -> None:
        attempts.append(transaction.get(key))
        database.write_many([(key, {"n": len(attempts)})])
        transaction.put(key, {"n": -1})

    with pytest.raises(StoreUnavailable):
        await database.transact(meet)
    assert len(attempts) == 3


# Sizes


async def test_a_document_that_no_item_can_hold_is_refused(stores: Stores) -> None:
    """With the limit, and before anything is written."""
    change = Change("lion_001", ChangeKind.CREATE, "kim", NOON)
    with pytest.raises(BodyTooLarge, match="340,000"):
        await stores.animals.put_document(change, None, {"facts": [], "text": "ä" * 180_000})

    assert (await stores.animals.list_changes(0)).version == 0
    assert await stores.animals.put_document(change, None, {"facts": [], "text": "ä" * 160_000}) is not None


async def test_a_turn_that_no_item_can_hold_is_not_settled(stores: Stores) -> None:
    """The longest reply that MAX_TOKENS allows has a tenth of that."""
    await stores.sessions.begin_turn(make_turn(), make_session())
    with pytest.raises(StoreUnavailable):
        await stores.sessions.settle_turn(TURN_ID, make_outcome("🦁" * 100_000))

    assert await stores.sessions.settle_turn(TURN_ID, make_outcome("🦁" * 40_000)) is not None


async def test_a_long_answer_is_kept_whole(stores: Stores, clock: FakeClock) -> None:
    """An animal's document, which somebody changed with an idempotency key."""
    key = IdempotencyKey("key", "body", clock.now() + timedelta(days=1))
    answer = StoredAnswer(200, (("content-type", "application/json"),), json.dumps(["Löwe 🦁"] * 40_000), "lion_001")
    assert await stores.requests.begin(key, "user:kim") is None
    await stores.requests.finish(key, answer)

    assert await stores.requests.begin(key, "user:kim") == answer


# Sessions with more turns than a batch or a transaction takes


async def add_many_turns(stores: Stores, count: int) -> list[str]:
    await stores.sessions.create_session(make_session())
    names = [f"turn_{n:03}" for n in range(count)]
    for n, name in enumerate(names):
        await stores.sessions.begin_turn(make_turn(name, at=NOON + timedelta(seconds=n)))
        await stores.sessions.settle_turn(name, make_outcome())
    return names


async def test_a_long_session_is_deleted_whole(stores: Stores, database: Database) -> None:
    """No item of it is left in any table."""
    names = await add_many_turns(stores, 30)
    assert await stores.sessions.delete_session(SESSION_ID) == names

    assert list_items(database) == []


def list_items(database: Database) -> list[str]:
    """The keys of all items, but for the layout's number."""
    found: list[str] = []
    for table in Table:
        items = database.client.scan(TableName=database.names[table])["Items"]
        found += ("/".join(item[name]["S"] for name in table.key_attributes) for item in items)
    return [key for key in found if not key.startswith("LAYOUT#")]


async def test_a_deletion_goes_on_where_a_process_has_stopped(
    stores: Stores, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody sees the turns meanwhile, and a new session with the same id waits until they are gone."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    await add_many_turns(stores, 2)
    with monkeypatch.context() as stopped:
        stopped.setattr(deletion, "delete_content", stop)
        with pytest.raises(KeyboardInterrupt):
            deletion.delete_session(database, SESSION_ID, "2026-11-21T12:00:00.000000+00:00")
    assert await stores.sessions.get_turn("turn_000") is None
    assert "TURN#turn_000/-" in list_items(database)

    await stores.sessions.begin_turn(make_turn("turn_new"), make_session())
    assert "TURN#turn_000/-" not in list_items(database)
    assert [turn.turn_id for turn in await stores.sessions.list_latest_turns(SESSION_ID, 5)] == ["turn_new"]


async def test_the_hourly_job_ends_deletions(
    stores: Stores, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nobody asks for the session again."""
    await add_many_turns(stores, 2)
    with monkeypatch.context() as stopped:
        stopped.setattr(deletion, "delete_content", lambda *_: [])
        deletion.delete_session(database, SESSION_ID, "2026-11-21T12:00:00.000000+00:00")
    assert list_items(database) != []

    await stores.sessions.delete_expired_sessions(10)
    assert list_items(database) == []


async def test_what_dynamodb_has_deleted_by_age_takes_the_rest_along(
    stores: Stores, database: Database, clock: FakeClock
) -> None:
    """The session's item alone has a time to live: turns, names and devices are found without it."""
    session = replace(make_session(at=clock.now()), handle="chat_kiosk", title="Mia", name_key="k", ttl_s=60)
    await stores.sessions.begin_turn(make_turn(at=clock.now()), session)
    await stores.sessions.settle_turn(TURN_ID, make_outcome())
    clock.advance(60)
    place = f"SESSION#{clock.now() - timedelta(seconds=60):%Y-%m-%dT%H:%M:%S.%f}+00:00#{SESSION_ID}"
    owner = Key(Table.STATE, "OWNER#cookie:mia", place)
    assert database.get(owner) is not None
    database.write_many(deletes=[session_key(SESSION_ID), owner])

    assert await stores.sessions.get_turn(TURN_ID) is None
    assert await stores.sessions.count_expired_sessions() == 1
    assert await stores.sessions.delete_expired_sessions(10) == 1
    assert list_items(database) == []


async def test_a_session_that_goes_on_is_looked_at_later(stores: Stores, clock: FakeClock) -> None:
    """Where it would have expired without its last message, it is not counted, and not deleted."""
    await stores.sessions.create_session(replace(make_session(at=clock.now()), ttl_s=60))
    clock.advance(50)
    await stores.sessions.begin_turn(make_turn(at=clock.now()))
    await stores.sessions.settle_turn(TURN_ID, make_outcome())
    clock.advance(50)
    assert await stores.sessions.count_expired_sessions() == 0
    assert await stores.sessions.delete_expired_sessions(10) == 0

    clock.advance(10)
    assert await stores.sessions.count_expired_sessions() == 1
    assert await stores.sessions.delete_expired_sessions(10) == 1


async def test_an_erasure_leaves_no_item_of_a_person(stores: Stores, database: Database, clock: FakeClock) -> None:
    """Neither in an index, nor of a login, nor of an answer."""
    await stores.accounts.create_user(BEN)
    empty = list_items(database)
    await stores.credits.allocate_credits(
        Allocation("ben", 50, clock.now()), IdempotencyKey("k", "b", clock.now() + timedelta(days=1))
    )
    login = Login("login_1", "ben", clock.now(), clock.now() + timedelta(days=30))
    await stores.accounts.create_login(login, "token", BEN.password_hash)
    key = IdempotencyKey("key", "body", clock.now() + timedelta(days=1))
    await stores.requests.begin(key, "user:ben")
    await stores.requests.finish(key, StoredAnswer(200, (), "{}", "ben"))
    session = replace(make_session(owner="user:ben", at=clock.now()), title="Ben's", name_key="n", handle="chat_b")
    await stores.sessions.begin_turn(make_turn(at=clock.now()), session, [key], Charge("ben", 5))
    assert (await stores.personal_data.export(DataSubject(owner="user:ben"))).devices == (
        DeviceUser(SESSION_ID, "chat_b", clock.now()),
    )

    await stores.personal_data.erase(DataSubject(owner="user:ben"), with_account=True)
    assert list_items(database) == [key for key in empty if "ben" not in key]


# The tables


@pytest.fixture
def location(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> DynamoLocation:
    """A place where no table is yet, in the settings of the command line."""
    found = make_location(f"zoochat-test-{secrets.token_hex(6)}")
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "STORE": "dynamodb",
        "DYNAMODB_ENDPOINT": found.endpoint or "",
        "AWS_REGION": found.region,
        "CONVERSATION_SESSION_TABLE_NAME": found.sessions,
        "CONVERSATION_DYNAMO_TABLE_NAME": found.turns,
        "CONVERSATION_STATE_TABLE_NAME": found.state,
    }.items():
        monkeypatch.setenv(name, value)
    return found


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, arguments)
    return result.exit_code, result.output


def test_tables_are_made_once_and_checked(location: DynamoLocation) -> None:
    """A check says what is missing, and changes nothing."""
    for _ in range(2):
        code, output = run("tables", "check")
        assert (code, output.count("does not exist")) == (1, 3)
    code, output = run("users", "list")
    assert code == 1
    assert "a table is missing" in output
    assert "zoochat tables create" in output

    code, output = run("tables", "create")
    assert (code, output.count(": created")) == (0, 3)
    assert run("tables", "create") == (0, "Nothing was missing.\n")
    code, output = run("tables", "check")
    assert (code, output.count(": complete")) == (0, 3)
    assert run("users", "list")[0] == 0


def test_a_check_names_what_a_table_lacks(location: DynamoLocation) -> None:
    """Other keys make it unusable; a table without a time to live or backups is only pointed out."""
    run("tables", "create")
    client = open_checked_client(location.region, location.endpoint)
    client.delete_table(TableName=location.turns)
    client.create_table(
        TableName=location.turns,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "turnId", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "turnId", "KeyType": "HASH"}],
    )
    client.update_time_to_live(
        TableName=location.sessions, TimeToLiveSpecification={"Enabled": False, "AttributeName": "ttl"}
    )
    code, output = run("tables", "check")

    assert code == 1
    assert f"{location.turns}: has other keys than sessionId and timestamp" in output
    assert f"{location.sessions}: does not delete items by the time in ttl" in output
    levels = {finding.detail.partition(":")[0]: finding.status for finding in check_dynamodb(location)}
    assert levels == {location.turns: Level.PROBLEM, location.sessions: Level.WARNING}


def test_the_doctor_writes_to_the_tables() -> None:
    """And finds nothing to mend."""
    assert [finding.status for finding in check_dynamodb(find_tables())] == [Level.OK]


def test_the_doctor_explains_an_endpoint_that_is_not_there(location: DynamoLocation) -> None:
    """With the setting to look at."""
    (finding,) = check_dynamodb(replace(location, endpoint="http://127.0.0.1:9"))
    assert finding.status is Level.PROBLEM
    assert "DYNAMODB_ENDPOINT" in finding.detail


async def test_tables_of_a_newer_server_are_refused(tmp_path: Path, clock: FakeClock) -> None:
    """Before anything is read or written."""
    location = use_tables(tmp_path)
    names = TableNames(location.sessions, location.turns, location.state)
    database = Database(open_checked_client(location.region, location.endpoint), names)
    database.write_many([(opening._LAYOUT_KEY, {"layout": opening.LAYOUT + 1})])
    with pytest.raises(StoreUnavailable) as refusal:
        async with open_dynamodb(tmp_path, clock):
            pass

    assert "newer version" in opening.explain_failure(location, refusal.value.__cause__)
    database.write_many(deletes=[opening._LAYOUT_KEY])
    await database.close()
