"""`meterwire keys`: made once, shown without secrets, trusted only on purpose."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from field.keys.told import PLACES, here
from field.main import main
from identity.centre import Centre
from identity.gateway import GatewayIdentity


def keys(*arguments: object) -> Result:
    """What `meterwire keys ...` answers."""
    return CliRunner().invoke(main, ["keys", *map(str, arguments)])


def objects(result: Result) -> list[dict[str, Any]]:
    """Its lines of JSON."""
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which a gateway, g, and a centre, c, have their keys and trust each other."""
    place = tmp_path_factory.mktemp("keys")
    assert keys("init", "gateway", "--id", "gw-1", "--dir", place / "g").exit_code == 0
    assert keys("init", "centre", "--dir", place / "c").exit_code == 0
    assert keys("trust", place / "c" / "centre.json", "--dir", place / "g").exit_code == 0
    assert keys("trust", place / "g", "--dir", place / "c").exit_code == 0
    return place


def test_made_keys_can_be_loaded_and_are_told_as_objects(tmp_path: Path) -> None:
    gateway = keys("init", "gateway", "--id", "gw-7", "--dir", tmp_path / "g", "--json")
    assert gateway.exit_code == 0
    loaded = GatewayIdentity.load(tmp_path / "g", "gw-7")
    told = objects(gateway)[0]
    assert objects(gateway) == [
        {"own": True, "role": "gateway", "id": "gw-7", "use": "sign", "in_use": True, "state": "in use",
         "kind": "P-256", "made": told["made"], "retired": None, "kid": loaded.kid.hex(),
         "fingerprint": told["fingerprint"]}
    ]  # fmt: skip
    assert abs(datetime.fromisoformat(told["made"]) - datetime.now(UTC)) < timedelta(minutes=5)
    centre = keys("init", "centre", "--dir", tmp_path / "c", "--json")
    assert [(each["use"], each["id"]) for each in objects(centre)] == [("sign", "centre"), ("wrap", "centre")]
    assert Centre.load(tmp_path / "c").kid.hex() == objects(centre)[0]["kid"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["init", "gateway", "--dir", "DIR/new"],
        ["init", "gateway", "--id", "GW 1", "--dir", "DIR/new"],
        ["init", "gateway", "--id", "gw-1", "--dir", "DIR/g"],
        ["init", "queen", "--dir", "DIR/new"],
        ["show", "--dir", "DIR/nowhere"],
        ["trust", "DIR/g/gateway.json", "--dir", "DIR/nowhere"],
        ["trust", "DIR/nowhere.json", "--dir", "DIR/g"],
    ],
)
def test_a_mistake_ends_with_2_and_says_what_is_wrong(home: Path, arguments: list[str]) -> None:
    result = keys(*(argument.replace("DIR", str(home)) for argument in arguments))
    assert result.exit_code == 2
    assert result.stderr and not result.stdout


def test_show_tells_own_and_trusted_keys_and_nothing_private(home: Path) -> None:
    told = objects(keys("show", "--dir", home / "g", "--json"))
    assert [(each["own"], each["role"], each["use"]) for each in told] == [
        (True, "gateway", "sign"), (False, "centre", "sign"), (False, "centre", "wrap"),
    ]  # fmt: skip
    seen = objects(keys("show", "--dir", home / "c", "--json"))
    assert {each["fingerprint"] for each in told} == {each["fingerprint"] for each in seen}
    for text in (keys("show", "--dir", home / "g").stdout, keys("show", "--dir", home / "c", "--lang", "zh").stdout):
        assert "SHA256:" in text and "PRIVATE" not in text
        for line in (home / "g" / "gateway.key").read_text().splitlines()[1:-1]:
            assert line not in text


def test_a_key_that_others_can_read_is_named(tmp_path: Path) -> None:
    keys("init", "gateway", "--id", "gw-1", "--dir", tmp_path / "g")
    (tmp_path / "g" / "gateway.key").chmod(0o644)
    result = keys("show", "--dir", tmp_path / "g")
    assert result.exit_code == 2
    assert "expected mode 0600, got 0644" in result.stderr


