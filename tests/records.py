"""Records for the tests: any that may be built, and the reference load on which bytes per value are measured."""

import random
from decimal import Decimal

from hypothesis import strategies as st

from protocols.batch.codes import FAULTS, SOURCES, TIME_STATES
from protocols.capture import Capture, Event, Gap, Quality, Record, Source, TimeState, Value
from protocols.quantity import BASES, Form, Kind, Quantity, Side, by_name

INSTANTS = st.integers(-(2**40), 2**45)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
NAMES = st.text("abcm0123.-电表", min_size=1, max_size=6)

NUMBERS = st.one_of(
    st.builds(lambda digits, drop: Decimal(digits).scaleb(-drop), st.integers(-(10**9), 10**9), st.integers(0, 4)),
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30),
    st.floats(allow_nan=False, allow_infinity=False, width=32).map(lambda number: Decimal(repr(number))),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda number: Decimal(repr(number))),
    st.sampled_from([Decimal(text) for text in ("0", "-0", "-0.00", "0E+3", "1E+3", "230.0", "230.00", "9" * 40)]),
)

OUTSIDE = st.builds(
    Quantity, number=st.sampled_from([0, 7, 900]), name=NAMES.map("vendor.".__add__), unit=st.sampled_from(["", "V"]),
    kind=st.sampled_from(Kind), form=st.sampled_from(Form), phase=st.none() | NAMES, tariff=st.integers(0, 63),
    last=st.integers(0, 12), side=st.sampled_from(Side), obis=st.none() | NAMES, di=st.none() | NAMES,
    oad=st.none() | NAMES, cim=st.none() | NAMES, zh=TEXTS,
)  # fmt: skip
QUANTITIES = st.one_of(
    st.sampled_from(BASES), st.sampled_from([by_name("energy.active.import.t2.last_1"), by_name("voltage.a")]), OUTSIDE
)


@st.composite
def values(draw: st.DrawFn) -> Value:
    """Any value that may be built."""
    quantity, shape = draw(QUANTITIES), draw(st.sampled_from(["number"] * 4 + ["time", "text", "none"]))
    detail = draw(st.none() | st.none() | TEXTS)
    if shape == "none":
        quality = draw(st.sampled_from([Quality.UNAVAILABLE, Quality.INVALID]))
        return Value(quantity=quantity, quality=quality, fault=draw(st.none() | st.sampled_from(FAULTS)), detail=detail)
    quality = draw(st.sampled_from([Quality.GOOD] * 3 + [Quality.DOUBTFUL]))
    if shape == "number":
        return Value(quantity=quantity, number=draw(NUMBERS), quality=quality, detail=detail)
    if shape == "time":
        return Value(quantity=quantity, time=draw(TEXTS), quality=quality, detail=detail)
    return Value(quantity=quantity, text=draw(TEXTS), quality=quality, detail=detail)


CAPTURES = st.builds(
    Capture, meter=NAMES, point=TEXTS, task=NAMES, slot=st.none() | INSTANTS, stamp=INSTANTS, read_at=INSTANTS,
    time_state=st.sampled_from(TIME_STATES), clock_error_ms=st.none() | st.integers(-(10**9), 10**9),
    source=st.sampled_from(SOURCES), ct=NUMBERS, pt=st.just(Decimal(1)),
    values=st.lists(values(), min_size=1, max_size=5).map(tuple),
)  # fmt: skip
GAPS = st.builds(
    Gap, meter=NAMES, task=NAMES, slot=INSTANTS, fault=st.sampled_from(FAULTS), detail=st.none() | TEXTS,
    opened_at=INSTANTS,
)  # fmt: skip
EVENTS = st.builds(
    Event, name=NAMES, at=INSTANTS, meter=st.none() | NAMES,
    detail=st.dictionaries(NAMES, TEXTS | st.integers(-(2**50), 2**50), max_size=3),
)  # fmt: skip
RECORDS: st.SearchStrategy[Record] = st.one_of(CAPTURES, GAPS, EVENTS)


