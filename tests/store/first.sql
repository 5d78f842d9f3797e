-- A store as its first version made it, with a counter in it.
CREATE TABLE store_version (
    version INTEGER NOT NULL,
    PRIMARY KEY (version)
);
CREATE TABLE resources (
    sequence INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    arn VARCHAR(256) NOT NULL,
    kind VARCHAR(64) NOT NULL,
    parent VARCHAR(256),
    name VARCHAR(128) NOT NULL,
    gone_after FLOAT,
    document BLOB NOT NULL,
    UNIQUE (arn)
);
CREATE INDEX resources_of_a_parent ON resources (kind, parent, sequence);
CREATE TABLE tags (
    arn VARCHAR(256) NOT NULL,
    "key" VARCHAR(128) NOT NULL,
    value VARCHAR(256) NOT NULL,
    PRIMARY KEY (arn, "key")
);
CREATE TABLE counters (
    name VARCHAR(512) NOT NULL,
    value INTEGER NOT NULL,
    PRIMARY KEY (name)
);
CREATE TABLE jobs (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    arn VARCHAR(256) NOT NULL,
    kind VARCHAR(64) NOT NULL,
    lane VARCHAR(16) NOT NULL,
    subject VARCHAR(256) NOT NULL,
    state VARCHAR(16) NOT NULL,
    attempt INTEGER NOT NULL,
    slot VARCHAR(32),
    stop BOOLEAN NOT NULL,
    progress JSON,
    UNIQUE (arn, kind)
);
CREATE INDEX jobs_of_a_lane ON jobs (state, lane, id);
CREATE TABLE live (
    dataset_arn VARCHAR(256) NOT NULL,
    changes INTEGER NOT NULL,
    newest FLOAT,
    PRIMARY KEY (dataset_arn)
);
CREATE TABLE live_events (
    sequence INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    dataset_arn VARCHAR(256) NOT NULL,
    session_id VARCHAR(256) NOT NULL,
    user_id VARCHAR(256),
    event_id VARCHAR(256),
    repeated BOOLEAN NOT NULL,
    item_id VARCHAR(256),
    event_type VARCHAR(256) NOT NULL,
    sent_at FLOAT NOT NULL,
    received_at FLOAT NOT NULL,
    "row" JSON NOT NULL,
    impression JSON,
    recommendation_id VARCHAR(40),
    source VARCHAR(1024)
);
CREATE INDEX live_events_of_a_user ON live_events (dataset_arn, user_id, sequence);
CREATE INDEX live_events_by_id ON live_events (dataset_arn, event_id);
CREATE INDEX live_events_of_a_session ON live_events (dataset_arn, session_id, sequence);
CREATE TABLE live_sessions (
    dataset_arn VARCHAR(256) NOT NULL,
    session_id VARCHAR(256) NOT NULL,
    user_id VARCHAR(256) NOT NULL,
    PRIMARY KEY (dataset_arn, session_id)
);
CREATE TABLE live_records (
    sequence INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    dataset_arn VARCHAR(256) NOT NULL,
    id VARCHAR(256) NOT NULL,
    "row" JSON NOT NULL,
    received_at FLOAT NOT NULL
);
CREATE UNIQUE INDEX live_records_by_id ON live_records (dataset_arn, id);
CREATE INDEX live_records_in_order ON live_records (dataset_arn, sequence);
INSERT INTO store_version VALUES (1);
INSERT INTO counters VALUES ('n', 7);
