-- Tables of before there were revisions, as that version made them in SQLite.
CREATE TABLE records (
    chain TEXT NOT NULL,
    seq BIGINT NOT NULL,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    account_id TEXT,
    as_of BIGINT,
    recorded_at BIGINT NOT NULL,
    payload TEXT NOT NULL,
    previous_hash TEXT NOT NULL,
    hash TEXT NOT NULL,
    PRIMARY KEY (chain, seq),
    UNIQUE (id)
);
CREATE INDEX records_by_kind ON records (kind, recorded_at, chain, seq);
CREATE INDEX records_by_account ON records (account_id, kind, recorded_at, seq, chain);
CREATE INDEX records_by_as_of ON records (kind, as_of);
CREATE TABLE contents (
    sha256 TEXT NOT NULL,
    kind TEXT NOT NULL,
    content TEXT NOT NULL,
    PRIMARY KEY (sha256)
);
CREATE TABLE answers (
    owner TEXT NOT NULL,
    "key" TEXT NOT NULL,
    body_sha256 TEXT NOT NULL,
    status INTEGER NOT NULL,
    response BLOB NOT NULL,
    PRIMARY KEY (owner, "key")
);
CREATE TABLE api_keys (
    key_id TEXT NOT NULL,
    secret_sha256 TEXT NOT NULL,
    scopes TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT,
    PRIMARY KEY (key_id)
);
