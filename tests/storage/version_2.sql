-- A file as version 2 of the schema was written by the server that had it, before accounts, credits and devices.
BEGIN TRANSACTION;
CREATE TABLE idempotency_keys (
            key TEXT PRIMARY KEY,
            body_hash TEXT NOT NULL,
            turn_id TEXT NOT NULL REFERENCES turns ON DELETE CASCADE,
            expires_at TEXT NOT NULL
        ) STRICT, WITHOUT ROWID
        ;
INSERT INTO "idempotency_keys" VALUES('hash of key-1','hash of body-1','turn_3b1f0c52a9d94e6f8a7b6c5d4e3f2a1b','2026-11-22T12:00:00.123456+00:00');
CREATE TABLE messages (
            turn_id TEXT NOT NULL REFERENCES turns ON DELETE CASCADE,
            role TEXT NOT NULL CHECK (role IN ('visitor', 'animal')),
            content TEXT NOT NULL,
            created_at TEXT NOT NULL,
            PRIMARY KEY (turn_id, role)
        ) STRICT, WITHOUT ROWID
        ;
INSERT INTO "messages" VALUES('turn_3b1f0c52a9d94e6f8a7b6c5d4e3f2a1b','animal','Roar! Löwe   🦁','2026-11-21T12:00:02.123456+00:00');
INSERT INTO "messages" VALUES('turn_3b1f0c52a9d94e6f8a7b6c5d4e3f2a1b','visitor','Löwe?
🦁','2026-11-21T12:00:00.123456+00:00');
INSERT INTO "messages" VALUES('turn_failed','animal','Ro','2026-11-21T12:00:04.123456+00:00');
INSERT INTO "messages" VALUES('turn_failed','visitor','turn_failed','2026-11-21T12:00:03.123456+00:00');
INSERT INTO "messages" VALUES('turn_running','visitor','Still there?','2026-11-21T12:00:08.123456+00:00');
INSERT INTO "messages" VALUES('turn_silent','visitor','turn_silent','2026-11-21T12:00:05.123456+00:00');
CREATE TABLE sessions (
            session_id TEXT PRIMARY KEY,
            animal_id TEXT NOT NULL,
            owner TEXT,
            created_at TEXT NOT NULL,
            last_message_at TEXT NOT NULL,
            turn_count INTEGER NOT NULL DEFAULT 0
        , ttl_s INTEGER NOT NULL DEFAULT 86400, expires_at TEXT NOT NULL DEFAULT '9999') STRICT
        ;
INSERT INTO "sessions" VALUES('sess_9c8b7a6d5e4f3021a1b2c3d4e5f60718','lion_001','cookie:mia','2026-11-21T12:00:00.123456+00:00','2026-11-21T12:00:08.123456+00:00',4,86400,'2026-11-22T12:00:08.123456+00:00');
INSERT INTO "sessions" VALUES('sess_nobodys','tiger_001',NULL,'2026-11-21T12:00:00.123456+00:00','2026-11-21T12:00:00.123456+00:00',0,172800,'2026-11-23T12:00:00.123456+00:00');
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
            outcome TEXT, worker TEXT NOT NULL DEFAULT '', lease_until TEXT,
            UNIQUE (session_id, position)
        ) STRICT
        ;
INSERT INTO "turns" VALUES('turn_3b1f0c52a9d94e6f8a7b6c5d4e3f2a1b','sess_9c8b7a6d5e4f3021a1b2c3d4e5f60718',1,'lion_001','preschool','fake-1','{"kiosk":7}','2026-11-21T12:00:00.123456+00:00','2026-11-21T12:00:02.123456+00:00','{"status":"succeeded","ended_at":"2026-11-21T12:00:02.123456Z","finish_reason":"stop","sources":[{"fact_id":"lion_001/top_speed","topic":"speed","type":"web","title":"Panthera leo","url":"https://zoo.example/lion?a=1&b=2"},{"fact_id":"lion_001/mane","topic":"body","type":"document","title":"Keepers'' notebook","url":null}],"usage":{"prompt_tokens":3,"completion_tokens":1},"moderation":{"flagged":true,"categories":["danger"]},"latency_ms":1730,"first_token_ms":210,"problem":null}','host/1/aaaa','2026-11-21T12:00:30.123456+00:00');
INSERT INTO "turns" VALUES('turn_failed','sess_9c8b7a6d5e4f3021a1b2c3d4e5f60718',2,'lion_001','elementary','fake-1',NULL,'2026-11-21T12:00:03.123456+00:00','2026-11-21T12:00:04.123456+00:00','{"status":"failed","ended_at":"2026-11-21T12:00:04.123456Z","finish_reason":null,"sources":[],"usage":{"prompt_tokens":0,"completion_tokens":0},"moderation":{"flagged":false,"categories":[]},"latency_ms":0,"first_token_ms":null,"problem":{"code":"provider_failed","status":502,"title":"The animal lost its voice","detail":"The animal lost its voice.","errors":[{"field":"metadata.size","message":"must be a number"}],"turn_id":"turn_3b1f0c52a9d94e6f8a7b6c5d4e3f2a1b","retryable":true,"details":[]}}','',NULL);
INSERT INTO "turns" VALUES('turn_silent','sess_9c8b7a6d5e4f3021a1b2c3d4e5f60718',3,'lion_001','elementary','fake-1',NULL,'2026-11-21T12:00:05.123456+00:00','2026-11-21T12:00:06.123456+00:00','{"status":"failed","ended_at":"2026-11-21T12:00:06.123456Z","finish_reason":null,"sources":[],"usage":{"prompt_tokens":0,"completion_tokens":0},"moderation":{"flagged":false,"categories":[]},"latency_ms":0,"first_token_ms":null,"problem":{"code":"provider_failed","status":502,"title":"The animal lost its voice","detail":"The animal lost its voice.","errors":[{"field":"metadata.size","message":"must be a number"}],"turn_id":"turn_3b1f0c52a9d94e6f8a7b6c5d4e3f2a1b","retryable":true,"details":[]}}','',NULL);
INSERT INTO "turns" VALUES('turn_running','sess_9c8b7a6d5e4f3021a1b2c3d4e5f60718',4,'lion_001','elementary','fake-1',NULL,'2026-11-21T12:00:08.123456+00:00',NULL,NULL,'',NULL);
CREATE INDEX sessions_by_owner ON sessions (owner, last_message_at) WHERE owner IS NOT NULL;
CREATE UNIQUE INDEX one_running_turn_a_session ON turns (session_id) WHERE ended_at IS NULL;
CREATE INDEX running_turns ON turns (turn_id) WHERE ended_at IS NULL;
CREATE INDEX sessions_by_expiry ON sessions (expires_at);
CREATE INDEX idempotency_keys_by_turn ON idempotency_keys (turn_id);
COMMIT;
PRAGMA user_version = 2;