@st.composite
def series(draw: st.DrawFn) -> list[Record]:
    """Captures as a site makes them: few meters and quantities, many slots, now and then a value missing or odd."""
    quantities = draw(st.lists(QUANTITIES, min_size=1, max_size=4, unique_by=id))
    meters = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    made: list[Record] = []
    for slot in range(draw(st.integers(1, 4))):
        for meter in meters:
            told = []
            for quantity in quantities:
                odd = draw(st.integers(0, 9))
                number = Decimal(draw(st.integers(-9999, 9999))).scaleb(-draw(st.sampled_from([1, 1, 1, 2])))
                replaced = draw(values())
                told.append(Value(quantity=quantity, number=number) if odd else replaced)
            made.append(
                Capture(meter=meter, point=meter, task="curve", slot=slot * 900_000, stamp=slot * 900_000,
                        read_at=slot * 900_000 + 17, time_state=TimeState.TRUSTED, clock_error_ms=None,
                        source=Source.METER_LIVE, values=tuple(told))
            )  # fmt: skip
    return made


def digits(records: list[Record]) -> list[object]:
    """What equality of Decimals does not see: every number as it is written, sign of zero and last zeros included."""
    return [
        str(number)
        for record in records
        if isinstance(record, Capture)
        for number in (record.ct, record.pt, *(value.number for value in record.values))
    ]


REFERENCE = (
    *((f"energy.active.import.{register}", 2) for register in ("total", "t1", "t2", "t3", "t4")),
    ("energy.reactive.import.total", 2),
    *((f"voltage.{phase}", 1) for phase in "abc"),
    *((f"current.{phase}", 3) for phase in "abc"),
    *((f"power.active.{phase}", 4) for phase in ("total", "a", "b", "c")),
    *((f"power_factor.{phase}", 3) for phase in ("total", "a", "b", "c")),
)
"""20 quantities of a three-phase meter and their decimals."""


def reference_load(meters: int = 100, snapshots: int = 4, seed: int = 1) -> list[Record]:
    """Captures of 20 quantities every 15 minutes, in the order in which a gateway reads them.

    Voltage, current and power factor wander (first-order autoregression; innovations of 0.8 V, 0.5 A, 0.010), power
    is their product, energy its integral. read_at jitters by 20 ms. Ids of meters are random, of points they count.
    """
    rng = random.Random(seed)
    ids = [f"{rng.randrange(10**11, 10**12)}" for _ in range(meters)]
    rows = [_wander(rng, snapshots) for _ in range(meters)]
    quantities = [(by_name(name), -decimals) for name, decimals in REFERENCE]
    records: list[Record] = []
    for snapshot in range(snapshots):
        slot = 1_763_683_200_000 + snapshot * 900_000
        for meter in range(meters):
            told = tuple(
                Value(quantity=quantity, number=Decimal(whole).scaleb(scale))
                for (quantity, scale), whole in zip(quantities, rows[meter][snapshot], strict=True)
            )
            records.append(
                Capture(meter=ids[meter], point=f"pt-{meter + 1:05d}", task="curve", slot=slot, stamp=slot,
                        read_at=slot + 500 + meter * 137 + rng.randrange(-20, 21), time_state=TimeState.TRUSTED,
                        clock_error_ms=None, source=Source.METER_LIVE, values=told)
            )  # fmt: skip
    return records


def _wander(rng: random.Random, snapshots: int) -> list[list[int]]:
    """One meter's registers as whole numbers, snapshot by snapshot."""
    volts = means = [rng.gauss(230, 3) for _ in range(3)]
    mean_amps = abs(rng.gauss(8, 4)) + 0.5
    mean_factor = rng.uniform(0.85, 0.98)
    amps, factors = [mean_amps] * 3, [mean_factor] * 3
    tariffs, reactive, tariff = [rng.randrange(10_000_00) for _ in range(4)], rng.randrange(3_000_00), rng.randrange(4)
    rows = []
    for _ in range(snapshots):
        volts = [mean + 0.9 * (now - mean) + rng.gauss(0, 0.8) for mean, now in zip(means, volts, strict=True)]
        amps = [max(0.05, mean_amps + 0.8 * (now - mean_amps) + rng.gauss(0, 0.5)) for now in amps]
        factors = [min(1.0, mean_factor + 0.7 * (now - mean_factor) + rng.gauss(0, 0.01)) for now in factors]
        apparent = [v * a / 1000 for v, a in zip(volts, amps, strict=True)]
        active = [round(s * f * 10_000) for s, f in zip(apparent, factors, strict=True)]
        whole, power = sum(apparent), sum(active) / 10_000
        tariffs[tariff] += round(power * 25)
        reactive += round((whole**2 - power**2) ** 0.5 * 25)
        rows.append(
            [sum(tariffs), *tariffs, reactive, *(round(v * 10) for v in volts), *(round(a * 1000) for a in amps),
             sum(active), *active, round(power / whole * 1000), *(round(f * 1000) for f in factors)]
        )  # fmt: skip
    return rows
