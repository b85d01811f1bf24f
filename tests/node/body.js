'use strict';
// Section 7 of docs/wire.md: the body of a batch as records. Whole numbers are BigInt until they are told.

const zlib = require('node:zlib');

const INFLATED_MAX = 2 * 1024 * 1024;
const RECORDS_MAX = 2048;
const TEXTS_MAX = 16384;
const TEXT_BYTES_MAX = 16384;
const COLUMNS_MAX = 1024;
const VALUES_MAX = 8192;
const DETAILS_MAX = 1024;

const QUALITY = ['good', 'doubtful', 'unavailable', 'invalid'];
const FAULT = [
  'bus', 'silent', 'garbled', 'refused', 'absent', 'implausible', 'clock', 'missed', 'internal', 'dropped',
];
const SOURCE = ['meter_freeze', 'meter_load_record', 'meter_live', 'gateway_freeze', 'manual', 'estimated'];
const TIME_STATE = ['trusted', 'untrusted'];
const FORM = ['number', 'time', 'text'];
const HAS_SLOT = 16;
const HAS_CLOCK_ERROR = 32;

/** The records of a body, in their order. names: number of a quantity to its name. Throws. */
function records(body, names) {
  if (body[0] !== 1) throw new Error('another version of the body');
  const inflated = zlib.inflateRawSync(body.subarray(1), { maxOutputLength: INFLATED_MAX, info: true });
  if (inflated.engine.bytesWritten !== body.length - 1) throw new Error('bytes behind the deflate stream');
  return new Body(inflated.buffer, names).records();
}

/** A word of a table: new ones come to its end, and this reader would have to be told of them. */
function word(words, number) {
  if (number >= words.length) throw new Error(`word ${number} of ${words.length}: the gateway is newer`);
  return words[number];
}

function zigzag(number) {
  return number & 1n ? -(number >> 1n) - 1n : number >> 1n;
}

function sum(numbers) {
  return numbers.reduce((total, number) => total + number, 0);
}

class Body {
  constructor(bytes, names) {
    this.bytes = bytes;
    this.names = names;
    this.at = 0;
    this.built = 0;
  }

  take(count) {
    if (count > this.bytes.length - this.at) throw new Error('the body ends too early');
    this.at += count;
    return this.bytes.subarray(this.at - count, this.at);
  }

  byte() {
    return this.take(1)[0];
  }

  varint() {
    let number = 0n;
    for (let shift = 0n; shift < 63n; shift += 7n) {
      const byte = this.byte();
      number |= BigInt(byte & 127) << shift;
      if (byte < 128) return number;
    }
    throw new Error('a varint of more than 9 bytes');
  }

  /** A count or a place. */
  count(most) {
    const number = this.varint();
    if (number > BigInt(most)) throw new Error(`${number}, at most ${most} expected`);
    return Number(number);
  }

  build(count) {
    this.built += count;
    if (this.built > VALUES_MAX) throw new Error(`more than ${VALUES_MAX} values`);
  }

  /** A column that comes in runs of these lengths. */
  column(runs) {
    const count = sum(runs);
    if (count === 0) return [];
    const head = this.byte();
    const order = head >> 4;
    const width = head & 15;
    if (order > 2 || width > 8) throw new Error('a column of unknown form');
    const planes = this.take(count * width);
    const numbers = [];
    for (let n = 0; n < count; n += 1) {
      let coded = 0n;
      for (let plane = 0; plane < width; plane += 1) coded = (coded << 8n) | BigInt(planes[plane * count + n]);
      numbers.push(zigzag(coded));
    }
    if (order === 0) return numbers;
    const found = [];
    let first = 0n;
    let next = runs.length;
    runs.forEach((length, run) => {
      first += numbers[run];
      found.push(first);
      let [now, step] = [first, 0n];
      for (let n = 1; n < length; n += 1, next += 1) {
        step = order === 1 ? numbers[next] : step + numbers[next];
        now += step;
        found.push(now);
      }
    });
    return found;
  }

  /** A column that is one run, of counts or places. */
  plain(count) {
    return this.column(count ? [count] : []).map(Number);
  }

  text(place) {
    if (place < 0 || place >= this.texts.length) throw new Error(`text ${place} of ${this.texts.length}`);
    return this.texts[place];
  }

  optional(place) {
    return place === 0 ? null : this.text(place - 1);
  }

  records() {
    const many = this.count(RECORDS_MAX);
    this.readTexts();
    const shapes = this.readShapes();
    const series = this.readSeries(many);
    const order = this.plain(many);
    for (const each of series) each.length = 0;
    for (const place of order) series[place].length += 1;
    this.readTimes(series);
    shapes.forEach((shape, place) => this.readValues(shape, series.filter((each) => each.kind === 2 + place)));
    if (this.at !== this.bytes.length) throw new Error('bytes behind the values');
    return order.map((place) => series[place].records.shift());
  }

  readTexts() {
    const lengths = this.plain(this.count(TEXTS_MAX));
    const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
    this.texts = lengths.map((length) => {
      if (length > TEXT_BYTES_MAX) throw new Error('a text that is too long');
      return decoder.decode(this.take(length));
    });
  }

  readShapes() {
    const quantities = this.plain(this.count(COLUMNS_MAX)).map((number) => (number ? this.names(number) : this.own()));
    const lengths = this.plain(this.count(COLUMNS_MAX));
    if (sum(lengths) > COLUMNS_MAX) throw new Error('too many columns');
    const places = this.plain(sum(lengths));
    return lengths.map((length) => places.splice(0, length).map((place) => quantities[place]));
  }

