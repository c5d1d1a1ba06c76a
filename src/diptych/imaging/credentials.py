"""Content credentials (C2PA 2): a signed statement inside a picture that a machine painted it.

Needs the extra `provenance`. A signature is never the same twice, so this makes a second file of a
picture and never changes the first. The manifest holds what made the picture and with which
version: no prompt, no name of a machine, no thumbnail (32 kB against 3).
"""

from __future__ import annotations

import datetime
import json
import os
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from diptych.foundation.errors import InvalidValue, NotFound, NotWritten, Unreadable
from diptych.foundation.extras import need
from diptych.foundation.files import write_whole
from diptych.foundation.version import __version__

EXTRA = "provenance"
MEDIA = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}
_SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
_SETTINGS: dict[str, Any] = {
    "builder": {"thumbnail": {"enabled": False}},
    # A stranger's picture makes no connections from here.
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
}
_YEARS = 10
_ABSENT = "ManifestNotFound"


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """PEM: a chain, its own first, and the private key of the first."""

    chain: bytes
    key: bytes


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What a manifest says. `state`: valid (signed by somebody on a list), local (intact, and the
    signer is on no list), altered (the picture or the statement was changed since)."""

    state: str
    signer: str
    generator: str
    machine: bool


def available() -> bool:
    """Whether the libraries of the extra are installed."""
    return find_spec("c2pa") is not None and find_spec("cryptography") is not None


def certificate_of(
    folder: Path, chain: str | os.PathLike[str] | None, key: str | os.PathLike[str] | None
) -> Certificate:
    """The owner's own, or the local one in `folder`, made there when there is none. Raises
    NotFound, InvalidValue for one without the other or not fit to sign, MissingExtra."""
    need("c2pa", EXTRA)
    if (chain is None) != (key is None):
        raise InvalidValue(
            "A certificate and its key belong together.",
            do="Give both --certificate and --certificate-key.",
        )
    if chain is not None and key is not None:
        for path in (chain, key):
            if not Path(path).is_file():
                raise NotFound(f"There is no file {str(path)!r}.")
        own = Certificate(chain=Path(chain).read_bytes(), key=Path(key).read_bytes())
    else:
        if not (folder / "key.pem").exists():
            _keep(folder, _local())
        own = Certificate(
            chain=(folder / "certificate.pem").read_bytes(), key=(folder / "key.pem").read_bytes()
        )
    _try(own)
    return own


def signed(png: bytes, certificate: Certificate) -> bytes:
    """A PNG with the manifest in it: other bytes each time. Raises MissingExtra, Unreadable."""
    c2pa = need("c2pa", EXTRA)
    manifest = {
        "claim_generator_info": [{"name": "Diptych", "version": __version__}],
        "assertions": [
            {
                "label": "c2pa.actions.v2",
                "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": _SOURCE}]},
            }
        ],
    }
    made = BytesIO()
    try:
        with (
            _signer(certificate) as signer,
            c2pa.Context.from_dict(_SETTINGS) as context,
            c2pa.Builder(manifest, context=context) as builder,
        ):
            builder.sign(signer, "image/png", BytesIO(png), made)
    except c2pa.C2paError as error:
        raise Unreadable(f"The picture cannot be signed: {error}.") from error
    return made.getvalue()


def credentials_of(content: bytes, media: str) -> Credentials | None:
    """What the manifest inside a file says; None without one. Raises MissingExtra, and Unreadable
    for a manifest that is broken."""
    c2pa = need("c2pa", EXTRA)
    try:
        with (
            c2pa.Context.from_dict(_SETTINGS) as context,
            c2pa.Reader(media, BytesIO(content), context=context) as reader,
        ):
            manifest: dict[str, Any] = reader.get_active_manifest() or {}
            state = str(reader.get_validation_state())
    except c2pa.C2paError as error:
        if _ABSENT in type(error).__name__ or _ABSENT in str(error):
            return None
        raise Unreadable("Its content credentials cannot be read.") from error
    made: list[dict[str, Any]] = manifest.get("claim_generator_info") or []
    about = made[0] if made else {}
    signature: dict[str, Any] = manifest.get("signature_info") or {}
    return Credentials(
        state={"Trusted": "valid", "Valid": "local"}.get(state, "altered"),
        signer=str(signature.get("issuer") or ""),
        generator=f"{about.get('name', '')} {about.get('version', '')}".strip(),
        machine=_SOURCE in json.dumps(manifest.get("assertions", [])),
    )


def _try(certificate: Certificate) -> None:
    """Sign a picture of one pixel: the library only then looks at a certificate."""
    c2pa = need("c2pa", EXTRA)
    dot = BytesIO()
    Image.new("RGB", (1, 1)).save(dot, format="png")
    try:
        found = credentials_of(signed(dot.getvalue(), certificate), "image/png")
    except (c2pa.C2paError, Unreadable) as error:
        raise _unfit() from error
    if found is None or found.state == "altered":
        raise _unfit()


def _unfit() -> InvalidValue:
    return InvalidValue(
        "This certificate and key cannot sign pictures.",
        do="C2PA asks for a chain in PEM and its ES256 key in PKCS 8.",
    )


def _signer(certificate: Certificate) -> Any:
    c2pa = need("c2pa", EXTRA)
    return c2pa.Signer.from_info(
        c2pa.C2paSignerInfo(b"es256", certificate.chain, certificate.key, None)
    )


def _keep(folder: Path, made: Certificate) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise NotWritten(
            f"Cannot make the folder {str(folder)!r}: {error.strerror or error}.",
            do="Choose another place for the data.",
        ) from error
    # The key comes last: without it, both are made anew.
    for name, content in (("certificate.pem", made.chain), ("key.pem", made.key)):
        path = write_whole(folder / name, content)
        path.chmod(0o600)


def _local() -> Certificate:
    """A certificate of nobody: an authority that signs one key and is forgotten. The names in it
    say no more than that it is local."""
    need("cryptography", EXTRA)
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    top, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = _name("Diptych local authority")
    authority = _begun(issuer, issuer, top.public_key())
    authority = authority.add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
    authority = authority.add_extension(_usage(authority=True), True)
    leaf = _begun(_name("Diptych local signer"), issuer, own.public_key())
    leaf = leaf.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
    leaf = leaf.add_extension(_usage(authority=False), True)
    leaf = leaf.add_extension(
        x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.EMAIL_PROTECTION]), False
    )
    leaf = leaf.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(top.public_key()), False
    )
    pem = serialization.Encoding.PEM
    chain = [one.sign(top, hashes.SHA256()).public_bytes(pem) for one in (leaf, authority)]
    plain = serialization.NoEncryption()
    key = own.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    return Certificate(chain=b"".join(chain), key=key)


def _name(common: str) -> Any:
    from cryptography import x509

    return x509.Name([
        x509.NameAttribute(x509.oid.NameOID.ORGANIZATION_NAME, "Diptych (local)"),
        x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, common),
    ])  # fmt: skip


def _begun(subject: Any, issuer: Any, key: Any) -> Any:
    from cryptography import x509

    # Whole days from a while ago: the clock of a picture's reader may be behind.
    today = datetime.datetime.now(datetime.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    begin = today - datetime.timedelta(days=1)
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    made = made.serial_number(x509.random_serial_number()).not_valid_before(begin)
    made = made.not_valid_after(begin + datetime.timedelta(days=365 * _YEARS))
    return made.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)


def _usage(*, authority: bool) -> Any:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not authority, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=authority,
        crl_sign=authority, encipher_only=False, decipher_only=False,
    )  # fmt: skip
