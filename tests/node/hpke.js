'use strict';
// HPKE (RFC 9180) in base mode, the receiving side: DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.

const crypto = require('node:crypto');

const KEM = Buffer.concat([Buffer.from('KEM'), Buffer.from([0, 0x10])]);
const SUITE = Buffer.concat([Buffer.from('HPKE'), Buffer.from([0, 0x10, 0, 1, 0, 2])]);
const EMPTY = Buffer.alloc(0);
const POINT_BYTES = 65;

function hmac(key, ...parts) {
  return parts.reduce((state, part) => state.update(part), crypto.createHmac('sha256', key)).digest();
}

/** LabeledExtract of section 4. */
function extract(suite, salt, label, secret) {
  return hmac(salt, 'HPKE-v1', suite, label, secret);
}

/** LabeledExpand of section 4, to at most 32 bytes. */
function expand(suite, key, label, info, bytes) {
  return hmac(key, Buffer.from([0, bytes]), 'HPKE-v1', suite, label, info, Buffer.from([1])).subarray(0, bytes);
}

/** The uncompressed point of a P-256 public key: the last bytes of its SubjectPublicKeyInfo. */
function point(publicKey) {
  return publicKey.export({ type: 'spki', format: 'der' }).subarray(-POINT_BYTES);
}

/** What was encrypted for the private key, the ephemeral public key before it, and bound to `info`. Throws. */
function decrypt(privateKey, wrapped, info) {
  const own = crypto.createPublicKey(privateKey);
  const sent = wrapped.subarray(0, POINT_BYTES);
  const before = own.export({ type: 'spki', format: 'der' }).subarray(0, -POINT_BYTES);
  const publicKey = crypto.createPublicKey({ key: Buffer.concat([before, sent]), type: 'spki', format: 'der' });
  const shared = extract(KEM, EMPTY, 'eae_prk', crypto.diffieHellman({ privateKey, publicKey }));
  const secret = expand(KEM, shared, 'shared_secret', Buffer.concat([sent, point(own)]), 32);
  const context = Buffer.concat([
    Buffer.from([0]), extract(SUITE, EMPTY, 'psk_id_hash', EMPTY), extract(SUITE, EMPTY, 'info_hash', info),
  ]);
  const scheduled = extract(SUITE, secret, 'secret', EMPTY);
  const key = expand(SUITE, scheduled, 'key', context, 32);
  const decipher = crypto.createDecipheriv('aes-256-gcm', key, expand(SUITE, scheduled, 'base_nonce', context, 12));
  decipher.setAuthTag(wrapped.subarray(-16));
  return Buffer.concat([decipher.update(wrapped.subarray(POINT_BYTES, -16)), decipher.final()]);
}

module.exports = { decrypt };
