'use strict';
// Sections 3 to 6 of docs/wire.md: who signed a message, which data key it brings, and what a sealed one holds.

const crypto = require('node:crypto');
const cbor = require('./cbor');
const hpke = require('./hpke');

const VERSION = 1;
const KEY = 65011n;
const A256GCM = 3n;
const RSAES_OAEP = -41n;
const HPKE = 53n;

/** The first 8 bytes, in hex, of the SHA-256 of a public key's SubjectPublicKeyInfo. */
function keyId(key) {
  return crypto.createHash('sha256').update(key.export({ type: 'spki', format: 'der' })).digest('hex').slice(0, 16);
}

/** The payload of a signed message of this kind, as items, if one of the public keys made its signature. Throws. */
function verified(message, kind, publicKeys, gateway) {
  if (message[0] !== 0xd2) throw new Error('not a signed message');
  const [protectedBytes, unprotected, payload, signature] = cbor.read(message.subarray(1));
  const header = cbor.read(protectedBytes);
  const kid = header.get(4n).toString('hex');
  if (header.size !== 3 || header.get(1n) !== -7n || header.get(3n) !== kind || unprotected.size !== 0) {
    throw new Error('not a message of this kind');
  }
  const key = publicKeys.find((known) => keyId(known) === kid);
  if (key === undefined) throw new Error(`signed by ${kid}, which is not trusted`);
  const signed = cbor.write(['Signature1', protectedBytes, Buffer.from([0x81, VERSION]), payload]);
  if (!crypto.verify('sha256', signed, { key, dsaEncoding: 'ieee-p1363' }, signature)) {
    throw new Error(`not what ${kid} signed`);
  }
  const fields = cbor.read(payload);
  if (fields[0] !== BigInt(VERSION) || fields[1] !== gateway) throw new Error('another version, or another gateway');
  return fields;
}

/** The data key that a key message brings, unwrapped with the centre's private key. Throws. */
function dataKey(message, publicKeys, wrapKey, gateway) {
  const [, , epoch, kid, , salt, wrapped] = verified(message, KEY, publicKeys, gateway);
  const own = keyId(crypto.createPublicKey(wrapKey));
  const found = wrapped.find(([recipient]) => recipient.toString('hex') === own);
  if (found === undefined) throw new Error(`data key ${kid.toString('hex')} is not wrapped for ${own}`);
  const bound = cbor.write([VERSION, gateway, epoch, kid]);
  const info = cbor.write(['HPKE Recipient', A256GCM, Buffer.from('a1011835', 'hex'), bound]);
  return { kid: kid.toString('hex'), key: unwrapped(wrapKey, found[1], found[2], info), salt, epoch };
}

function unwrapped(wrapKey, algorithm, wrapped, info) {
  switch (algorithm) {
    case RSAES_OAEP: {
      const padding = crypto.constants.RSA_PKCS1_OAEP_PADDING;
      return crypto.privateDecrypt({ key: wrapKey, padding, oaepHash: 'sha256' }, wrapped);
    }
    case HPKE:
      return hpke.decrypt(wrapKey, wrapped, info);
    default:
      throw new Error(`a data key wrapped by algorithm ${algorithm}`);
  }
}

/** {seq, kind, body} of a sealed message, opened with the data key that it names. Throws. */
function opened(message, dataKeys, gateway) {
  if (message[0] !== 0xd0) throw new Error('not a sealed message');
  const [protectedBytes, unprotected, sealed] = cbor.read(message.subarray(1));
  const header = cbor.read(protectedBytes);
  const kid = header.get(4n).toString('hex');
  const known = dataKeys.get(kid);
  if (known === undefined) throw new Error(`data key ${kid} has not come`);
  const nonce = unprotected.get(5n);
  if (header.get(1n) !== A256GCM || nonce.length !== 12 || !nonce.subarray(0, 4).equals(known.salt)) {
    throw new Error('not sealed with A256GCM and the salt of its data key');
  }
  const kind = header.get(3n);
  const external = cbor.write([VERSION, gateway, known.epoch, kind]);
  const decipher = crypto.createDecipheriv('aes-256-gcm', known.key, nonce);
  decipher.setAAD(cbor.write(['Encrypt0', protectedBytes, external]));
  decipher.setAuthTag(sealed.subarray(sealed.length - 16));
  const body = Buffer.concat([decipher.update(sealed.subarray(0, sealed.length - 16)), decipher.final()]);
  return { seq: nonce.readBigUInt64BE(4), epoch: known.epoch, kind, body };
}

module.exports = { dataKey, keyId, opened, verified };
