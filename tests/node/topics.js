'use strict';
// Sections 2 and 3 of docs/wire.md: who speaks on a topic, and by which keys they are known.

const crypto = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const zlib = require('node:zlib');

/** {gateway, direction, name} of a topic, or null. */
function read(topic) {
  const found = /^mw\/v1\/([0-9a-f]{2})\/([a-z0-9-]{1,32})\/(up|down)\/([a-z]+)$/.exec(topic);
  if (found === null) return null;
  const [, bucket, gateway, direction, name] = found;
  if (bucket !== (crc32(Buffer.from(gateway)) & 255).toString(16).padStart(2, '0')) return null;
  return { gateway, direction, name };
}

/** CRC-32 as zlib has it: the reader of gzip checks it, but Node.js 20 does not offer it. */
function crc32(bytes) {
  return zlib.gzipSync(bytes).subarray(-8).readUInt32LE(0);
}

/** The keys that a gateway signs with, or any of the centres that are trusted. */
function publicKeys(directory, role, gateway) {
  const known = path.join(directory, 'trusted', `${role}s`);
  const files = role === 'gateway' ? [`${gateway}.json`] : fs.readdirSync(known);
  return files.flatMap((file) => {
    const bundle = JSON.parse(fs.readFileSync(path.join(known, file), 'utf8'));
    if (bundle.meterwire !== 'public-keys/1' || bundle.role !== role || `${bundle.id}.json` !== file) {
      throw new Error(`not the public keys of ${file}`);
    }
    return bundle.sign.map((pem) => crypto.createPublicKey(pem));
  });
}

module.exports = { publicKeys, read };
