# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
"""Keys in devices, with a real TPM 2.0 and a real PKCS#11 library in software."""

from __future__ import annotations

import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.batch import codec, hardware, keyplace
from agent.batch.keys import Algorithm, Ed25519Signer, Signer, ring
from agent.batch.pin import PinSource
from agent.errors import IdentityError
from tests.agent.batch.devices import PATIENCE_S, SOFTHSM, SoftwareToken, SoftwareTpm
from tests.agent.batch.samples import seal

HANDLE = "tpm:0x81000001"


@pytest.fixture
def tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftwareTpm]:
    device = SoftwareTpm(tmp_path_factory.mktemp("t"))
    device.start()
    yield device
    device.stop()


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoftwareToken:
    device = SoftwareToken(tmp_path)
    device.known_here(monkeypatch)
    return device


def key(text: str) -> Signer:
    return keyplace.open_signer(keyplace.parse_device(text))


def make(text: str, algorithm: Algorithm | None = None) -> Signer:
    return keyplace.create(keyplace.parse_device(text), algorithm)


def failure(signer: Signer) -> IdentityError:
    with pytest.raises(IdentityError) as caught:
        signer.sign(b"data")
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    return caught.value


def seals_and_opens(signer: Signer) -> None:
    sealed = seal(signer=signer)
    opened = codec.open_wire(codec.pack(sealed.signed_header, sealed.body), ring(signer.public))
    assert opened.kid == signer.kid


def test_a_tpm_makes_a_key_and_signs(tpm: SoftwareTpm) -> None:
    text = f"{HANDLE}?tcti={tpm.tcti}"
    made = make(text)
    seals_and_opens(made)
    for _ in range(20):  # half of all signatures have the greater s before it is put right
        assert made.public.verify(made.sign(b"data"), b"data")
    again = key(text)
    assert (again.public, again.algorithm) == (made.public, Algorithm.ES256)
    assert make(f"tpm:0x81000002?tcti={tpm.tcti}").kid != made.kid, "a new key, not the same derived again"


def test_a_tpm_goes_and_comes_back(tpm: SoftwareTpm) -> None:
    text = f"{HANDLE}?tcti={tpm.tcti}"
    signer = make(text)
    seals_and_opens(signer)
    tpm.stop()
    gone = failure(signer)
    assert (gone.code, gone.retryable) == ("CG-IDN-021", True)
    early = key(text)
    assert failure(early).code == "CG-IDN-021"
    tpm.start()
    seals_and_opens(signer)
    seals_and_opens(early)
    assert early.kid == signer.kid


def test_a_tpm_that_hangs_keeps_nobody(tpm: SoftwareTpm, monkeypatch: pytest.MonkeyPatch) -> None:
    signer = make(f"{HANDLE}?tcti={tpm.tcti}")
    seals_and_opens(signer)
    monkeypatch.setattr(hardware, "ANSWER_LIMIT_S", 0.2)
    tpm.freeze()
    hanging = failure(signer)
    assert (hanging.code, hanging.retryable) == ("CG-IDN-025", True)
    assert "no answer within" in str(hanging)
    for _ in range(5):
        assert "no answer since" in str(failure(signer))
    (asking,) = (thread for thread in threading.enumerate() if thread.name == "device")
    monkeypatch.setattr(hardware, "ANSWER_LIMIT_S", PATIENCE_S)
    tpm.thaw()
    asking.join(PATIENCE_S)  # for the answer that it owes
    seals_and_opens(signer)


def test_a_tpm_key_with_a_pin(tpm: SoftwareTpm, tmp_path: Path) -> None:
    pin = tmp_path / "pin"
    pin.touch(mode=0o600)
    pin.write_text("correct horse\n")
    text = f"{HANDLE}?tcti={tpm.tcti}&pin-source=file:{pin}"
    seals_and_opens(make(text))
    pin.write_text("wrong\n")
    signer = key(text)
    for _ in range(40):  # more than a TPM lets anybody try: the wrong one goes to it once
        assert failure(signer).code == "CG-IDN-022"
    pin.write_text("correct horse\n")
    seals_and_opens(signer)


def test_what_a_tpm_does_not_have(tpm: SoftwareTpm) -> None:
    assert failure(key(f"{HANDLE}?tcti={tpm.tcti}")).code == "CG-IDN-023"
    make(f"{HANDLE}?tcti={tpm.tcti}")
    with pytest.raises(IdentityError) as taken:
        make(f"{HANDLE}?tcti={tpm.tcti}")
    assert taken.value.code == "CG-IDN-005"
    assert failure(key(f"{HANDLE}?tcti=device:/dev/no-such-tpm")).code == "CG-IDN-021"
    assert failure(key(f"{HANDLE}?tcti=nonsense")).code == "CG-IDN-021"


