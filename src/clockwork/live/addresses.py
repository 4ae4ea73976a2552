"""Addresses of processes as users write them: ``host:port``, or a host alone."""

from msgspec import Struct

from clockwork.errors import ConfigurationError

_PORT_MAX = 65_535


class Address(Struct, frozen=True):
    """Where a process listens."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return it as it would be written."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, *, default_port: int) -> Address:
    """Return the address that `text` names: ``gpu7:12345``, ``gpu7``, ``[::1]:12345``.

    Raises:
        ConfigurationError: there is no host, or the port is not a number from 1 to 65535.
    """
    host, colon, port = text.strip().rpartition(":")
    if not colon or port.endswith("]"):
        host, port = text.strip(), str(default_port)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 < int(port) <= _PORT_MAX:
        raise ConfigurationError(
            f"cannot read the address {text!r}: write HOST:PORT with a port from 1 to {_PORT_MAX}, "
            f"such as localhost:{default_port}"
        )
    return Address(host=host, port=int(port))


def parse_addresses(text: str, *, default_port: int) -> tuple[Address, ...]:
    """Return the addresses in a list separated by commas.

    Raises:
        ConfigurationError: an address cannot be read, is empty, or is there twice.
    """
    addresses = tuple(parse_address(each, default_port=default_port) for each in text.split(","))
    for index, address in enumerate(addresses):
        if address in addresses[:index]:
            raise ConfigurationError(f"{address} is listed twice: name each worker once")
    return addresses
