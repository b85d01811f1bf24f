'use strict';
// CBOR (RFC 8949) as docs/wire.md section 1 has it: integers, byte and text strings, arrays, maps, null and booleans, in
// their shortest forms, without tags. Integers are BigInt, for some are above 2^53.

const SHORTEST = [24n, 0x100n, 0x10000n, 0x100000000n];

/** The one item that the bytes hold, and nothing behind it. Throws. */
function read(bytes) {
  const reader = { bytes, at: 0 };
  const item = readItem(reader, 0);
  if (reader.at !== bytes.length) throw new Error('CBOR: bytes behind the item');
  return item;
}

/** The next `count` bytes. */
function take(reader, count) {
  if (count > reader.bytes.length - reader.at) throw new Error('CBOR: ended inside an item');
  reader.at += Number(count);
  return reader.bytes.subarray(reader.at - Number(count), reader.at);
}

function readItem(reader, depth) {
  const first = take(reader, 1)[0];
  const major = first >> 5;
  const low = first & 31;
  if (major === 7) {
    if (low < 20 || low > 22) throw new Error('CBOR: neither false nor true nor null');
    return [false, true, null][low - 20];
  }
  if (low > 27 || depth > 8) throw new Error('CBOR: an indefinite length, or too deep');
  let argument = BigInt(low);
  if (low >= 24) {
    argument = take(reader, 1 << (low - 24)).reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
    if (argument < SHORTEST[low - 24]) throw new Error('CBOR: not the shortest form');
  }
  switch (major) {
    case 0:
      return argument;
    case 1:
      return -1n - argument;
    case 2:
      return Buffer.from(take(reader, argument));
    case 3:
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(take(reader, argument));
    case 4: {
      const items = [];
      for (let n = 0n; n < argument; n += 1n) items.push(readItem(reader, depth + 1));
      return items;
    }
    case 5: {
      const items = new Map();
      for (let n = 0n; n < argument; n += 1n) {
        const key = readItem(reader, depth + 1);
        if (items.has(key)) throw new Error('CBOR: a key twice');
        items.set(key, readItem(reader, depth + 1));
      }
      return items;
    }
    default:
      throw new Error('CBOR: a tag');
  }
}

/** The bytes of an item: BigInt or small number, Buffer, string, or an array of them. */
function write(item) {
  if (typeof item === 'bigint' || typeof item === 'number') {
    const number = BigInt(item);
    return number < 0n ? head(1, -1n - number) : head(0, number);
  }
  if (Buffer.isBuffer(item)) return Buffer.concat([head(2, BigInt(item.length)), item]);
  if (typeof item === 'string') return Buffer.concat([head(3, BigInt(Buffer.byteLength(item))), Buffer.from(item)]);
  return Buffer.concat([head(4, BigInt(item.length)), ...item.map(write)]);
}

function head(major, argument) {
  if (argument < 24n) return Buffer.from([(major << 5) | Number(argument)]);
  const size = SHORTEST.findLastIndex((least) => argument >= least);
  const bytes = Buffer.alloc(1 + (1 << size));
  bytes[0] = (major << 5) | (24 + size);
  for (let at = bytes.length - 1, rest = argument; at > 0; at -= 1, rest >>= 8n) bytes[at] = Number(rest & 255n);
  return bytes;
}

module.exports = { read, write };