  /** The name of a quantity that is not in the catalogue. */
  own() {
    const parts = Array.from({ length: 14 }, () => Number(this.varint()));
    return this.text(parts[6]);
  }

  readSeries(most) {
    const many = this.count(most);
    const columns = Array.from({ length: 7 }, () => this.plain(many));
    return Array.from({ length: many }, (_, n) => {
      const [kind, flags, meter, name, point, ct, pt] = columns.map((column) => column[n]);
      return { kind, flags, meter, name, point, ct, pt };
    });
  }

  readTimes(series) {
    const captures = series.filter((each) => each.kind >= 2);
    const gaps = series.filter((each) => each.kind === 0);
    const events = series.filter((each) => each.kind === 1);
    this.spread(captures.filter((each) => each.flags & HAS_SLOT), 'slots');
    this.spread(captures, 'stamps');
    this.spread(captures, 'reads');
    this.spread(captures.filter((each) => each.flags & HAS_CLOCK_ERROR), 'clockErrors');
    this.spread(gaps, 'slots');
    this.spread(gaps, 'openings');
    this.spread(events, 'times');
    for (const each of captures) each.records = this.captures(each);
    for (const each of gaps) each.records = this.gaps(each);
    for (const each of events) each.records = this.events(each);
  }

  /** A column of times, split among the series. */
  spread(series, name) {
    const times = this.column(series.map((each) => each.length)).map(Number);
    for (const each of series) each[name] = times.splice(0, each.length);
  }

  captures({ flags, meter, name, point, ct, pt, length, slots, stamps, reads, clockErrors }) {
    return Array.from({ length }, (_, n) => {
      const stamp = stamps[n] + (slots ? slots[n] : 0);
      return {
        type: 'capture', meter: this.text(meter), point: this.text(point), task: this.text(name),
        slot: slots ? slots[n] : null, stamp, read_at: stamp + reads[n], time_state: word(TIME_STATE, (flags >> 3) & 1),
        clock_error_ms: clockErrors ? clockErrors[n] : null, source: word(SOURCE, flags & 7), ct: this.text(ct),
        pt: this.text(pt), values: [],
      };
    });
  }

  gaps({ flags, meter, name, point, length, slots, openings }) {
    return Array.from({ length }, (_, n) => ({
      type: 'gap', meter: this.text(meter), task: this.text(name), slot: slots[n], fault: word(FAULT, flags),
      detail: this.optional(point), opened_at: slots[n] + openings[n],
    }));
  }

  events({ flags, meter, name, length, times }) {
    return Array.from({ length }, (_, n) => ({
      type: 'event', name: this.text(name), at: times[n], meter: flags ? this.text(meter) : null, detail: this.detail(),
    }));
  }

  detail() {
    const many = this.count(DETAILS_MAX);
    this.build(many);
    const found = Object.create(null);
    for (let n = 0; n < many; n += 1) {
      const name = this.text(Number(this.varint()));
      const item = this.varint();
      found[name] = item & 1n ? Number(zigzag(item >> 1n)) : this.text(Number(item >> 1n));
    }
    return found;
  }

  readValues(shape, series) {
    if (series.length === 0) return;
    const runs = series.map((each) => each.length);
    this.build(shape.length * sum(runs));
    const captures = series.flatMap((each) => each.records);
    for (const quantity of shape) {
      this.valueColumn(quantity, runs).forEach((value, n) => captures[n].values.push(value));
    }
  }

  valueColumn(quantity, runs) {
    const head = this.byte();
    const form = FORM[head & 3];
    let told;
    if (form === 'number') {
      const exponent = this.byte() - 64;
      const wholes = this.column(runs);
      const drops = head & 4 ? this.column(runs).map(Number) : wholes.map(() => 0);
      told = wholes.map((whole, n) => decimal(whole / 10n ** BigInt(drops[n]), exponent + drops[n]));
    } else {
      told = this.column(runs).map((place) => this.text(Number(place)));
    }
    const empty = { quantity, number: null, time: null, text: null, quality: 'good', fault: null, detail: null };
    const values = told.map((each) => ({ ...empty, [form]: each }));
    if (head & 8) this.exceptions(values, empty);
    return values;
  }

  exceptions(values, empty) {
    const many = this.count(values.length);
    this.build(many);
    for (let n = 0, at = 0; n < many; n += 1) {
      at += this.count(values.length);
      const flags = this.byte();
      const what = (flags >> 2) & 7;
      const value = what === 0 ? values[at] : { ...empty };
      if (what >= 2) {
        const text = this.text(Number(this.varint()));
        value[FORM[what - 2]] = what === 2 ? plain(text) : text;
      }
      value.quality = word(QUALITY, flags & 3);
      if (flags & 32) value.fault = word(FAULT, this.byte());
      if (flags & 64) value.detail = this.text(Number(this.varint()));
      values[at] = value;
    }
  }
}

/** whole * 10^exponent, written plainly, with -exponent digits behind the point. */
function decimal(whole, exponent, sign = whole < 0n ? '-' : '') {
  const digits = String(whole < 0n ? -whole : whole);
  if (exponent >= 0) return sign + (digits === '0' ? digits : digits + '0'.repeat(exponent));
  const padded = digits.padStart(1 - exponent, '0');
  return `${sign}${padded.slice(0, exponent)}.${padded.slice(exponent)}`;
}

/** The same of a number that is told as text, for example -0.0, 1E+3 or 1.5E-7. */
function plain(text) {
  const [, sign, before, after = '', exponent = '0'] = /^(-?)(\d+)(?:\.(\d+))?(?:E([+-]\d+))?$/.exec(text);
  return decimal(BigInt(before + after), Number(exponent) - after.length, sign);
}

module.exports = { decimal, plain, records };