def test_a_directory_of_bundles_is_taken_in_as_far_as_it_goes(home: Path, tmp_path: Path) -> None:
    post = tmp_path / "post"
    post.mkdir()
    for name in ("gw-2", "gw-3"):
        keys("init", "gateway", "--id", name, "--dir", tmp_path / name)
        (post / f"{name}.json").write_bytes((tmp_path / name / "gateway.json").read_bytes())
    keys("init", "centre", "--id", "second", "--dir", tmp_path / "c")
    all_good = keys("trust", post, "--dir", tmp_path / "c", "--json")
    assert all_good.exit_code == 0
    assert [(each["id"], each["result"]) for each in objects(all_good)] == [("gw-2", "new"), ("gw-3", "new")]
    (post / "gw-1.json").write_text("{}")
    some = keys("trust", post, "--dir", tmp_path / "c", "--json")
    assert some.exit_code == 1
    assert [each["result"] for each in objects(some)] == ["refused", "known", "known"]
    assert "gw-1.json" in objects(some)[0]["error"]
    none = keys("trust", post / "gw-1.json", "--dir", tmp_path / "c")
    assert none.exit_code == 3


def test_other_keys_of_a_known_id_need_replace(home: Path, tmp_path: Path) -> None:
    keys("init", "gateway", "--id", "gw-1", "--dir", tmp_path / "again")
    bundle = tmp_path / "again" / "gateway.json"
    refused = keys("trust", bundle, "--dir", home / "c")
    assert refused.exit_code == 3 and "--replace" in refused.stderr
    assert keys("trust", bundle, "--dir", home / "c", "--replace").exit_code == 0
    assert keys("trust", home / "g" / "gateway.json", "--dir", home / "c", "--replace").exit_code == 0


