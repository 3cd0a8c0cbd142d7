"""The SQLite schema as a list of migrations. A migration that has shipped is never edited: add another below it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

Migration = Callable[[sqlite3.Connection], None]


def create_sessions_turns_and_messages(connection: sqlite3.Connection) -> None:
    """A turn without `ended_at` is running; the partial unique index allows one running turn a session."""
    connection.execute(
        """
        CREATE TABLE sessions (
            session_id TEXT PRIMARY KEY,
            animal_id TEXT NOT NULL,
            owner TEXT,
            created_at TEXT NOT NULL,
            last_message_at TEXT NOT NULL,
            turn_count INTEGER NOT NULL DEFAULT 0
        ) STRICT
        """
    )
    connection.execute(
        """
        CREATE TABLE turns (
            turn_id TEXT PRIMARY KEY,
            session_id TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
            position INTEGER NOT NULL,
            animal_id TEXT NOT NULL,
            age_group TEXT NOT NULL,
            model TEXT NOT NULL,
            metadata TEXT,
            created_at TEXT NOT NULL,
            ended_at TEXT,
            outcome TEXT,
            UNIQUE (session_id, position)
        ) STRICT
        """
    )
    connection.execute(
        """
        CREATE TABLE messages (
            turn_id TEXT NOT NULL REFERENCES turns ON DELETE CASCADE,
            role TEXT NOT NULL CHECK (role IN ('visitor', 'animal')),
            content TEXT NOT NULL,
            created_at TEXT NOT NULL,
            PRIMARY KEY (turn_id, role)
        ) STRICT, WITHOUT ROWID
        """
    )
    connection.execute("CREATE INDEX sessions_by_owner ON sessions (owner, last_message_at) WHERE owner IS NOT NULL")
    connection.execute("CREATE UNIQUE INDEX one_running_turn_a_session ON turns (session_id) WHERE ended_at IS NULL")
    connection.execute("CREATE INDEX running_turns ON turns (turn_id) WHERE ended_at IS NULL")


def add_leases_expiry_and_idempotency_keys(connection: sqlite3.Connection) -> None:
    """Leases of running turns, the expiry of sessions, and the idempotency keys of requests."""
    connection.execute("ALTER TABLE turns ADD COLUMN worker TEXT NOT NULL DEFAULT ''")
    connection.execute("ALTER TABLE turns ADD COLUMN lease_until TEXT")
    connection.execute("ALTER TABLE sessions ADD COLUMN ttl_s INTEGER NOT NULL DEFAULT 86400")
    connection.execute("ALTER TABLE sessions ADD COLUMN expires_at TEXT NOT NULL DEFAULT '9999'")
    connection.execute("CREATE INDEX sessions_by_expiry ON sessions (expires_at)")
    connection.execute(
        """
        CREATE TABLE idempotency_keys (
            key TEXT PRIMARY KEY,
            body_hash TEXT NOT NULL,
            turn_id TEXT NOT NULL REFERENCES turns ON DELETE CASCADE,
            expires_at TEXT NOT NULL
        ) STRICT, WITHOUT ROWID
        """
    )
    connection.execute("CREATE INDEX idempotency_keys_by_turn ON idempotency_keys (turn_id)")


def add_accounts_and_credits(connection: sqlite3.Connection) -> None:
    """Accounts, their credits, and what running turns have reserved of these.

    A lot that never expires has the time '9999', which sorts behind all others. Reservations and the ledger name turns
    without a foreign key: what was spent stays spent when the session is deleted.
    """
    connection.execute(
        """
        CREATE TABLE users (
            username TEXT PRIMARY KEY,
            role TEXT NOT NULL CHECK (role IN ('user', 'parent', 'zookeeper', 'administrator')),
            password_hash TEXT NOT NULL,
            created_at TEXT NOT NULL,
            parent TEXT REFERENCES users,
            is_demo INTEGER NOT NULL DEFAULT 0
        ) STRICT, WITHOUT ROWID
        """
    )
    connection.execute("CREATE INDEX users_by_parent ON users (parent) WHERE parent IS NOT NULL")
    connection.execute(
        """
        CREATE TABLE logins (
            login_id TEXT PRIMARY KEY,
            username TEXT NOT NULL REFERENCES users ON DELETE CASCADE,
            began_at TEXT NOT NULL,
            expires_at TEXT NOT NULL,
            ended_at TEXT
        ) STRICT, WITHOUT ROWID
        """
    )
    connection.execute("CREATE INDEX logins_by_user ON logins (username)")
    connection.execute("CREATE INDEX logins_by_expiry ON logins (expires_at)")
    connection.execute(
        """
        CREATE TABLE refresh_tokens (
            token_hash TEXT PRIMARY KEY,
            login_id TEXT NOT NULL REFERENCES logins ON DELETE CASCADE,
            used_at TEXT
        ) STRICT, WITHOUT ROWID
        """
    )
    connection.execute("CREATE INDEX refresh_tokens_by_login ON refresh_tokens (login_id)")
    connection.execute(
        """
        CREATE TABLE credit_lots (
            lot_id INTEGER PRIMARY KEY,
            username TEXT NOT NULL REFERENCES users ON DELETE CASCADE,
            credits INTEGER NOT NULL CHECK (credits > 0),
            remaining INTEGER NOT NULL CHECK (remaining BETWEEN 0 AND credits),
            expires_at TEXT NOT NULL
        ) STRICT
        """
    )
    connection.execute("CREATE INDEX credit_lots_by_user ON credit_lots (username, expires_at) WHERE remaining > 0")
    connection.execute(
        """
        CREATE TABLE credit_reservations (
            turn_id TEXT NOT NULL,
            lot_id INTEGER NOT NULL REFERENCES credit_lots ON DELETE CASCADE,
            credits INTEGER NOT NULL CHECK (credits > 0),
            PRIMARY KEY (turn_id, lot_id)
        ) STRICT, WITHOUT ROWID
        """
    )
    connection.execute("CREATE INDEX credit_reservations_by_lot ON credit_reservations (lot_id)")
    connection.execute(
        """
        CREATE TABLE credit_ledger (
            entry_id INTEGER PRIMARY KEY AUTOINCREMENT,
            username TEXT NOT NULL REFERENCES users ON DELETE CASCADE,
            kind TEXT NOT NULL CHECK (kind IN ('allocate', 'reserve', 'settle', 'refund', 'expire')),
            credits INTEGER NOT NULL,
            turn_id TEXT,
            at TEXT NOT NULL,
            notes TEXT
        ) STRICT
        """
    )
    connection.execute("CREATE INDEX credit_ledger_by_user ON credit_ledger (username, entry_id)")


def add_titles_devices_and_directions(connection: sqlite3.Connection) -> None:
    """Session titles, the users of devices, and messages with a direction in place of a role."""
    for column in ("title TEXT", "opening TEXT", "handle TEXT", "locked_at TEXT"):
        connection.execute(f"ALTER TABLE sessions ADD COLUMN {column}")
    connection.execute(
        """
        CREATE TABLE device_users (
            user_id TEXT PRIMARY KEY,
            handle TEXT NOT NULL,
            created_at TEXT NOT NULL
        ) STRICT, WITHOUT ROWID
        """
    )
    connection.execute("CREATE INDEX device_users_by_handle ON device_users (handle)")
    connection.execute("ALTER TABLE messages RENAME TO older_messages")
    connection.execute(
        """
        CREATE TABLE messages (
            turn_id TEXT NOT NULL REFERENCES turns ON DELETE CASCADE,
            direction TEXT NOT NULL CHECK (direction IN ('incoming', 'outgoing')),
            body TEXT NOT NULL,
            media_url TEXT,
            created_at TEXT NOT NULL,
            PRIMARY KEY (turn_id, direction)
        ) STRICT, WITHOUT ROWID
        """
    )
    connection.execute(
        """
        INSERT INTO messages (turn_id, direction, body, created_at)
        SELECT turn_id, iif(role = 'visitor', 'incoming', 'outgoing'), content, created_at FROM older_messages
        """
    )
    connection.execute("DROP TABLE older_messages")
    connection.execute("CREATE INDEX turns_by_time ON turns (created_at, turn_id)")


def add_animals_their_history_and_drafts(connection: sqlite3.Connection) -> None:
    """Animals as zookeepers edit them. A change's number is the animal's version: AUTOINCREMENT gives none twice."""
    connection.execute(
        """
        CREATE TABLE animals (
            animal_id TEXT PRIMARY KEY,
            version INTEGER NOT NULL,
            document TEXT NOT NULL
        ) STRICT
        """
    )
    connection.execute(
        """
        CREATE TABLE animal_changes (
            version INTEGER PRIMARY KEY AUTOINCREMENT,
            animal_id TEXT NOT NULL,
            operation TEXT NOT NULL,
            changed_by TEXT NOT NULL,
            changed_at TEXT NOT NULL,
            fields TEXT NOT NULL
        ) STRICT
        """
    )
    connection.execute("CREATE INDEX animal_changes_by_animal ON animal_changes (animal_id, version)")
    connection.execute(
        """
        CREATE TABLE animal_drafts (
            animal_id TEXT PRIMARY KEY REFERENCES animals ON DELETE CASCADE,
            document TEXT NOT NULL,
            based_on INTEGER NOT NULL,
            made_by TEXT NOT NULL,
            made_at TEXT NOT NULL
        ) STRICT
        """
    )


def add_retention_and_audit(connection: sqlite3.Connection) -> None:
    """Indexes that find old rows by their age, and the audit trail."""
    connection.execute("CREATE INDEX sessions_by_last_message ON sessions (last_message_at)")
    connection.execute(
        """
        CREATE INDEX sessions_with_words ON sessions (created_at) WHERE opening IS NOT NULL OR title IS NOT NULL
        """
    )
    connection.execute(
        """
        CREATE TABLE audit (
            entry_id INTEGER PRIMARY KEY AUTOINCREMENT,
            at TEXT NOT NULL,
            deed TEXT NOT NULL,
            role TEXT NOT NULL,
            name TEXT,
            about TEXT,
            request_id TEXT
        ) STRICT
        """
    )
    connection.execute("CREATE INDEX audit_by_time ON audit (at)")


def add_edited_rules(connection: sqlite3.Connection) -> None:
    """Rules that override the packaged ones, and their history; a change's number is the rule's version."""
    connection.execute(
        "CREATE TABLE rules (name TEXT PRIMARY KEY, version INTEGER NOT NULL, document TEXT NOT NULL) STRICT"
    )
    connection.execute(
        """
        CREATE TABLE rule_changes (
            version INTEGER PRIMARY KEY AUTOINCREMENT,
            name TEXT NOT NULL,
            operation TEXT NOT NULL,
            changed_by TEXT NOT NULL,
            changed_at TEXT NOT NULL
        ) STRICT
        """
    )


def add_readiness_probe(connection: sqlite3.Connection) -> None:
    """One row that is written to learn whether the database can be written to."""
    connection.execute("CREATE TABLE probe (id INTEGER PRIMARY KEY CHECK (id = 1), filler BLOB NOT NULL) STRICT")


def add_session_names_claims_and_charges(connection: sqlite3.Connection) -> None:
    """Which name a client gave a session, who may use it by that name alone, and what a session costs; and which turns
    need more than their id.

    So far sessions without an owner were reached by their names, and only sessions with a title cost credits.
    """
    connection.execute("ALTER TABLE sessions ADD COLUMN name_key TEXT")
    connection.execute("ALTER TABLE sessions ADD COLUMN is_claimed INTEGER NOT NULL DEFAULT 1")
    connection.execute("ALTER TABLE sessions ADD COLUMN is_charged INTEGER NOT NULL DEFAULT 0")
    connection.execute("ALTER TABLE turns ADD COLUMN is_bound INTEGER NOT NULL DEFAULT 0")
    connection.execute("UPDATE sessions SET is_claimed = 0 WHERE owner IS NULL")
    connection.execute("UPDATE sessions SET is_charged = 1 WHERE title IS NOT NULL AND owner LIKE 'user:%'")
    connection.execute("CREATE INDEX sessions_by_name ON sessions (owner, name_key) WHERE name_key IS NOT NULL")


def add_idempotent_answers(connection: sqlite3.Connection) -> None:
    """The answers to requests with an idempotency key that start no turn; one without a body still runs.

    An allocation of credits keeps its key in the ledger, in the transaction of the allocation itself.
    """
    connection.execute(
        """
        CREATE TABLE answers (
            key TEXT PRIMARY KEY,
            body_hash TEXT NOT NULL,
            owner TEXT NOT NULL,
            subject TEXT,
            begun_at TEXT NOT NULL,
            expires_at TEXT NOT NULL,
            status INTEGER,
            headers TEXT,
            body TEXT
        ) STRICT, WITHOUT ROWID
        """
    )
    connection.execute("CREATE INDEX answers_by_expiry ON answers (expires_at)")
    connection.execute("CREATE INDEX answers_by_owner ON answers (owner)")
    connection.execute("CREATE INDEX answers_by_subject ON answers (subject) WHERE subject IS NOT NULL")
    connection.execute("ALTER TABLE credit_ledger ADD COLUMN request_key TEXT")
    connection.execute(
        "CREATE UNIQUE INDEX credit_ledger_by_request ON credit_ledger (request_key) WHERE request_key IS NOT NULL"
    )


def add_usage_to_credit_entries(connection: sqlite3.Connection) -> None:
    """What a turn has cost in the end, and for how many tokens: in its last entry, which outlives the turn.

    Of earlier turns the tokens are not known; what they have cost is what was reserved and not given back.
    """
    connection.execute("ALTER TABLE credit_ledger ADD COLUMN tokens INTEGER")
    connection.execute("ALTER TABLE credit_ledger ADD COLUMN spent INTEGER")
    connection.execute("CREATE INDEX credit_ledger_by_turn ON credit_ledger (turn_id, kind)")
    connection.execute(
        """
        UPDATE credit_ledger SET spent = -credits - (
            SELECT sum(credits) FROM credit_ledger AS held
            WHERE held.turn_id = credit_ledger.turn_id AND held.kind = 'reserve'
        ) WHERE kind = 'settle' AND turn_id IS NOT NULL
        """
    )
    connection.execute("DROP INDEX credit_ledger_by_turn")


def add_queued_turns(connection: sqlite3.Connection) -> None:
    """Turns that wait for the earlier ones of their session. Still, one turn of a session runs at a time."""
    connection.execute("ALTER TABLE turns ADD COLUMN is_queued INTEGER NOT NULL DEFAULT 0")
    connection.execute("ALTER TABLE turns ADD COLUMN started_at TEXT")
    connection.execute("DROP INDEX one_running_turn_a_session")
    connection.execute(
        """
        CREATE UNIQUE INDEX one_running_turn_a_session ON turns (session_id)
        WHERE ended_at IS NULL AND is_queued = 0
        """
    )
    connection.execute("CREATE INDEX unended_turns_by_session ON turns (session_id, position) WHERE ended_at IS NULL")


def add_client_chosen_names(connection: sqlite3.Connection) -> None:
    """The names that clients of the zoo's own contract gave their sessions, which answers repeat."""
    connection.execute("ALTER TABLE sessions ADD COLUMN name TEXT")


