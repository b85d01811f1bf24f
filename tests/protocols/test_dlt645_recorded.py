"""Frames that others recorded or printed with their values, beside the vectors: what they say is what we read.

Each was found in a public file of a repository that the search did not name, so its licence is not known either: no
code or words are taken, only the bytes of the frame and, where the file prints it, the value. Their checksums are right
as they stand there; some of these meters answer any wildcard, one even with the wildcard as its own address.
"""

import pytest

from protocols.dlt645.authority import Authority
from protocols.dlt645.codes import Edition
from protocols.dlt645.commands import Switch, switch
from protocols.dlt645.frame import Deframer, Frame
from protocols.dlt645.message import explain

RECORDED = [
    # meters of 1997, one of them asked by AA AA AA AA AA AA (it answered so, too), one with 3 FE in front
    ("FEFEFEFE6827596303000168810445E93333D016", ["0"]),
    ("FEFEFEFE6827596303000168810643C3AC594733C316", ["1426.79"]),
    ("6807050600000068810643C397C633333216", ["93.64"]),
    ("68AAAAAAAAAAAA68810643C394A53533FA16", ["272.61"]),
    ("6843973514000068810643C37B9657331B16", ["2463.48"]),
    ("FEFEFE6892010010000068810643C333BB33335416", ["88.00"]),
    ("6801000000000068810643C3A89933330516", ["66.75"]),
    ("FEFEFEFE6885141600181568810643C37B954333BF16", ["1062.48"]),
    ("FEFEFEFE6845230300181568810643C333333333C116", ["0.00"]),
    ("6820110600415668810643C33C3333330016", ["0.09"]),
    ("6820111221063668810563E9333333DB16", ["0.0000"]),
    ("6803000000000068810444E93334EC16", ["100"]),  # in a manual of Heyuan Intelligence: 0100 V
    # energies of 2007, single and with four tariffs, whose sum the total is (or 0.01 to 0.02 beside it, from rounding)
    ("FEFE6872003209172068910833333433B93433336D16", ["1.86"]),
    ("6861100130121568910833333433AB3933334916", ["6.78"]),
    ("FEFEFEFE68600792040091689108333333339735A8336A16", ["7502.64"]),
    ("FEFEFEFE6894410326121868910833333433593333335016", ["0.26"]),
    ("FEFEFEFE6801000000000068910833333433593954537016", ["202106.26"]),
    (
        "680036190000006891183332343363693333893533334C3333336B3333334A663333E916",
        ["36.30", "2.56", "0.19", "0.38", "33.17"],
    ),
    (
        "6877441003000068911833323433AC343333583333339533333399333333583333339B16",
        ["1.79", "0.25", "0.62", "0.66", "0.25"],
    ),
    (
        "FEFEFEFE6824020000000068911833323433C747353337863333A78633333687333344873333EB16",
        ["214.94", "53.04", "53.74", "54.03", "54.11"],
    ),
    # meters of one phase, asked for three: 0 where nothing is wired, or FF
    ("FEFEFEFE6894410326121868910A33323435365633333333B916", ["230.3", "0.0", "0.0"]),
    ("FEFEFEFE6894410326121868910D33323535BB3433333333333333B916", ["0.188", "0.000", "0.000"]),
    ("6834010014122368910633343435A456AF16", ["237.1"]),
    ("683401001412236891063335343532321A16", ["unavailable"]),
    ("6834010014122368910A33323435A456323232327916", ["237.1", "unavailable", "unavailable"]),
    ("FEFEFEFE6800514418111768910733343535333333A716", ["0.000"]),
    # clocks: Mondays and a Thursday; one that is no time at all; the moment of a daily freeze
    ("6812000000102068910834343337344434497216", ["2016-01-11", "1"]),
    ("6878047911000068910834343337375438484C16", ["2015-05-21", "4"]),
    ("680200000000006891083434333738FB885F5716", ["invalid", "invalid"]),
    ("6812000000102068910735343337888654DF16", ["21:53:55"]),
    ("6811111111111168910735343337366C3B7E16", ["08:39:03"]),
    ("681200000010206891093433393833333C4348B116", ["2015-10-09T00:00"]),
    # grid meters: the balance, the cover opened 27 times, a relay that is open
    ("681200000010206891083335C33389CB3433C416", ["198.56"]),
    ("68120000001020689107334063365A33337616", ["27"]),
    ("68611001301215689106363833378333BE16", ["0050"]),
    # no identifier, no data: a serial server's keep-alive made of a reply
    ("68090051050326689100E916", []),
]


@pytest.mark.parametrize(("wire", "expected"), RECORDED)
def test_a_frame_of_others_says_what_they_read(wire: str, expected: list[str]) -> None:
    (frame,) = Deframer().feed(bytes.fromhex(wire))
    message = explain(frame)
    assert message.edition is (Edition.E1997 if frame.control == 0x81 else Edition.E2007)
    assert [value.plain or value.quality.value for value in message.values] == expected


@pytest.mark.parametrize(
    ("wire", "address", "control", "data"),
    [
        (
            "FEFEFEFE68090051050326681C1035333333333333334D348C8C566445CC8216",
            "260305510009", 0x1C, "02000000" "00000000" "1A01" "595923311299",
        ),
        ("68090051050326689C00F416", "260305510009", 0x9C, ""),
        ("6820111221063668C503E901638516", "360621121120", 0xC5, "B6CE30"),
    ],
)  # fmt: skip
def test_a_command_of_others_is_taken_apart(wire: str, address: str, control: int, data: str) -> None:
    """A relay is switched, with 01 where 00 is reserved; confirmed; and an answer of a code that nobody explains."""
    (frame,) = Deframer().feed(bytes.fromhex(wire))
    assert frame == Frame(address=address, control=control, data=bytes.fromhex(data))
    assert not explain(frame).values


def test_a_relay_is_closed_by_the_bytes_that_others_send() -> None:
    wire = "FEFEFEFE68040028101920681C1035333333646464644F333434343434CC2116"
    authority = Authority(level=2, password="000000", operator="31313131")
    assert next(switch("201910280004", Switch.CLOSE, "2099-01-01T01:01:01", authority)).data == bytes.fromhex(wire)
