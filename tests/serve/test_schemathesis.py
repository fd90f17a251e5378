"""Requests made from the service's own documentation: no 500, and nothing that it does not document."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.serving import Service

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.mark.slow
def test_no_request_breaks_the_service_or_its_documentation(service: Service, tmp_path: Path) -> None:
    pytest.importorskip("schemathesis", reason="pip install -e '.[schemathesis]'")
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{service.port}/openapi.json",
            "--checks", CHECKS, "--header", "Authorization: Bearer alice", "--max-examples", "100", "--seed", "0",
            "--no-color",
        ],
        cwd=tmp_path, text=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
