"""A real gRPC server with TLS in this process, which answers as Clarifai does and keeps accounts.

It answers with a real small model. Its certificate is made anew for each run.
"""

from __future__ import annotations

import datetime
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from clarifai_grpc.grpc.api import resources_pb2, service_pb2, service_pb2_grpc
from clarifai_grpc.grpc.api.status import status_code_pb2, status_pb2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.api_server import digest, open_image

Model = Callable[[np.ndarray], np.ndarray]
MODEL = ("clarifai", "main", "general-image-embedding", "bb186755eda04f9cbb6fe32e816be104")
DAY = datetime.timedelta(days=1)


def status(code: int, details: str = "") -> status_pb2.Status:
    """A status as Clarifai gives one."""
    name = status_code_pb2.StatusCode.Name(code)
    return status_pb2.Status(code=code, description=name.replace("_", " ").title(), details=details)


def refuse(code: int, details: str = "") -> service_pb2.MultiOutputResponse:
    """An error inside a successful call."""
    return service_pb2.MultiOutputResponse(status=status(code, details))


@dataclass
class Clarifai(service_pb2_grpc.V2Servicer):
    """The service and its books.

    Attributes:
        model: uint8 images ``(n, 3, h, w)`` to embeddings ``(n, width)``.
        key: the personal access token that it wants; None for anybody.
        paid: how often each image was charged.
        sizes: the number of images in each call, in the order of their arrival.
        before: called with each call's number and its images' digests before it is answered; what it returns is the
            answer; for a list of codes, those of the images, of which only the successful are charged.
        after: called with the gRPC context once the answer was made and charged.
    """

    model: Model
    key: str | None = None
    paid: Counter[str] = field(default_factory=Counter)
    sizes: list[int] = field(default_factory=list)
    before: Callable[[int, list[str]], Any] = lambda number, images: None
    after: Callable[[grpc.ServicerContext, service_pb2.MultiOutputResponse], None] = lambda context, reply: None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def PostModelOutputs(
        self, request: service_pb2.PostModelOutputsRequest, context: grpc.ServicerContext
    ) -> service_pb2.MultiOutputResponse:
        """Answer one call, or fail at it."""
        sent = dict(context.invocation_metadata())
        images = [open_image(each.data.image.base64) for each in request.inputs]
        names = [digest(image) for image in images]
        with self.lock:
            self.sizes.append(len(images))
            number = len(self.sizes)
        if self.key is not None and sent.get("authorization") != f"Key {self.key}":
            return refuse(11008, f"the key {sent.get('authorization')} is unknown")
        asked = (request.user_app_id.user_id, request.user_app_id.app_id, request.model_id, request.version_id)
        if asked != MODEL or len(images) > 128:
            return refuse(11102, f"{len(images)} inputs for {asked}")
        codes = self.before(number, names)
        if isinstance(codes, service_pb2.MultiOutputResponse):
            return codes
        reply = self._answer(images, names, codes or [10000] * len(images))
        self.after(context, reply)
        return reply

    def _answer(self, images: list[np.ndarray], names: list[str], codes: list[int]) -> service_pb2.MultiOutputResponse:
        rows = self.model(np.stack(images))
        with self.lock:
            self.paid.update(name for name, code in zip(names, codes, strict=True) if code == 10000)
        outputs = []
        for row, code in zip(rows, codes, strict=True):
            output = resources_pb2.Output(status=status(code))
            if code == 10000:
                output.data.embeddings.add(vector=row.tolist(), num_dimensions=len(row))
            outputs.append(output)
        whole = 10000 if set(codes) == {10000} else 10020 if 10000 not in codes else 10010
        return service_pb2.MultiOutputResponse(status=status(whole), outputs=outputs)


def make_certificate(host: str) -> tuple[bytes, bytes]:
    """A key and a certificate for a host that signs itself, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)]), datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - DAY).not_valid_after(now + DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*form), certificate.public_bytes(serialization.Encoding.PEM)


@dataclass
class Running:
    """A server that is up.

    Attributes:
        api: its service.
        base: its address.
        certificates: the file with its certificate.
    """

    api: Clarifai
    base: str
    certificates: Path


@contextmanager
def run(api: Clarifai, folder: Path) -> Iterator[Running]:
    """The service with TLS, for the length of a block."""
    key, certificate = make_certificate("localhost")
    (file := folder / "certificate.pem").write_bytes(certificate)
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", 2**28)])
    service_pb2_grpc.add_V2Servicer_to_server(api, server)
    port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([(key, certificate)]))
    server.start()
    try:
        yield Running(api, f"localhost:{port}", file)
    finally:
        server.stop(0).wait()
