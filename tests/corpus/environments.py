"""Variables that an image's build left behind."""

from __future__ import annotations

from tests.corpus.case import Case

CASES = [
    *(
        Case(name, lines=f"ENV {line}", warns="environment", task={"agent": None, "python": None})
        for name, line in {
            "certificate-gone": "SSL_CERT_FILE=/opt/corp/ca.pem",
            "certificate-empty": "REQUESTS_CA_BUNDLE=/dev/shm/none",
            "certificates-gone": "SSL_CERT_DIR=/opt/corp/certs",
            "proxy-left": "http_proxy=http://user:secret@proxy.corp.invalid:3128",
            "proxy-left-upper": "HTTPS_PROXY=http://proxy.corp.invalid:3128 NO_PROXY=localhost",
            "proxy-of-loopback": "ALL_PROXY=socks5://127.0.0.1:1080",
            "preload-gone": "LD_PRELOAD=/usr/lib/libgone.so",
            "python-home-gone": "PYTHONHOME=/opt/python",
            "git-template-gone": "GIT_TEMPLATE_DIR=/opt/templates",
            "virtual-environment-gone": "VIRTUAL_ENV=/opt/venv",
            "index-of-loopback": "PIP_INDEX_URL=http://localhost:3141/root/pypi",
            "locale-gone": "LC_ALL=xx_XX.UTF-8",
        }.items()
    ),
    Case("variables-that-lead-somewhere", lines="RUN mkdir /opt/lib /opt/certs && touch /opt/certs/a && echo x >/opt/ca.pem\n"
         "ENV SSL_CERT_FILE=/opt/ca.pem SSL_CERT_DIR=/opt/certs LD_LIBRARY_PATH=/usr/local/nvidia/lib64:/opt/lib PYTHONPATH=/opt/lib"
         " no_proxy=localhost http_proxy= LANG=C.UTF-8 GIT_AUTHOR_NAME=x SHELL=/bin/bash GIT_PAGER=cat", silent="environment"),
    Case("proxy-of-the-manifest", task={"env": {"http_proxy": "http://proxy.corp.invalid:3128"}}, silent="environment"),
    Case("environment-too-long", "broken", "container_start", f"ENV A={'x' * 50_000}\nENV LONG=$A$A$A", reason="LONG alone"),
]  # fmt: skip
