"""The sub-command ``fmsteal serve``. FastAPI and torch are imported only after the arguments are checked."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from fmsteal.base import stopping
from fmsteal.base.errors import ConfigError, FmstealError
from fmsteal.base.store import explain_errors, require_writable
from fmsteal.records.folders import ServiceFolder
from fmsteal.report.commands.arguments import end_if_refused, make_parser
from fmsteal.serve.clients import LOCAL, ServiceClient, digest_key, make_key, read_clients

if TYPE_CHECKING:
    from fmsteal.serve.served import ServedModel

KEY = "FMSTEAL_KEY"  # environment variable with the key of the only client
NEEDED = ("fastapi", "uvicorn", "httptools", "orjson")
TEXT = """\
Serve a victim behind its defense over HTTP: POST an image to /v1/classify or /v1/embed.

  fmsteal serve                              the default job's victim on 127.0.0.1; prints a key
  fmsteal serve outputs/runs/<key>           the victim and the defense of a finished job
  fmsteal serve victim=resnet18_scratch data=cifar10 defense=prada     those of a job composed here
  fmsteal serve --clients clients.yaml       several clients: keys, budgets, rate limits, prices
  fmsteal serve --new-key alice              print a new key, and its line for that file

What a service keeps, its errors and its limits: fmsteal/serve/README.md. Needs 'fmsteal[serve]'."""


@end_if_refused()
def main(words: Sequence[str]) -> None:
    """Run the sub-command; its name is the first word."""
    parser = _make_parser()
    args = parser.parse_intermixed_args(words[1:])
    if args.new_key is not None:
        return _print_key(args.new_key)
    jobs = [word for word in args.what if "=" not in word and not word.startswith("~")]
    overrides = [word for word in args.what if word not in jobs]
    if len(jobs) > 1:
        raise ConfigError(f"One job is served at a time, not {len(jobs)}: {', '.join(jobs)}.")
    if jobs and overrides:
        raise ConfigError(f"A finished job is served as it is: leave out {overrides[0]}, or leave out {jobs[0]}.")
    _require_extra()
    clients, key = _choose_clients(args)
    with stopping.run_command(words):
        from fmsteal.serve.served import open_served

        served = open_served(jobs[0] if jobs else None, overrides)
    _serve(args, jobs[0] if jobs else None, overrides, clients, key, served)


def _serve(
    args: argparse.Namespace,
    job: str | None,
    overrides: Sequence[str],
    clients: Sequence[ServiceClient],
    key: str | None,
    served: ServedModel,
) -> None:
    from fmsteal.serve import running
    from fmsteal.serve.pictures import Limits

    running.require_spreadable(served, args.workers)
    if key is not None and args.price is None:  # the only client's price is the config's
        clients = [replace(clients[0], price_per_1000=served.price)]
    folder = ServiceFolder(args.state.absolute()) if args.state is not None else served.folder
    require_writable(folder.path)
    limits = Limits(args.max_images, args.max_body, args.max_pixels)
    with explain_errors(folder.path):
        folder.path.mkdir(parents=True, exist_ok=True)
    settings = running.Settings(job, overrides, clients, str(folder.path.absolute()), limits)
    with running.hold(folder), running.bind(args.host, args.port) as sock:
        _announce(args, key, served, folder, sock.getsockname()[1])
        code = 0
        if args.workers > 1:
            code = running.run_workers(settings, sock, args.workers)
        else:
            running.run_here(served, settings, sock)
    print("fmsteal: the service has stopped", flush=True)
    running.leave(code)


def _make_parser() -> argparse.ArgumentParser:
    parser = make_parser("serve", TEXT)
    parser.add_argument("what", nargs="*", metavar="JOB|KEY=VALUE", help="a finished job's folder, or a job's choices")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="port (default: 8000; 0: any that is free)")
    parser.add_argument("--clients", type=Path, metavar="FILE", help="YAML or JSON with the clients")
    parser.add_argument(
        "--budget", type=int, metavar="N", help="answers that the only client may have; without --clients"
    )
    parser.add_argument("--per-second", type=float, metavar="N", help="images a second that it may ask about")
    parser.add_argument("--price", type=float, metavar="USD", help="its price per 1,000 (default: the job's budget's)")
    parser.add_argument(
        "--state", type=Path, metavar="FOLDER", help="where the records are kept (default: below output)"
    )
    parser.add_argument(
        "--workers", type=_at_least_one, default=1, metavar="N", help="processes; defenses of rows alone"
    )
    parser.add_argument("--max-images", type=_at_least_one, default=256, metavar="N", help="images in a request (256)")
    parser.add_argument("--max-body", type=_at_least_one, default=16 * 2**20, metavar="BYTES", help="(16 MiB)")
    parser.add_argument(
        "--max-pixels", type=_at_least_one, default=2**24, metavar="N", help="in a request (16.8 million)"
    )
    parser.add_argument("--new-key", metavar="NAME", help="print a new key for a client, and end")
    return parser


def _choose_clients(args: argparse.Namespace) -> tuple[Sequence[ServiceClient], str | None]:
    """The clients, and the key of the only one if there is no file."""
    own = {"--budget": args.budget, "--per-second": args.per_second, "--price": args.price}
    if args.clients is not None:
        if given := [name for name, value in own.items() if value is not None]:
            raise ConfigError(
                f"{given[0]} is for a service without --clients: write it beside a client in {args.clients}."
            )
        return read_clients(args.clients), None
    key = os.environ.get(KEY) or make_key()
    client = ServiceClient(LOCAL, digest_key(key), args.budget, args.per_second, args.price or 0.0)
    return [client], key


def _require_extra() -> None:
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise FmstealError(f"fmsteal serve needs {missing[0]}, which is not installed: pip install 'fmsteal[serve]'.")


def _print_key(name: str) -> None:
    key = make_key()
    print(f"The key of {name}, which is shown this once: {key}\nIn the clients' file:\nclients:")
    print(f"  {name}: {{key_sha256: {digest_key(key)}, budget: 1000, per_second: null, price_per_1000: 0}}")


def _announce(args: argparse.Namespace, key: str | None, served: ServedModel, folder: ServiceFolder, port: int) -> None:
    logging.basicConfig(format="[%(asctime)s][%(levelname)s] %(message)s", datefmt="%H:%M:%S")
    host = f"[{args.host}]" if ":" in args.host else args.host
    url = f"http://{host}:{port}"
    print(f"fmsteal: serving victim {served.identity['victim']} behind {served.counsel.name} at {url}", flush=True)
    if key is not None:
        own = "from FMSTEAL_KEY" if os.environ.get(KEY) else f"a new one each time; {KEY}=... sets it"
        print(f"key: {'(FMSTEAL_KEY)' if os.environ.get(KEY) else key} ({own})")
        print(
            f"try: curl -H 'Authorization: Bearer KEY' -H 'Content-Type: image/png' --data-binary @image.png "
            f"{url}/v1/{served.task}"
        )
    print(f"records: {folder.path}", flush=True)
    if not _is_loopback(args.host):
        print("Keys and images are not encrypted on their way: put a proxy with TLS in front.", flush=True)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _at_least_one(word: str) -> int:
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number
