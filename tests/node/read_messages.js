'use strict';
// Both sides' messages besides batches, written from docs/wire.md alone: verifies what is signed, opens what is sealed
// in replies and manifests, and prints each message as a line of JSON.
//
//   node read_messages.js DIRECTORY VECTORS
//
// DIRECTORY and VECTORS as for open_batches.js, with trusted/centres/ID.json for what a centre sends.

const crypto = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const body = require('./body');
const cbor = require('./cbor');
const cose = require('./cose');
const quantities = require('./quantities');
const topics = require('./topics');

/** Section 4: the content type of each kind, and its fields behind version and gateway. */
const KINDS = {
  key: [65011n, 'epoch', 'kid', 'day', 'salt', 'wrapped'],
  hello: [65012n, 'epoch', 'first_unsettled', 'next_seq', 'voided', 'pending', 'oldest_at', 'sent_at'],
  receipt: [65013n, 'epoch', 'contiguous_upto', 'ranges', 'rejected', 'need_key', 'sent_at'],
  request: [65014n, 'request', 'action', 'arguments', 'sent_at', 'expires_at'],
  reply: [65015n, 'epoch', 'request', 'status', 'detail', 'sealed', 'sent_at'],
  manifest: [65016n, 'epoch', 'day', 'plan', 'sealed', 'sent_at'],
};
const REPLY = 65003n;
const MANIFEST = 65004n;

/** An item as JSON can tell it: bytes in hex, maps as objects, integers that a double does not hold as texts. */
function told(item) {
  if (typeof item === 'bigint') return Number.isSafeInteger(Number(item)) ? Number(item) : String(item);
  if (Buffer.isBuffer(item)) return item.toString('hex');
  if (Array.isArray(item)) return item.map(told);
  if (item instanceof Map) return Object.fromEntries([...item].map(([key, value]) => [key, told(value)]));
  return item;
}

function signed(name, payload, keys, gateway) {
  const [kind, ...fields] = KINDS[name];
  const items = cose.verified(payload, kind, keys, gateway).slice(2);
  if (items.length !== fields.length) throw new Error(`${items.length} fields, not ${fields.length}`);
  return Object.fromEntries(fields.map((field, n) => [field, items[n]]));
}

/** What is sealed in a reply or a manifest. */
function content(name, sealed, dataKeys, gateway, names) {
  if (sealed.length === 0) return null;
  const { kind, body: bytes } = cose.opened(sealed, dataKeys, gateway);
  if (kind !== (name === 'reply' ? REPLY : MANIFEST)) throw new Error(`${kind} in a ${name}`);
  return name === 'reply' ? body.records(bytes, names) : told(cbor.read(bytes));
}

/** Section 9. An epoch is wider than a double, so it is read before the numbers are. */
function plain(payload) {
  const text = payload.toString('utf8');
  const message = JSON.parse(text.replace(/"epoch":\s*(\d+)/, '"epoch":"$1"'));
  if (message.v !== 1) throw new Error('another version');
  return message;
}

function main(directory, vectors) {
  const wrapKey = crypto.createPrivateKey(fs.readFileSync(path.join(directory, 'wrap.key')));
  const names = quantities.namer(JSON.parse(fs.readFileSync(vectors, 'utf8')));
  const lines = fs.readFileSync(path.join(directory, 'messages.jsonl'), 'utf8').trimEnd().split('\n').map(JSON.parse);
  const dataKeysOf = new Map();
  let refused = 0;
  for (const { topic, payload: hex } of lines) {
    const on = topics.read(topic);
    if (on === null || on.name === 'batch' || on.name === 'event') continue;
    const { gateway, name, direction } = on;
    const payload = Buffer.from(hex, 'hex');
    try {
      if (name === 'state' || name === 'health') {
        process.stdout.write(`${JSON.stringify({ on: name, ...plain(payload) })}\n`);
        continue;
      }
      const keys = topics.publicKeys(directory, direction === 'up' ? 'gateway' : 'centre', gateway);
      const fields = signed(name, payload, keys, gateway);
      if (name === 'key') {
        const key = cose.dataKey(payload, keys, wrapKey, gateway);
        dataKeysOf.set(gateway, (dataKeysOf.get(gateway) ?? new Map()).set(key.kid, key));
      }
      const message = { on: name, gateway };
      for (const [field, item] of Object.entries(fields)) message[field] = told(item);
      if ('sealed' in fields) {
        message.content = content(name, fields.sealed, dataKeysOf.get(gateway) ?? new Map(), gateway, names);
      }
      process.stdout.write(`${JSON.stringify(message)}\n`);
    } catch (error) {
      refused += 1;
      process.stderr.write(`${name} of ${gateway}: ${error.message}\n`);
    }
  }
  return refused ? 1 : 0;
}

process.exitCode = main(process.argv[2], process.argv[3]);
