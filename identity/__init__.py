"""Keys of gateway, centre and CLI: made, loaded, wrapped, signed with. The randomness lives here."""

from identity.centre import Centre, GatewayTrust
from identity.datakey import key_record, new_data_key, open_key_record
from identity.files import IdentityError
from identity.gateway import CentreTrust, GatewayIdentity
from identity.public import PublicKeys

__all__ = [
    "Centre",
    "CentreTrust",
    "GatewayIdentity",
    "GatewayTrust",
    "IdentityError",
    "PublicKeys",
    "key_record",
    "new_data_key",
    "open_key_record",
]
