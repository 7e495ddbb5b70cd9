"""A server's side of TLS."""

import ssl


def tls_server(certificate: tuple[str, str]) -> ssl.SSLContext:
    """Return the context of a server with the files of a certificate and of its key."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    return context
