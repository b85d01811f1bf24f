"""Data keys: made fresh for each epoch and day, and carried to the centre inside a signed key record."""

from collections.abc import Callable

from identity.centre import Centre, GatewayTrust
from identity.gateway import CentreTrust, GatewayIdentity
from identity.public import OAEP, key_id
from protocols.envelope import KEY_BYTES, KID_BYTES, SALT_BYTES, DataKey
from protocols.errors import Malformed
from protocols.messages import RSA_OAEP_256, KeyRecord, Wrapped, signed, verified


def new_data_key(epoch: int, day: int, random: Callable[[int], bytes]) -> DataKey:
    """A fresh key, with a fresh id and salt. random: like os.urandom, and as good."""
    return DataKey(kid=random(KID_BYTES), key=random(KEY_BYTES), salt=random(SALT_BYTES), epoch=epoch, day=day)


def key_record(identity: GatewayIdentity, trust: CentreTrust, data_key: DataKey) -> bytes:
    """The data key wrapped for each trusted centre and signed by the gateway: commit it before the first batch."""
    record = KeyRecord(
        gateway=identity.gateway,
        epoch=data_key.epoch,
        kid=data_key.kid,
        day=data_key.day,
        salt=data_key.salt,
        wrapped=tuple(
            Wrapped(kid=key_id(key), algorithm=RSA_OAEP_256, key=key.encrypt(data_key.key, OAEP))
            for key in trust.recipients
        ),
    )
    return signed(record, kid=identity.kid, sign=identity.sign)


def open_key_record(message: bytes, *, gateway: str, centre: Centre, gateways: GatewayTrust) -> DataKey:
    """The data key in a record of this gateway (the one that the topic names).

    Raises Malformed if the record is not truly the gateway's or not for this centre.
    """
    record = verified(KeyRecord, message, gateway=gateway, verify=gateways.verifier(gateway))
    for wrapped in record.wrapped:
        if wrapped.algorithm == RSA_OAEP_256 and wrapped.kid in centre.unwrapping:
            key = centre.unwrap(wrapped.kid, wrapped.key)
            if len(key) != KEY_BYTES:
                raise Malformed(f"wrapped key: expected {KEY_BYTES} bytes, got {len(key)}")
            return DataKey(kid=record.kid, key=key, salt=record.salt, epoch=record.epoch, day=record.day)
    raise Malformed(f"key record {record.kid.hex()} of {gateway}: not wrapped for any key of this centre")