def keep_reservations_of_deleted_turns(connection: sqlite3.Connection) -> None:
    """The lease of a turn that was deleted while it ran, beside the credits that its process has yet to settle."""
    connection.execute("ALTER TABLE credit_reservations ADD COLUMN worker TEXT")
    connection.execute("ALTER TABLE credit_reservations ADD COLUMN lease_until TEXT")


MIGRATIONS: list[Migration] = [
    create_sessions_turns_and_messages,
    add_leases_expiry_and_idempotency_keys,
    add_accounts_and_credits,
    add_titles_devices_and_directions,
    add_animals_their_history_and_drafts,
    add_retention_and_audit,
    add_edited_rules,
    add_readiness_probe,
    add_session_names_claims_and_charges,
    add_idempotent_answers,
    add_usage_to_credit_entries,
    add_queued_turns,
    add_client_chosen_names,
    keep_reservations_of_deleted_turns,
]


def migrate(connection: sqlite3.Connection) -> None:
    """Apply the missing migrations, each in a transaction of its own; `user_version` counts those applied."""
    applied = _count_migrations(connection)
    if applied == 0 and _has_foreign_tables(connection):
        raise sqlite3.DatabaseError("the file is the database of another program")
    while applied < len(MIGRATIONS):
        applied = _apply_next(connection)
    if applied > len(MIGRATIONS):
        raise sqlite3.DatabaseError("the database was written by a newer version of this server")


def _has_foreign_tables(connection: sqlite3.Connection) -> bool:
    """Both questions see one state: another process may be applying the first migration at this moment."""
    with connection:
        connection.execute("BEGIN")
        has_tables = connection.execute("SELECT 1 FROM sqlite_schema").fetchone() is not None
        return has_tables and _count_migrations(connection) == 0


def _apply_next(connection: sqlite3.Connection) -> int:
    """Apply the next migration. The count is read again under the write lock: another process may be migrating, too."""
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        applied = _count_migrations(connection)
        for migration in MIGRATIONS[applied : applied + 1]:
            migration(connection)
            applied += 1
            connection.execute(f"PRAGMA user_version = {applied}")
    return applied


def _count_migrations(connection: sqlite3.Connection) -> int:
    (applied,) = connection.execute("PRAGMA user_version").fetchone()
    return int(applied)
