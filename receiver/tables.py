"""The receiver's tables, in the SQL that SQLite and PostgreSQL share. Times are wall time, ns since 1970."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
)

schema = MetaData()

_ID = String(63)
_PLAN = String(48)

vehicle = Table(
    "vehicle",
    schema,
    Column("id", _ID, primary_key=True),
    Column("enrolled_ns", BigInteger, nullable=False),
    Column("seen_ns", BigInteger),
    Column("status", LargeBinary),
    Column("status_ns", BigInteger),
)

credential = Table(
    "credential",
    schema,
    Column("serial", String(40), primary_key=True),  # hex: 160 bits fit no integer column
    Column("vehicle", _ID, ForeignKey("vehicle.id"), nullable=False, index=True),
    Column("issued_ns", BigInteger, nullable=False),
    Column("not_after_ns", BigInteger, nullable=False),
    Column("revoked_ns", BigInteger),
    Column("public_key", LargeBinary),  # DER, SubjectPublicKeyInfo: what it signs may come when a newer one is in use
)

enrolment = Table(
    "enrolment",
    schema,
    Column("token_sha256", LargeBinary(32), primary_key=True),
    Column("vehicle", _ID, ForeignKey("vehicle.id"), nullable=False, index=True),
    Column("expires_ns", BigInteger, nullable=False),
    Column("used_by", LargeBinary(32)),  # sha256 of the public key that burnt the token
)

inbox = Table(
    "inbox",
    schema,
    Column("vehicle", _ID, primary_key=True),
    Column("lane", SmallInteger, primary_key=True, autoincrement=False),
    Column("epoch", LargeBinary(16), primary_key=True),
    Column("base_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("count", Integer, nullable=False),
    Column("received_ns", BigInteger, nullable=False),
    Column("sha256", LargeBinary(32), nullable=False),
    Column("block", LargeBinary, nullable=False),
)

# What the inbox has ever held, as merged ranges: dedupe outlives the blocks, and counting needs no scan.
coverage = Table(
    "coverage",
    schema,
    Column("vehicle", _ID, primary_key=True),
    Column("lane", SmallInteger, primary_key=True, autoincrement=False),
    Column("epoch", LargeBinary(16), primary_key=True),
    Column("first_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("end_seq", BigInteger, nullable=False),
)

# What vehicles say will never come, as merged ranges by reason, and by number alone: receiver/departed.py.
departed = Table(
    "departed",
    schema,
    Column("vehicle", _ID, primary_key=True),
    Column("lane", SmallInteger, primary_key=True, autoincrement=False),
    Column("epoch", LargeBinary(16), primary_key=True),
    Column("reason", String(49), primary_key=True),
    Column("first_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("end_seq", BigInteger, nullable=False),
)

departed_count = Table(
    "departed_count",
    schema,
    Column("vehicle", _ID, primary_key=True),
    Column("lane", SmallInteger, primary_key=True, autoincrement=False),
    Column("reason", String(49), primary_key=True),
    Column("records", BigInteger, nullable=False),
)

# What each vehicle last signed of its slots (receiver/versions.py). The manifest is kept as it was signed.
vehicle_version = Table(
    "vehicle_version",
    schema,
    Column("vehicle", _ID, primary_key=True),
    Column("counter", BigInteger, nullable=False),
    Column("manifest", LargeBinary, nullable=False),
    Column("received_ns", BigInteger, nullable=False),
    Column("hardware", String(64)),
)

# Learned blocks of the inbox that nobody has judged yet: the row goes with what the judgement changes.
learning_queue = Table(
    "learning_queue",
    schema,
    Column("id", Integer, primary_key=True),
    Column("vehicle", _ID, nullable=False),
    Column("lane", SmallInteger, nullable=False),
    Column("epoch", LargeBinary(16), nullable=False),
    Column("base_seq", BigInteger, nullable=False),
)

# A plan's line of models (receiver/learning). Vectors are float32, little-endian, in the layout's order.
learning_line = Table(
    "learning_line",
    schema,
    Column("plan", _PLAN, primary_key=True),
    Column("document", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("package", Text, nullable=False),
    Column("crops", Text, nullable=False),
    Column("begun_ns", BigInteger, nullable=False),
    Column("parameters", LargeBinary, nullable=False),
    Column("velocity", LargeBinary, nullable=False),
)

learning_base = Table(
    "learning_base",
    schema,
    Column("plan", _PLAN, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("digest", String(64), nullable=False),
)

# Every update that was admitted. `attempt`: 0 waits, -1 gave way to a newer one of its vehicle's, else what took it;
# `payload` is kept for as long as it is needed.
learning_update = Table(
    "learning_update",
    schema,
    Column("plan", _PLAN, primary_key=True),
    Column("vehicle", _ID, primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("base", String(64), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("payload", LargeBinary),
    Index("learning_update_attempt", "plan", "attempt"),
)

# One buffer closed. `files`: a candidate that passed and isn't in its folder yet.
learning_attempt = Table(
    "learning_attempt",
    schema,
    Column("plan", _PLAN, primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("version", Text, nullable=False),
    Column("began_ns", BigInteger, nullable=False),
    Column("ended_ns", BigInteger),
    Column("outcome", String(16)),
    Column("verdict", LargeBinary),
    Column("files", LargeBinary),
)

# `name` is "admitted" or a refusal's; `plan` is empty where it is none of ours.
learning_count = Table(
    "learning_count",
    schema,
    Column("plan", _PLAN, primary_key=True),
    Column("vehicle", _ID, primary_key=True),
    Column("name", String(24), primary_key=True),
    Column("times", BigInteger, nullable=False),
)

# A release on its way through the fleet (receiver/rollouts). `rules` and `bet` are JSON; `step` counts the waves open;
# `hardware`: what the release is for, JSON; `done_ns`: when it ended, `alarm`: what came of it after.
rollout = Table(
    "rollout",
    schema,
    Column("name", _PLAN, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("target", String(128), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("release", BigInteger, nullable=False),
    Column("rules", Text, nullable=False),
    Column("proposed_by", _ID, nullable=False),
    Column("proposed_ns", BigInteger, nullable=False),
    Column("step", Integer, nullable=False),
    Column("changes", Integer, nullable=False),
    Column("opened_ns", BigInteger),
    Column("go_on", Integer, nullable=False),
    Column("words", Text, nullable=False),
    Column("bet", Text, nullable=False),
    Column("hardware", Text),
    Column("done_ns", BigInteger),
    Column("alarm", Text),
)

# Who signed what of it; `changes`: after how many of its state.
rollout_signature = Table(
    "rollout_signature",
    schema,
    Column("rollout", _PLAN, ForeignKey("rollout.name"), primary_key=True),
    Column("act", String(16), primary_key=True),
    Column("changes", Integer, primary_key=True, autoincrement=False),
    Column("operator", _ID, primary_key=True),
    Column("signature", LargeBinary(64), nullable=False),
    Column("signed_ns", BigInteger, nullable=False),
)

# A vehicle's turn and fate. `before`: what the director listed of that kind when its turn came, JSON; `listed`:
# states.Listed. `outcome` is the first, and stays; `kept`: when the vehicle said that it is COMMITTED, JSON (Moment).
rollout_vehicle = Table(
    "rollout_vehicle",
    schema,
    Column("rollout", _PLAN, ForeignKey("rollout.name"), primary_key=True),
    Column("vehicle", _ID, primary_key=True),
    Column("stratum", String(64), nullable=False),
    Column("rank", Integer, nullable=False),
    Column("before", Text),
    Column("listed", SmallInteger, nullable=False),
    Column("listed_ns", BigInteger),
    Column("exposed_ns", BigInteger),
    Column("fetched_ns", BigInteger),
    Column("outcome", String(16)),
    Column("ended_ns", BigInteger),
    Column("words", Text),
    Column("kept", Text),
    Column("quality", Float),
    Column("quality_ns", BigInteger),
    Index("rollout_vehicle_turn", "rollout", "listed", "stratum", "rank"),
)

# Blocks that may hold a report or a summary, while there is a rollout, that nobody has looked at yet.
rollout_queue = Table(
    "rollout_queue",
    schema,
    Column("id", Integer, primary_key=True),
    Column("vehicle", _ID, nullable=False),
    Column("lane", SmallInteger, nullable=False),
    Column("epoch", LargeBinary(16), nullable=False),
    Column("base_seq", BigInteger, nullable=False),
)

quarantine = Table(
    "quarantine",
    schema,
    Column("id", Integer, primary_key=True),
    Column("vehicle", _ID, nullable=False),
    Column("reason", Text, nullable=False),
    Column("received_ns", BigInteger, nullable=False),
    Column("sha256", LargeBinary(32), nullable=False),
    Column("block", LargeBinary, nullable=False),
    Index("quarantine_once", "vehicle", "sha256", unique=True),
)

# Each is a file as well, durable before its row is: receiver/objectfiles.py.
stored_object = Table(
    "object",
    schema,
    Column("vehicle", _ID, primary_key=True),
    Column("sha256", String(64), primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    Column("stored_ns", BigInteger, nullable=False),
)

audit = Table(
    "audit",
    schema,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("wall_ns", BigInteger, nullable=False),
    Column("event", String(40), nullable=False),
    Column("subject", _ID, nullable=False),
    Column("detail", Text, nullable=False),
    Column("previous", LargeBinary(32), nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
)

# What each vehicle has signed: the head of its own audit, and the last head of ours that it was told.
audit_checkpoint = Table(
    "audit_checkpoint",
    schema,
    Column("id", Integer, primary_key=True),
    Column("vehicle", _ID, nullable=False, index=True),
    Column("own_seq", BigInteger, nullable=False),
    Column("own_digest", String(64), nullable=False),
    Column("seen_seq", BigInteger, nullable=False),
    Column("seen_digest", String(64), nullable=False),
    Column("signature", LargeBinary, nullable=False),
    Column("public_key", LargeBinary, nullable=False),
    Column("signed_ns", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)
