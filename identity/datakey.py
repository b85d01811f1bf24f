"""Data keys: made fresh for each epoch and day, and carried to the centre inside a signed key record."""

from collections.abc import Callable
from dataclasses import replace

from identity.centre import Centre, anyone
from identity.gateway import CentreTrust, GatewayIdentity
from identity.public import key_id
from identity.wrapping import algorithm_for, info, wrap
from protocols.envelope import KID_BYTES, SALT_BYTES, DataKey, SignedKind, Verify, signer_of, verify1
from protocols.errors import Malformed
from protocols.messages import KeyRecord, Wrapped, signed, verified
from protocols.suites import A256GCM, CONTENT, WRAPPING


class NotAccepted(Malformed):
    """Truly the gateway's, and sealed with an algorithm that this centre does not take."""


def new_data_key(epoch: int, day: int, random: Callable[[int], bytes], algorithm: int = A256GCM) -> DataKey:
    """A fresh key, with a fresh id and salt. random: like os.urandom, and as good."""
    length = CONTENT[algorithm].key_bytes
    return DataKey(
        kid=random(KID_BYTES), key=random(length), salt=random(SALT_BYTES), epoch=epoch, day=day, algorithm=algorithm
    )


def key_record(identity: GatewayIdentity, trust: CentreTrust, data_key: DataKey) -> bytes:
    """The data key wrapped for each recipient and signed by the gateway: commit it before the first batch."""
    record = KeyRecord(
        gateway=identity.gateway,
        epoch=data_key.epoch,
        kid=data_key.kid,
        day=data_key.day,
        salt=data_key.salt,
        wrapped=_wrapped(identity.gateway, trust, data_key),
        algorithm=data_key.algorithm,
    )
    return signed(record, kid=identity.kid, sign=identity.sign)


def _wrapped(gateway: str, trust: CentreTrust, data_key: DataKey) -> tuple[Wrapped, ...]:
    bound = info(gateway=gateway, epoch=data_key.epoch, kid=data_key.kid, algorithm=data_key.algorithm)
    return tuple(
        Wrapped(kid=key_id(key), algorithm=algorithm_for(key), key=wrap(key, data_key.key, bound))
        for key in trust.recipients
    )


def renewed(identity: GatewayIdentity, trust: CentreTrust, message: bytes, known: DataKey | None) -> bytes | None:
    """A key record of our own store as one that the centres of today can open, if they can open any of it.

    It is signed again where the gateway has another key now, and wrapped again where it is not wrapped for every
    recipient of today. That takes the data key, `known`; without it the answer is None: what was sealed under the
    key must be sealed again under another. A record that needs neither comes back as it is. Raises Malformed.
    """
    record = KeyRecord.decode(verify1(message, kind=SignedKind.KEY, verify=anyone))
    if {each.kid for each in record.wrapped} >= {key_id(key) for key in trust.recipients}:
        if signer_of(message) == identity.kid:
            return message
        return signed(record, kid=identity.kid, sign=identity.sign)
    if known is None or known.kid != record.kid:
        return None
    record = replace(record, wrapped=_wrapped(identity.gateway, trust, known))
    return signed(record, kid=identity.kid, sign=identity.sign)


def open_key_record(message: bytes, *, gateway: str, centre: Centre, verify: Verify) -> DataKey:
    """The data key in a record of this gateway (the one that the topic names). verify: whether it is signed by it.

    Raises Malformed if the record is not truly the gateway's or not for this centre; NotAccepted if it is for an
    algorithm that the centre does not take.
    """
    record = verified(KeyRecord, message, gateway=gateway, verify=verify)
    if record.algorithm not in centre.accepted:
        names = ", ".join(CONTENT[number].name for number in sorted(centre.accepted, reverse=True))
        raise NotAccepted(f"key record {record.kid.hex()} of {gateway}: for {CONTENT[record.algorithm].name}, "
                          f"accepted here: {names}")  # fmt: skip
    for wrapped in record.wrapped:
        opener = centre.openers.get(wrapped.kid)
        if opener is not None and opener.algorithm == wrapped.algorithm:
            key = centre.unwrap(wrapped, info(gateway=gateway, epoch=record.epoch, kid=record.kid,
                                              algorithm=record.algorithm))  # fmt: skip
            expected = CONTENT[record.algorithm].key_bytes
            if len(key) != expected:
                raise Malformed(f"wrapped key: expected {expected} bytes, got {len(key)}")
            return DataKey(kid=record.kid, key=key, salt=record.salt, epoch=record.epoch, day=record.day,
                           algorithm=record.algorithm)  # fmt: skip
    told = ", ".join(f"{each.kid.hex()} ({_name(each.algorithm)})" for each in record.wrapped)
    raise Malformed(
        f"key record {record.kid.hex()} of {gateway}: not wrapped for any key of this centre, but for {told}"
    )


def _name(algorithm: int) -> str:
    found = WRAPPING.get(algorithm)
    return found.name if found is not None else f"unknown algorithm {algorithm}"
