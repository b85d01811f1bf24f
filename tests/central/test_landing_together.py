"""Messages dealt with together come to what they would have come to one by one; one COMMIT is enough for many."""

from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from central.landing import RECORDS_TOGETHER, SMALL_BYTES, Landing
from central.sinks.base import Arrival, Landed, SinkAway
from central.sinks.sqlite import SqliteSink
from protocols.capture import Event, Fault, Gap
from tests.central.test_landing import Message, capture
from tests.central.test_together import tables
from tests.fleet import NOW, Gateway, centre, trust

GATEWAYS = ("gw-1", "gw-2", "gw-3")


class Counting(SqliteSink):
    """Counts transactions that land, and can be away after so many."""

    landings = 0
    away_after = 1 << 30

    def land_all(self, arrivals: Sequence[Arrival]) -> list[Landed]:
        if self.landings >= self.away_after:
            raise SinkAway("away")
        self.landings += 1
        return super().land_all(arrivals)


def landing(sink: SqliteSink) -> Landing:
    return Landing(sink, centre=centre(), gateways=trust(*GATEWAYS), now_ms=lambda: NOW, random=lambda n: bytes(n))


def drawn(random: Random, gateways: Sequence[Gateway]) -> list[Message]:
    """What three gateways may send, in any order: batches before their keys, twice, damaged, voided, malformed."""
    messages = []
    for _ in range(40):
        gateway = random.choice(gateways)
        seq = random.randint(1, 12)
        missed = Gap(meter="m-1", task="curve", slot=NOW - 9000, fault=Fault.SILENT, opened_at=NOW)
        kinds = [
            gateway.batch(seq, [capture(seq)]), gateway.batch(seq, [capture(seq), capture(0, "231.0")]),
            gateway.batch(seq, [missed]), gateway.events(seq, [Event(name="tick", at=NOW)]), gateway.sealed(seq, b"?"),
            gateway.hello(voided=((gateway.epoch, seq),)), gateway.key(), ("mw/v1/zz", b""),
        ]  # fmt: skip
        on, payload = random.choices(kinds, weights=(10, 4, 3, 2, 1, 1, 2, 1))[0]
        if random.random() < 0.05:
            at = random.randrange(len(payload)) if payload else 0
            payload = payload[:at] + b"\x00" + payload[at + 1 :]
        messages.append((on, payload))
    return messages


@pytest.mark.parametrize("seed", range(6))
def test_together_or_one_by_one_it_comes_to_the_same(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    one, together = SqliteSink(tmp_path / "one.db"), SqliteSink(tmp_path / "together.db")
    first, second = landing(one), landing(together)
    messages = drawn(random, [Gateway(id=name, seed=number) for number, name in enumerate(GATEWAYS)])
    while messages:
        some, messages = messages[: (size := random.randint(1, 9))], messages[size:]
        for message in some:
            first.receive(*message)
        second.receive_all(some)
        assert tables(together) == tables(one)
        assert second.counters == first.counters
        assert second.due() == first.due()
    one.close()
    together.close()


def test_small_batches_of_many_gateways_take_one_transaction(tmp_path: Path) -> None:
    sink = Counting(tmp_path / "central.db")
    gateways = [Gateway(id=name, seed=number) for number, name in enumerate(GATEWAYS)]
    centre_side = landing(sink)
    centre_side.receive_all([gateway.key() for gateway in gateways])
    centre_side.receive_all([gateway.batch(seq, [capture(seq)]) for seq in (1, 2, 3) for gateway in gateways])
    assert (sink.landings, centre_side.counters["batches.landed"]) == (1, 9)
    plain = Random(1)
    large = gateways[0].batch(4, [capture(n, f"{plain.randrange(1 << 40)}.5") for n in range(1000)])
    assert len(large[1]) > SMALL_BYTES
    centre_side.receive_all([gateways[1].batch(4, [capture(4)]), large, gateways[2].batch(4, [capture(4)])])
    assert sink.landings == 4
    full = [gateway.batch(5, [capture(5 + n) for n in range(RECORDS_TOGETHER)]) for gateway in gateways]
    assert all(len(payload) < SMALL_BYTES for _, payload in full)
    centre_side.receive_all(full)
    assert sink.landings == 7
    sink.close()


def test_while_the_database_is_away_none_is_dealt_with_and_all_may_come_again(tmp_path: Path) -> None:
    sink = Counting(tmp_path / "central.db")
    gateway = Gateway(id=GATEWAYS[0])
    centre_side = landing(sink)
    centre_side.receive(*gateway.key())
    messages = [gateway.batch(seq, [capture(seq)]) for seq in (1, 2)] + [gateway.hello()]
    messages += [gateway.batch(seq, [capture(seq)]) for seq in (3, 4)]
    sink.away_after = 1
    with pytest.raises(SinkAway):
        centre_side.receive_all(messages)
    assert len(list(sink.readings())) == 2
    sink.away_after = 1 << 30
    centre_side.receive_all(messages)
    assert len(list(sink.readings())) == 4
    assert centre_side.counters["batches.repeated"] == 2
    sink.close()
