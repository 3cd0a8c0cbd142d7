"""The trials at small sizes, each within its limits. `make trials` runs them at full size."""

from __future__ import annotations

import pytest

from tests.faults.personal_data import CLIENT_NAMES, find_secrets, remove_generated
from tests.faults.trials import TRIALS
from tests.moderation.test_pii import PERSONAL_TEXTS
from tests.support.redis_server import require_redis

BY_NAME = {trial.name: trial for trial in TRIALS}


def assert_met(name: str) -> None:
    figures = BY_NAME[name].run(is_quick=True)
    missed = [f"{figure.what}: {figure.measured}, line {figure.limit}" for figure in figures if figure.passed is False]
    assert figures
    assert not missed


def test_bad_input_is_answered_by_a_problem_and_changes_nothing() -> None:
    """Whatever is sent, and wherever: nothing of the inside is told, and no event and no log line is forged."""
    assert_met("bad input")


def test_no_request_holds_up_the_others() -> None:
    """Whatever the text, the field and the size of the body: 50 milliseconds of the event loop at most."""
    assert_met("pauses at every door")


def test_no_reply_of_a_model_holds_up_the_others() -> None:
    """Nor its replay, its history, its summary and the next turn."""
    assert_met("pauses at replies")


def test_a_killed_server_loses_no_message_and_leaves_no_turn_running() -> None:
    """Whatever the point of the turn: after the restart the message is there once, and the turn has ended, once."""
    assert_met("kill -9")


def test_two_processes_on_one_file_settle_only_what_is_dead() -> None:
    """A living process keeps its turns; one that slept too long gives them up, and they end once."""
    assert_met("kill -9 beside a second process")


def test_clients_that_leave_are_seen_and_leave_nothing_behind() -> None:
    """FIN and RST alike: within a second, and threads, files and tasks are as before."""
    assert_met("clients leave")


def test_a_turn_can_be_resumed_at_every_event() -> None:
    """Running or finished, by header or query: every later event once, and what cannot be resumed is named."""
    assert_met("resume")


def test_the_same_post_with_the_last_event_id_never_asks_the_animal_twice() -> None:
    """Clients that can only post resume so, and what they hear is whole to the byte."""
    assert_met("the same post again")


def test_stalled_readers_cost_little_and_disturb_nobody() -> None:
    """They are dropped after the send timeout; other streams and the health check do not notice."""
    assert_met("readers that stall")


def test_half_open_connections_are_given_up() -> None:
    """A peer that is gone without a word is noticed when it acknowledges nothing any more."""
    assert_met("half-open connections")


def test_requests_that_never_quite_arrive_are_ended() -> None:
    """Silence, slow headers, a slow body: the deadline holds for all of them."""
    assert_met("slow requests")


def test_a_store_that_is_away_loses_no_reply_that_was_complete() -> None:
    """Turns are refused with 503 until it is back, `/health` does not notice, and no restart is needed."""
    assert_met("store faults")


def test_a_broken_store_ends_the_start_in_a_sentence() -> None:
    """It is not overwritten."""
    assert_met("start with a broken store")


def test_of_racing_posts_on_one_session_one_wins() -> None:
    """Also where two processes share the file: the others are told which turn is in their way."""
    assert_met("racing posts")


def test_an_idempotency_key_stands_for_one_turn() -> None:
    """One after the other, all at once, at two processes, after a restart; never for another body."""
    assert_met("one idempotency key")


def test_sigterm_lets_turns_finish_and_tells_the_others_to_come_back() -> None:
    """Nothing new is taken, nothing is cut without a word, and the exit code is 0."""
    assert_met("SIGTERM")


def test_a_second_sigterm_ends_at_once_and_closes_streams_properly() -> None:
    """However long the drain might have lasted."""
    assert_met("SIGTERM, again")


def test_sigterm_during_the_start_does_no_harm() -> None:
    """The process ends, without a traceback, and the next start finds everything in order."""
    assert_met("SIGTERM during the start")


def test_restarts_under_load_lose_nothing() -> None:
    """Every message that was accepted and every reply that was complete is stored once."""
    assert_met("restarts under load")


def test_no_request_fails_where_log_metrics_and_traces_go_nowhere() -> None:
    """An unread pipe, a full disk, a collector that refuses or says nothing, a scraper that does not read."""
    assert_met("sinks that are away")


def test_a_failing_model_ends_the_turn_once_in_our_own_words() -> None:
    """Refused, hung, reset, cut, nonsense: one terminal event, and before the first word the animal's own answer."""
    assert_met("a model that fails")


def test_unsafe_phrases_of_the_model_are_not_sent() -> None:
    """Wherever its words are cut in two."""
    assert_met("a model that says unsafe things")


def test_disguised_unsafe_phrases_are_not_sent_either() -> None:
    """Letter by letter, with blanks, marks and codes between them."""
    assert_met("a model that disguises unsafe words")


def test_personal_data_is_kept_nowhere_and_a_call_for_help_gets_the_fixed_answer() -> None:
    """Through all five APIs; and a deleted session leaves no trace."""
    assert_met("personal data and calls for help")


def test_leaving_out_generated_ids_and_times_hides_no_personal_data() -> None:
    """A postcode would otherwise be found by chance among their digits."""
    secrets = [secret for text, masked in PERSONAL_TEXTS for secret in find_secrets(text, masked)]
    for secret in [*secrets, *CLIENT_NAMES]:
        line = f"2026-11-29T11:49:05.902101Z turn=turn_5e902101 cookie:0123456789012345 said={secret}"
        assert secret in remove_generated(line)
        assert not set("0123456789") & set(remove_generated(line).replace(secret, ""))


def test_expired_sessions_cannot_be_read() -> None:
    """From that second on, though nothing has been cleaned up yet."""
    assert_met("expired sessions")


def test_harmless_questions_are_answered() -> None:
    """Death, mating, hunting and poo included."""
    assert_met("harmless questions")


def test_a_flood_of_streams_is_refused_and_disturbs_nobody() -> None:
    """One address gets 429, also with invented cookies; streams of another one are complete."""
    assert_met("a flood of streams from one address")


def test_guessed_passwords_are_not_tried_and_delay_nobody() -> None:
    """Nor do logins whose clients have left, or many at once from one address."""
    assert_met("guessed passwords")


def test_forged_tokens_are_refused_and_nothing_tells_a_secret() -> None:
    """Nor is a good token taken from anywhere but its header; ids cannot be guessed."""
    assert_met("forged tokens and secrets")


def test_a_model_that_reveals_its_prompt_is_not_heard() -> None:
    """Plain, backwards, spelled out, or all of its instructions."""
    assert_met("a model that reveals its prompt")


@pytest.mark.parametrize("name", [trial.name for trial in TRIALS if trial.id == "SCALE"])
def test_several_processes_serve_each_others_turns(name: str) -> None:
    """Whatever of them fails: nothing lost, nothing twice, and what cannot be told is named."""
    require_redis()
    assert_met(name)