@pytest.mark.parametrize("template", ["rsa2048", "ecc384:ecdsa", "ecc256:ecdh"])
def test_a_tpm_key_of_another_kind_is_named(tpm: SoftwareTpm, template: str) -> None:
    import tpm2_pytss as tss

    with tss.ESAPI(tpm.tcti) as context:
        attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda"
        attributes += "|decrypt" if template.endswith("ecdh") else "|sign"
        wanted = tss.TPM2B_PUBLIC.parse(template, objectAttributes=attributes)
        other = context.create_primary(tss.TPM2B_SENSITIVE_CREATE(), wanted)[0]
        context.evict_control(tss.ESYS_TR.OWNER, other, int(HANDLE[4:], 16))
    found = failure(key(f"{HANDLE}?tcti={tpm.tcti}"))
    assert (found.code, found.retryable) == ("CG-IDN-024", False)


def test_another_tpm_key_under_the_handle_does_not_sign(tpm: SoftwareTpm) -> None:
    text = f"{HANDLE}?tcti={tpm.tcti}"
    signer = make(text)
    seals_and_opens(signer)
    import tpm2_pytss as tss

    with tss.ESAPI(tpm.tcti) as context:
        context.evict_control(tss.ESYS_TR.OWNER, context.tr_from_tpmpublic(int(HANDLE[4:], 16)), 0)
    make(text)
    assert failure(signer).code == "CG-IDN-026"


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_token_makes_a_key_and_signs(token: SoftwareToken, algorithm: Algorithm) -> None:
    made = make(token.uri(), algorithm)
    seals_and_opens(made)
    for _ in range(20):
        assert made.public.verify(made.sign(b"data"), b"data")
    assert (key(token.uri()).public, made.algorithm) == (made.public, algorithm)
    assert make(token.uri("next")).kid != made.kid
    with pytest.raises(IdentityError) as taken:
        make(token.uri())
    assert taken.value.code == "CG-IDN-005"


def test_a_token_goes_and_comes_back(token: SoftwareToken) -> None:
    signer = make(token.uri())
    seals_and_opens(signer)
    token.pull()
    for _ in range(2):
        gone = failure(signer)
        assert gone.code in {"CG-IDN-021", "CG-IDN-025"}
        assert gone.retryable
    early = key(token.uri())
    assert failure(early).retryable
    token.plug_in()
    seals_and_opens(signer)
    seals_and_opens(early)


def test_a_wrong_pin_does_not_lock_the_token(token: SoftwareToken, caplog: pytest.LogCaptureFixture) -> None:
    make(token.uri())
    token.write_pin("1111-secret")
    signer = key(token.uri())
    for _ in range(20):
        wrong = failure(signer)
        assert wrong.code == "CG-IDN-022"
        assert "secret" not in f"{wrong} {wrong.hint} {caplog.text}"
    token.write_pin(token.PIN)
    seals_and_opens(signer)


def test_what_a_token_does_not_have(token: SoftwareToken) -> None:
    assert failure(key(token.uri("nobody"))).code == "CG-IDN-023"
    assert failure(key(token.uri().replace("token=city", "token=town"))).code == "CG-IDN-021"
    assert failure(key(token.uri().replace(str(SOFTHSM), "/nowhere.so"))).code == "CG-IDN-021"


