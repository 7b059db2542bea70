"""Values of fields as the kernel writes them."""


def untrusted(raw: bytes) -> bytes | None:
    """The bytes behind a value that audit_log_untrustedstring() wrote; ``None`` where there is none."""
    if raw[:1] == b'"':
        return raw.strip(b'"')
    if not raw or raw == b"(null)":
        return None
    try:
        return bytes.fromhex(raw.decode("ascii"))
    except ValueError:
        return None
