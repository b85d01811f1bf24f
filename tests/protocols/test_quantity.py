"""The catalogue of quantities: one name, one number, one identifier each, and a grammar that names follow."""

import re
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from protocols.quantity import (
    LAST_MAX,
    STORES,
    TARIFF_MAX,
    Form,
    Kind,
    Quantity,
    Side,
    base_of,
    bases,
    by_di,
    by_name,
    by_number,
    variant,
)

UNITS = frozenset(
    {"kWh", "kvarh", "kVAh", "kW", "kvar", "kVA", "V", "A", "Ah", "Hz", "deg", "°C", "%", "min", "ms", "CNY", "CNY/kWh"}
) | {"1"}
NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*")
BASES = bases()
LONGEST_NUMBER = 1 << 38
ROW_BITS = 0x3FF | 15 << 34


@st.composite
def variants(draw: st.DrawFn) -> Quantity:
    """Any quantity of the catalogue, tariff and settlement day included."""
    base = draw(st.sampled_from(BASES))
    store = draw(st.sampled_from([None, *(each for each in STORES.values() if base.kind in each.kinds)]))
    try:
        return variant(
            base,
            tariff=draw(st.integers(0, TARIFF_MAX)),
            last=0 if store else draw(st.integers(0, LAST_MAX)),
            time=base.kind is Kind.DEMAND and draw(st.booleans()),
            store=store.name if store else "",
            nth=draw(st.integers(min(1, store.depth), store.depth)) if store else 0,
        )
    except ValueError:
        return base


def test_names_numbers_and_identifiers_are_unique() -> None:
    for keys in (
        [q.name for q in BASES],
        [str(q.number) for q in BASES],
        [q.di for q in BASES if q.di],
        [q.cim for q in BASES if q.cim],
        [q.obis for q in BASES if q.obis],
        [q.oad for q in BASES if q.oad],
        [q.zh for q in BASES],
    ):
        assert len(keys) == len(set(keys)), sorted(key for key in keys if keys.count(key) > 1)


def test_every_row_has_a_number_a_unit_and_a_chinese_name() -> None:
    for q in BASES:
        assert 0 < q.number == q.number & ROW_BITS, q.name
        assert base_of(q) is q
        assert (q.unit in UNITS) if q.form is Form.NUMBER else not q.unit, q.name
        assert q.zh, q.name
        assert NAME.fullmatch(q.name), q.name
        assert q.di is None or re.fullmatch(r"[0-9A-F]{8}", q.di), q.name


@given(variants())
def test_a_quantity_is_found_by_its_name_and_its_number(quantity: Quantity) -> None:
    assert by_name(quantity.name) == by_number(quantity.number)
    assert by_name(quantity.name) == quantity
    assert quantity.number < LONGEST_NUMBER


@given(variants())
def test_names_follow_the_grammar(quantity: Quantity) -> None:
    """kind[.nature][.direction or quadrant][.phase][.total or tN][.last_N][.store_N][.time]"""
    assert NAME.fullmatch(quantity.name)
    parts = quantity.name.split(".")
    if quantity.kind is Kind.DEMAND:
        assert ("time" in parts) == (parts[-1] == "time") == (quantity.form is Form.TIME)
    assert (f"t{quantity.tariff}" in parts) == (quantity.tariff > 0)
    assert (f"last_{quantity.last}" in parts) == (quantity.last > 0)
    kept = f"{quantity.store}_{quantity.nth}" if quantity.nth else quantity.store
    assert not kept or kept in parts
    assert not ({"total"} & set(parts) and quantity.tariff)
    if quantity.phase:
        assert quantity.phase in parts


@given(variants(), variants())
def test_two_quantities_share_neither_name_nor_number_nor_identifier(a: Quantity, b: Quantity) -> None:
    assume(a != b)
    assert a.name != b.name
    assert a.number != b.number
    assert a.di is None or a.di != b.di


@given(variants())
def test_a_quantity_is_found_by_its_identifier(quantity: Quantity) -> None:
    if quantity.di is not None:
        assert by_di(quantity.di) == quantity


@given(
    st.integers(0, LONGEST_NUMBER * 2)
    | st.tuples(st.sampled_from(BASES), st.integers(0, (1 << 34) - 1)).map(lambda it: it[0].number | it[1])
)
def test_a_number_is_a_quantity_with_that_number_or_none(number: int) -> None:
    try:
        quantity = by_number(number)
    except KeyError:
        return
    assert quantity.number == number
    assert by_name(quantity.name) == quantity


@given(
    st.text(max_size=30) | st.sampled_from(BASES).map(lambda quantity: quantity.name),
    st.sampled_from(["", ".t0", ".t64", ".last_13", ".last_0", ".t01", ".total", ".time", ".t1.t2", "x", ".", "\n"]),
)
def test_a_name_is_a_quantity_with_that_name_or_none(stem: str, end: str) -> None:
    name = stem + end
    try:
        quantity = by_name(name)
    except KeyError:
        return
    assert quantity.name == name