def test_a_damaged_bundle_among_the_trusted_is_part_of_a_failure(home: Path, tmp_path: Path) -> None:
    keys("init", "gateway", "--id", "gw-9", "--dir", tmp_path / "g")
    keys("trust", home / "c" / "centre.json", "--dir", tmp_path / "g")
    (tmp_path / "g" / "trusted" / "centres" / "centre.json").write_text("{}")
    result = keys("show", "--dir", tmp_path / "g")
    assert result.exit_code == 1
    assert "gw-9" in result.stdout and "centre.json" in result.stderr


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A directory in which a gateway, g, and a centre, c (for HPKE: quickly made), trust each other."""
    keys("init", "gateway", "--id", "gw-1", "--dir", tmp_path / "g")
    keys("init", "centre", "--wrap", "hpke", "--dir", tmp_path / "c")
    assert keys("trust", tmp_path / "c" / "centre.json", "--dir", tmp_path / "g").exit_code == 0
    assert keys("trust", tmp_path / "g" / "gateway.json", "--dir", tmp_path / "c").exit_code == 0
    return tmp_path


def test_prepared_keys_are_put_to_use_and_nothing_else_is_made(pair: Path) -> None:
    prepared = keys("rotate", "--prepare", "--use", "sign", "--dir", pair / "c", "--json")
    assert prepared.exit_code == 0
    assert [(each["use"], each["state"]) for each in objects(prepared)] == [
        ("sign", "in use"), ("sign", "next"), ("wrap", "in use"),
    ]  # fmt: skip
    taken = keys("trust", pair / "c" / "centre.json", "--dir", pair / "g", "--json")
    assert [each["result"] for each in objects(taken)] == ["succeeded"]
    rotated = objects(keys("rotate", "--dir", pair / "c", "--json"))
    assert [(each["use"], each["state"]) for each in rotated] == [
        ("sign", "in use"), ("sign", "earlier"), ("wrap", "in use"),
    ]  # fmt: skip
    assert rotated[0]["kid"] == objects(prepared)[1]["kid"] and rotated[2]["kid"] == objects(prepared)[2]["kid"]
    assert rotated[1]["retired"] and not rotated[0]["retired"]


def test_a_gateway_is_revoked_by_its_id_and_told_as_such(pair: Path) -> None:
    result = keys("revoke", "gw-1", "--dir", pair / "c", "--json")
    assert result.exit_code == 0
    (revoked,) = objects(result)
    assert (revoked["id"], revoked["result"]) == ("gw-1", "revoked")
    shown = objects(keys("show", "--dir", pair / "c", "--json"))
    assert [each["kid"] for each in shown if each["state"] == "revoked"] == [revoked["kid"]]
    assert "吊销" in keys("show", "--dir", pair / "c", "--lang", "zh").stdout
    again = keys("trust", pair / "g" / "gateway.json", "--dir", pair / "c", "--replace", "--json")
    assert again.exit_code == 3 and "revoked here" in objects(again)[0]["error"]


def test_an_earlier_own_key_is_destroyed_by_its_fingerprint_the_one_in_use_never(pair: Path) -> None:
    rotated = objects(keys("rotate", "--wrap", "hpke", "--dir", pair / "c", "--json"))
    in_use, earlier = (each["fingerprint"] for each in rotated if each["use"] == "wrap")
    refused = keys("revoke", in_use, "--dir", pair / "c")
    assert refused.exit_code == 2 and "in use; put another in its place first" in refused.stderr
    gone = keys("revoke", earlier, "--dir", pair / "c", "--json")
    assert [each["result"] for each in objects(gone)] == ["destroyed"]
    assert not list((pair / "c" / "retired").iterdir())
    nothing = keys("revoke", earlier, "--dir", pair / "c")
    assert nothing.exit_code == 3 and "no such key here" in nothing.stderr


def test_fingerprints_are_shown_by_sm3_too(pair: Path) -> None:
    both = [objects(keys("show", "--dir", pair / "g", "--json", *more)) for more in ((), ("--sm3",))]
    assert [each["kid"] for each in both[0]] == [each["kid"] for each in both[1]]
    assert all(each["fingerprint"].startswith("SM3:") for each in both[1])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rotate", "--dir", "DIR/nowhere"], "expected the directory of the keys"),
        (["rotate", "--sign-token", "pkcs11:token=x", "--dir", "DIR/c"], "expected pkcs11:token=LABEL;object=LABEL"),
        (
            ["rotate", "--wrap", "hpke", "--wrap-token", "pkcs11:token=x;object=y", "--dir", "DIR/c"],
            "kind rsa, got hpke",
        ),
        (["revoke", "gw-1", "--dir", "DIR/nowhere"], "expected the directory of the keys"),
    ],
)
def test_a_change_that_cannot_be_made_ends_with_2_and_says_why(pair: Path, arguments: list[str], said: str) -> None:
    result = keys(*(argument.replace("DIR", str(pair)) for argument in arguments))
    assert result.exit_code == 2 and said in result.stderr
    assert keys("show", "--dir", pair / "c").exit_code == 0


def test_the_keys_of_this_machine_are_a_centres_where_there_is_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for role in PLACES:
        monkeypatch.setitem(PLACES, role, tmp_path / role)
    assert here() == tmp_path / "gateway", "where a mistake is told of"
    assert keys("init", "centre").exit_code == 0
    assert here() == tmp_path / "centre"
    assert "own     centre" in keys("show").stdout
    elsewhere = keys("init", "gateway", "--id", "gw-1", "--dir", tmp_path / "elsewhere")
    assert elsewhere.exit_code == 0
    taken = keys("trust", tmp_path / "elsewhere/gateway.json")
    assert taken.exit_code == 0, "as `keys init` says that it is taken in"
    assert keys("init", "gateway", "--id", "gw-2").exit_code == 0
    assert here() == tmp_path / "gateway"
    assert "own     gateway" in keys("show").stdout
    assert "own     centre" in keys("show", "--dir", tmp_path / "centre").stdout
