"""The section `page:` of cams.yaml: where the operator's page is served, and to whom (docs/page.md)."""

from __future__ import annotations

from pydantic import Field, model_validator

from personsearch.core.config import Settings

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


class PageSettings(Settings):
    """The operator's page; see docs/page.md."""

    enabled: bool = False
    address: str = "127.0.0.1"
    port: int = Field(8480, ge=0, le=65535)
    users: str = "page.users"
    hosts: tuple[str, ...] = ()
    certificate: str = ""
    key: str = ""
    self_signed: bool = False
    insecure: bool = False
    pictures_per_s: float = Field(5.0, gt=0, le=30)
    picture_width: int = Field(640, ge=160, le=3840)
    keep_pictures_min: float = Field(60.0, ge=0, le=1440)

    @property
    def loopback(self) -> bool:
        return self.address in LOOPBACK_NAMES or self.address.startswith("127.")

    @property
    def encrypted(self) -> bool:
        return bool(self.certificate)

    @model_validator(mode="after")
    def _safe(self) -> PageSettings:
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key are two files that belong together; give both or none")
        if self.self_signed and not self.certificate:
            raise ValueError("self_signed makes the files that certificate and key name; name them")
        if not self.loopback and not self.encrypted and not self.insecure:
            raise ValueError(
                "this address can be reached from other machines, and passwords would travel unencrypted; give "
                "certificate and key (self_signed: true makes them), or accept the risk with insecure: true"
            )
        if self.address in ("0.0.0.0", "::", "*", "") and not self.hosts:
            raise ValueError("this address stands for all; name under hosts how browsers will call the box")
        return self
