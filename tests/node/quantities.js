'use strict';
// Section 10 of docs/wire.md: from a quantity's number to its name.

/** A function from numbers to names, made of the parts `catalogue` and `stores` of docs/wire-vectors.json. */
function namer({ catalogue, stores }) {
  const rows = new Map(catalogue.map((row) => [row.number, row.name]));
  const places = new Map(stores.map((store) => [store.code, store.name]));
  return (number) => {
    const bits = (low, many) => Number((BigInt(number) >> BigInt(low)) & ((1n << BigInt(many)) - 1n));
    const row = rows.get(bits(0, 10) + bits(34, 4) * 2 ** 34);
    if (row === undefined) throw new Error(`no quantity has the number ${number}: the catalogue is older than it`);
    const [tariff, day, store, which] = [bits(10, 6), bits(16, 4), bits(21, 5), bits(26, 8)];
    let name = tariff ? row.replace(/\.total$/, `.t${tariff}`) : row;
    if (day) name += `.last_${day}`;
    if (store) name += `.${places.get(store)}${which ? `_${which}` : ''}`;
    return bits(20, 1) ? `${name}.time` : name;
  };
}

module.exports = { namer };