@pytest.mark.parametrize(
    ("name", "di", "obis", "zh"),
    [
        ("energy.active.import.total", "00010000", "1-0:1.8.0", "正向有功总电能"),
        ("energy.active.import.t2.last_1", "00010201", "1-0:1.8.2*1", "上1结算日正向有功费率2电能"),
        ("energy.active.import.total.last_12", "0001000C", "1-0:1.8.0*12", "上12结算日正向有功总电能"),
        ("demand.active.import.total.time", None, "1-0:1.6.0", "正向有功总最大需量发生时间"),
        ("voltage.a", "02010100", "1-0:32.7.0", "A相电压"),
        ("energy.active.import.t2.daily_62", None, None, "上62次日冻结正向有功费率2电能"),
        ("record.time.daily_1", None, None, "上1次日冻结记录时间"),
        ("voltage.a.load", None, None, "负荷记录A相电压"),
        ("event.phase_loss.a.start.record_10", None, None, "上10次A相断相发生时刻"),
        ("voltage_quality.pass.b.past_12", None, None, "上12期B相电压合格率"),
        ("holiday.entry_254", None, None, "公共假日第254项"),
    ],
)
def test_known_rows_stand_as_they_are(name: str, di: str | None, obis: str | None, zh: str) -> None:
    quantity = by_name(name)
    assert (quantity.di, quantity.obis, quantity.zh) == (di, obis, zh)


@pytest.mark.parametrize(
    "name",
    [
        "energy.active.import.a.t1", "balance.energy.t1", "balance.energy.last_1", "voltage.a.t1", "power.active.t1",
        "energy.active.import.total.time", "energy.active.import.last_1.t2", "energy.active.import.total.daily",
        "energy.active.import.total.daily_255", "energy.active.import.total.daily_0", "voltage.a.load_1",
        "energy.active.import.total.last_1.daily_1", "event.trip.count.daily_1", "voltage.a.record_1",
        "event.power_off.start.record_11", "clock.daily_1", "record.time.record_1", "record.time.last_1",
    ],
)  # fmt: skip
def test_a_variant_that_no_meter_has_is_no_quantity(name: str) -> None:
    with pytest.raises(KeyError, match="not in the catalogue"):
        by_name(name)


def test_the_ratio_follows_from_the_side() -> None:
    ct, pt = Decimal(40), Decimal(100)
    ratios = {q.side: q.ratio(ct, pt) for q in BASES}
    assert ratios == {Side.NONE: 1, Side.CURRENT: 40, Side.VOLTAGE: 100, Side.BOTH: 4000}


@pytest.mark.parametrize(
    ("name", "obis", "cim"),
    [
        ("energy.active.import.total", "1-0:1.8.0", "0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.72.0"),
        ("energy.active.export.b", "1-0:42.8.0", "0.0.0.1.19.1.12.0.0.0.0.0.0.0.64.3.72.0"),
        ("energy.reactive.q4.c", "1-0:68.8.0", "0.0.0.1.18.1.12.0.0.0.0.0.0.0.32.3.73.0"),
        ("energy.apparent.import.total", "1-0:9.8.0", None),
        ("energy.reactive.import.b", "1-0:43.8.0", None),
        ("energy.active.combined.total", None, None),
        ("energy.reactive.combined_2.a", None, None),
        ("energy.active.import.t2.last_1", "1-0:1.8.2*1", None),
        ("demand.active.export.total", "1-0:2.6.0", None),
        ("demand.reactive.combined_1.total", None, None),
        ("voltage.c", "1-0:72.7.0", "0.0.0.12.0.1.158.0.0.0.0.0.0.0.32.0.29.0"),
        ("current.a", "1-0:31.7.0", "0.0.0.12.1.1.4.0.0.0.0.0.0.0.128.0.5.0"),
        ("power.active.total", "1-0:16.7.0", "0.0.0.12.1.1.37.0.0.0.0.0.0.0.0.3.38.0"),
        ("power.reactive.b", "1-0:43.7.0", "0.0.0.12.1.1.37.0.0.0.0.0.0.0.64.3.63.0"),
        ("power_factor.total", "1-0:13.7.0", "0.0.0.12.0.1.38.0.0.0.0.0.0.0.0.0.65.0"),
        ("phase_angle.b", "1-0:81.7.15", None),
        ("thd.voltage.b", "1-0:52.7.124", None),
        ("thd.current.c", "1-0:71.7.124", None),
        ("frequency", "1-0:14.7.0", None),
    ],
)
def test_a_quantity_has_its_codes_in_other_catalogues(name: str, obis: str | None, cim: str | None) -> None:
    assert (by_name(name).obis, by_name(name).cim) == (obis, cim)
