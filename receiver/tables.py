"""The receiver's tables, in the SQL that SQLite and PostgreSQL share. Times are wall time, ns since 1970."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
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
