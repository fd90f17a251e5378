"""The file of clients: what it holds, and what is wrong with it, in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmsteal.base.errors import ConfigError
from fmsteal.serve.clients import ServiceClient, digest_key, make_key, read_clients
from fmsteal.serve.command import main

D = "d" * 64


def test_clients_are_read_with_their_options(tmp_path: Path) -> None:
    file = tmp_path / "clients.yaml"
    first = f"a: {{key_sha256: {D}, budget: 3, per_second: .5, price_per_1000: 1}}"
    file.write_text(f"clients:\n  {first}\n  b:\n    key_sha256: {'e' * 64}\n")
    a, b = read_clients(file)
    assert a == ServiceClient("a", D, 3, 0.5, 1) and b == ServiceClient("b", "e" * 64, None, None, 0.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["lists no clients", "--new-key"]),
        ("clients: []", ["lists no clients"]),
        ("clients: {a: }", ["client a has no options", "key_sha256"]),
        ("clients: {a: {key: secret}}", ["its key in the file", "key_sha256"]),
        ("clients: {a: {budget: 3}}", ["no key_sha256", "--new-key a"]),
        ("clients: {a: {key_sha256: abc}}", ["64 hex digits"]),
        (f"clients: {{a: {{key_sha256: {D}, budgets: 3}}}}", ["no option budgets", "budget, per_second"]),
        (f"clients: {{a: {{key_sha256: {D}, budget: -1}}}}", ["budget", "-1"]),
        (f"clients: {{a: {{key_sha256: {D}, budget: 1.5}}}}", ["budget", "1.5"]),
        (f"clients: {{a: {{key_sha256: {D}, budget: true}}}}", ["budget", "True"]),
        (f"clients: {{a: {{key_sha256: {D}, per_second: 0}}}}", ["per_second", "0"]),
        (f"clients: {{a: {{key_sha256: {D}, price_per_1000: .nan}}}}", ["price_per_1000", "nan"]),
        (f"clients: {{a: {{key_sha256: {D}}}, b: {{key_sha256: {D}}}}}", ["a and b have the same key"]),
        ("clients: {a: [", ["no YAML"]),
    ],
)
def test_what_is_wrong_with_a_file_is_named(text: str, words: list[str], tmp_path: Path) -> None:
    file = tmp_path / "clients.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        read_clients(file)
    assert all(word in str(refused.value) for word in words), refused.value
    assert "secret" not in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there\.yaml cannot be read"):
        read_clients(tmp_path / "there.yaml")


def test_a_new_key_is_printed_with_the_line_that_lists_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["serve", "--new-key", "alice"])
    first, *lines = capsys.readouterr().out.splitlines()
    file = tmp_path / "clients.yaml"
    file.write_text("\n".join(lines[1:]))
    (client,) = read_clients(file)
    key = first.split()[-1]
    assert client.name == "alice" and client.key_sha256 == digest_key(key) and key not in file.read_text()
    assert make_key() != make_key() and len(make_key()) > 40