def test_a_token_key_of_another_kind_is_named(token: SoftwareToken) -> None:
    import pkcs11

    with next(pkcs11.lib(str(SOFTHSM)).get_tokens()).open(rw=True, user_pin=token.PIN) as session:
        session.generate_keypair(pkcs11.KeyType.RSA, 1024, store=True, label="gateway")
        curve = {pkcs11.Attribute.EC_PARAMS: bytes.fromhex("06052b81040022")}
        domain = session.create_domain_parameters(pkcs11.KeyType.EC, curve, local=True)
        domain.generate_keypair(store=True, label="p384")
    assert failure(key(token.uri())).code == "CG-IDN-024"
    assert failure(key(token.uri("p384"))).code == "CG-IDN-024"


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_pin_that_others_may_read_is_not_used(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "pin"
    path.write_text("2468\n")
    path.chmod(mode)
    with pytest.raises(IdentityError, match=f"{mode:04o}") as caught:
        PinSource(f"file:{path}").read()
    assert caught.value.code == "CG-IDN-022"


def test_a_pin_comes_from_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(IdentityError, match="CREDENTIALS_DIRECTORY"):
        PinSource("credential:token-pin").read()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(IdentityError, match="cannot be read"):
        PinSource("credential:token-pin").read()
    path = tmp_path / "token-pin"
    path.write_bytes(b"geheim\r\nmore")
    path.chmod(stat.S_IRUSR)
    assert PinSource("credential:token-pin").read() == "geheim"
    for nothing in (b"", b"\n", b"\xff\n", b"x" * 300):
        path.chmod(0o600)
        path.write_bytes(nothing)
        with pytest.raises(IdentityError, match="PIN"):
            PinSource("credential:token-pin").read()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("gateway.key", "neither"),
        ("tpm:", "no persistent handle"),
        ("tpm:0x80000001", "no persistent handle"),
        ("tpm:0x81000001?tcti", "no value"),
        ("tpm:0x81000001?handle=1", "not known"),
        ("tpm:0x81000001?pin-value=1234", "does not belong here"),
        ("tpm:0x81000001?pin-source=pin", "neither file"),
        ("tpm:0x81000001?pin-source=file:pin", "does not begin with /"),
        ("tpm:0x81000001?pin-source=credential:../x", "neither file"),
        ("pkcs11:token=a?module-path=/x.so", "names no key"),
        ("pkcs11:object=a", "no module-path"),
        ("pkcs11:object=a?module-path=x.so", "no module-path"),
        ("pkcs11:object=a;object=b?module-path=/x.so", "stands twice"),
        ("pkcs11:object=a;colour=b?module-path=/x.so", "not known"),
        ("pkcs11:object=a;type=public?module-path=/x.so", "not private"),
        ("pkcs11:object=a?module-path=/x.so&pin-value=1", "does not belong here"),
        ("pkcs11:object=\u00e4?module-path=/x.so", "ASCII"),
        ("pkcs11:object=" + "a" * 2000, "1024"),
    ],
)
def test_a_text_that_names_no_key_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        keyplace.parse_device(text)


def test_a_text_names_a_key() -> None:
    assert keyplace.parse_device("tpm:0x81000001") == keyplace.TpmPlace(0x81000001)
    place = keyplace.parse_device(
        "pkcs11:token=City%20hall;serial=12;object=gw;id=%01%ff;type=private?module-path=/a%20b.so&pin-source=credential:p"
    )
    assert place == keyplace.TokenPlace(
        Path("/a b.so"), "City hall", "12", "gw", b"\x01\xff", PinSource("credential:p")
    )
    assert "credential" not in str(place)


@pytest.mark.parametrize(
    "text",
    [
        "tpm:0x81000001",
        "tpm:0x810000ff?tcti=swtpm:path=/run/a%26b&pin-source=file:/etc/p%20q",
        "pkcs11:token=City%20hall;serial=12;object=a%3Bb;id=%01%ff?module-path=/a%20b.so&pin-source=credential:p",
        "pkcs11:id=%00?module-path=/x.so",
    ],
)
def test_a_place_is_written_as_it_is_read(text: str) -> None:
    place = keyplace.parse_device(text)
    assert keyplace.parse_device(place.text) == place


def test_devices_without_their_packages_are_named(tmp_path: Path) -> None:
    """In a process of its own, where the optional packages cannot be imported."""
    program = """
import sys
import threading
sys.modules["tpm2_pytss"] = sys.modules["pkcs11"] = None
from agent.batch import keyplace
for text in ("tpm:0x81000001", "pkcs11:object=a?module-path=/x.so"):
    try:
        keyplace.open_signer(keyplace.parse_device(text)).sign(b"")
    except keyplace.IdentityError as error:
        print(error.code, error.hint)
"""
    program = program.replace("keyplace.IdentityError", "IdentityError").replace(
        "from agent.batch import keyplace", "from agent.batch import keyplace\nfrom agent.errors import IdentityError"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said == "CG-IDN-020 pip install 'civigate[tpm]'\nCG-IDN-020 pip install 'civigate[pkcs11]'\n"


def test_a_file_is_a_place_like_any_other(tmp_path: Path) -> None:
    place = keyplace.FilePlace(tmp_path / "key")
    made = keyplace.create(place)
    assert keyplace.open_signer(place).public == made.public
    assert isinstance(made, Ed25519Signer)
    assert str(place) == str(tmp_path / "key")
