"""The data keys of the fleet: records kept wrapped in the database, opened ones in memory only."""

from collections import OrderedDict

from central.sinks.base import Sink
from identity.centre import Centre, GatewayTrust, anyone
from identity.datakey import open_key_record
from protocols.envelope import DataKey
from protocols.errors import Malformed

OPEN_MAX = 4096
"""Data keys kept open in memory; unwrapping one again costs about a millisecond."""


class Keys:
    """Opens key records. What it remembers never changes in the database. Any call may raise SinkAway."""

    def __init__(self, sink: Sink, *, centre: Centre, gateways: GatewayTrust) -> None:
        self._sink = sink
        self._centre = centre
        self._gateways = gateways
        self._open: OrderedDict[tuple[str, bytes], DataKey] = OrderedDict()

    def get(self, gateway: str, kid: bytes) -> DataKey | None:
        """The data key with this id, from memory or from its record; None when there is none that opens."""
        data_key = self._open.get((gateway, kid))
        if data_key is not None:
            self._open.move_to_end((gateway, kid))
            return data_key
        record = self._sink.key_record(gateway, kid)
        if record is None:
            return None
        try:  # verified when it came: the gateway may have other keys by now
            data_key = open_key_record(record, gateway=gateway, centre=self._centre, verify=anyone)
        except Malformed:  # wrapped for a private key that this centre no longer has
            return None
        self._remember(gateway, data_key)
        return data_key

    def add(self, gateway: str, message: bytes, *, at: int) -> DataKey:
        """The data key in a record that came from this gateway, now committed. Raises Malformed."""
        verify = self._gateways.verifier(gateway)
        data_key = open_key_record(message, gateway=gateway, centre=self._centre, verify=verify)
        known = self.get(gateway, data_key.kid)
        if known is None:
            # A record that is there already is wrapped for a private key that this centre no longer has.
            self._sink.add_key_record(gateway, data_key.kid, data_key.epoch, data_key.day, message, at, replace=True)
            self._remember(gateway, data_key)
        elif known != data_key:
            raise Malformed(f"key record {data_key.kid.hex()}: another key of {gateway} has this id")
        return data_key

    def _remember(self, gateway: str, data_key: DataKey) -> None:
        self._open[gateway, data_key.kid] = data_key
        while len(self._open) > OPEN_MAX:
            self._open.popitem(last=False)
