'use strict';
// A centre's reading side, written from docs/wire.md alone: verifies key messages, unwraps the data keys, opens the
// batches and prints each record as a line of JSON.
//
//   node open_batches.js DIRECTORY VECTORS
//
// DIRECTORY is the centre's own, with wrap.key and trusted/gateways/ID.json (section 3); beside them lies
// messages.jsonl: {"topic": ..., "payload": hex}, one a line, in any order. VECTORS is docs/wire-vectors.json, for the
// catalogue of section 10.

const crypto = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const body = require('./body');
const cose = require('./cose');
const quantities = require('./quantities');
const topics = require('./topics');

const KINDS = { 65001: 'batch', 65002: 'event' };

function main(directory, vectors) {
  const wrapKey = crypto.createPrivateKey(fs.readFileSync(path.join(directory, 'wrap.key')));
  const names = quantities.namer(JSON.parse(fs.readFileSync(vectors, 'utf8')));
  const lines = fs.readFileSync(path.join(directory, 'messages.jsonl'), 'utf8').trimEnd().split('\n').map(JSON.parse);
  const messages = lines.map(({ topic, payload }) => ({ on: topics.read(topic), payload: Buffer.from(payload, 'hex') }));
  const dataKeys = new Map();
  const seen = new Set();
  let refused = 0;
  const each = (wanted, run) => {
    for (const { on, payload } of messages.filter((message) => message.on !== null && wanted.has(message.on.name))) {
      try {
        run(on, payload);
      } catch (error) {
        refused += 1;
        process.stderr.write(`${on.name} of ${on.gateway}: ${error.message}\n`);
      }
    }
  };
  each(new Set(['key']), ({ gateway }, payload) => {
    const key = cose.dataKey(payload, topics.publicKeys(directory, 'gateway', gateway), wrapKey, gateway);
    dataKeys.set(`${gateway} ${key.kid}`, key);
  });
  each(new Set(['batch', 'event']), ({ gateway, name }, payload) => {
    const own = new Map([...dataKeys].filter(([id]) => id.startsWith(`${gateway} `)).map(([, key]) => [key.kid, key]));
    const { seq, epoch, kind, body: sealed } = cose.opened(payload, own, gateway);
    if (KINDS[kind] !== name) throw new Error(`a ${KINDS[kind]} on the topic of a ${name}`);
    const id = `${gateway} ${epoch} ${seq}`;
    if (seen.has(id)) return; // sent again: the same bytes
    for (const record of body.records(sealed, names)) {
      process.stdout.write(`${JSON.stringify({ gateway, epoch: String(epoch), seq: String(seq), ...record })}\n`);
    }
    seen.add(id);
  });
  return refused ? 1 : 0;
}

process.exitCode = main(process.argv[2], process.argv[3]);
