#!/usr/bin/env python3
"""Whether the server in this container can take work: exit status 0 or 1, why on standard error.

Asks `/v2/health/ready`, which wants no token and says no while the ledger cannot be written or
another server leads. EDGEPACT_HEALTH_URL names another address, EDGEPACT_HEALTH_CA the certificate
of the authority to trust, for a server with TLS.
"""

import os
import ssl
import sys
import urllib.request

URL = "http://127.0.0.1:8080/v2/health/ready"
TIMEOUT_S = 4.0


def main() -> int:
    """Asks once."""
    url = os.environ.get("EDGEPACT_HEALTH_URL", URL)
    authority = os.environ.get("EDGEPACT_HEALTH_CA")
    try:
        context = ssl.create_default_context(cafile=authority) if authority else None
        with urllib.request.urlopen(url, timeout=TIMEOUT_S, context=context):
            return 0
    except (OSError, ValueError) as error:  # also an answer of 503, which is an OSError too
        print(f"{url}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
