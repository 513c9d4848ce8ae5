"""The network delivers every block twice, as it may, and the receiver stores whatever comes."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "every record a witness saw become durable is at the receiver exactly once"


@after("telemetry.links.mqtt")
def blocks_come_twice(mqtt: Any) -> None:
    async def publish(self: Any, lane: Any, block: bytes) -> Any:
        await honest(self, lane, block)
        return await honest(self, lane, block)

    honest = put(mqtt.MqttLink, "publish", publish)


@after("receiver.tables")
def the_inbox_has_no_key(tables: Any) -> None:
    keyed = tables.inbox
    tables.schema.remove(keyed)
    columns = [tables.Column(column.name, column.type, nullable=False) for column in keyed.columns]
    put(tables, "inbox", tables.Table("inbox", tables.schema, *columns))


@after("receiver.inbox")
def every_block_is_new(inbox: Any) -> None:
    def judge(self: Any, arrival: Any, digest: bytes) -> Any:
        self.stored.add(arrival.header.base_seq, arrival.header.end_seq)
        self.fresh.append((arrival, digest))
        return inbox.Verdict(inbox.Outcome.STORED)

    put(inbox.Shelf, "judge", judge)
