"""Asks Clarifai: several calls at once, each noted before it is made, and made again only where that costs nothing.

The SDK sleeps and retries paid calls by itself, and so does the channel of the published stubs: this one is ours, and
never sends a call twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fmsteal.base.errors import ConfigError, VictimError
from fmsteal.victims.answer_log import AnswerLog, Answers, Call
from fmsteal.victims.clarifai.codes import explain_error
from fmsteal.victims.clarifai.reading import Outcome, UnreadableReply, keep_vectors, read
from fmsteal.victims.encoding import ImageFormat, Pixels
from fmsteal.victims.failure import GOES_ON, Failure
from fmsteal.victims.loop_thread import LoopThread
from fmsteal.victims.patience import Patience
from fmsteal.victims.purse import Purse
from fmsteal.victims.secrets import Headers
from fmsteal.victims.workers import make_all

if TYPE_CHECKING:
    import grpc

logger = logging.getLogger(__name__)
LARGEST = 256 * 2**20  # bytes of a message; grpc's own limit is 4 MB
METHOD = "/clarifai.api.V2/PostModelOutputs"
NEEDS = "victim=clarifai needs {}: pip install 'fmsteal[clarifai]'."


@dataclass(frozen=True)
class Model:
    """Which model is asked.

    Attributes:
        user_id: whose it is.
        app_id: the application that it belongs to.
        model_id: the model.
        version_id: its version.
    """

    user_id: str
    app_id: str
    model_id: str
    version_id: str


@dataclass(frozen=True)
class Channel:
    """How Clarifai is reached.

    Attributes:
        base: ``host`` or ``host:port``; always with TLS.
        root_certificates: a file of certificates to trust; None: grpc's own.
        timeout: seconds for a call.
    """

    base: str
    root_certificates: str | None
    timeout: float

    def open(self) -> grpc.Channel:
        """A channel that never sends a call twice.

        Raises:
            ConfigError: there is no such file of certificates.
        """
        import grpc

        credentials = grpc.ssl_channel_credentials(self.read_certificates())
        options = [
            ("grpc.enable_retries", 0),
            ("grpc.max_receive_message_length", LARGEST),
            ("grpc.max_send_message_length", LARGEST),
        ]
        return grpc.secure_channel(self.base, credentials, options)

    def read_certificates(self) -> bytes | None:
        """What is trusted; None: grpc's own certificates.

        Raises:
            ConfigError: there is no such file.
        """
        if self.root_certificates is None:
            return None
        file = Path(self.root_certificates).expanduser()
        if not file.is_file():
            raise ConfigError(f"victim.root_certificates={self.root_certificates}: there is no such file.")
        return file.read_bytes()


class ClarifaiService:
    """A `Service` of Clarifai. Its calls run in a thread of their own, so that it also works in a notebook."""

    charged_once = False

    def __init__(
        self,
        model: Model,
        channel: Channel,
        headers: Headers,
        patience: Patience,
        form: ImageFormat,
        purse: Purse,
        *,
        per_call: int,
        concurrency: int,
    ) -> None:
        """Prepare; nothing is sent.

        Raises:
            ConfigError: a package that it needs is not installed.
        """
        require_packages()
        self.per_call, self._concurrency = per_call, concurrency
        self._model, self._channel, self._headers, self._patience = model, channel, headers, patience
        self._form, self._purse = form, purse
        self._thread: LoopThread | None = None
        self._method: Any = None

    def fit(self, images: Tensor) -> Pixels:
        """The pixels that are sent."""
        return self._form.fit(images)

    def ask(self, calls: Sequence[tuple[Call, Pixels]], log: AnswerLog, width: int | None) -> None:
        """Make the calls; every answer is in the log when this returns. Without a ``width`` the first goes alone.

        Raises:
            VictimError: Clarifai refuses, cannot be reached, or answers what cannot be understood; or the cap would be
                passed. Calls that were under way are finished, and their answers kept.
        """

        async def settle(asking: tuple[Call, Pixels]) -> None:
            await self._settle(*asking, log, width)

        self._thread = self._thread or LoopThread()
        unknown = width is None and log.width is None
        try:
            self._thread.run(make_all(calls, settle, self._concurrency, first_alone=unknown))
        except Failure as failure:
            raise VictimError(self._headers.hide(f"{failure} {GOES_ON}")) from None

    def read(self, body: bytes, images: int, width: int | None) -> Answers | None:
        """The answers in a reply that was kept; None if it holds none, whatever the config."""
        from clarifai_grpc.grpc.api import service_pb2

        try:
            found = read(service_pb2.MultiOutputResponse.FromString(body), images, width, self._headers.hide)
        except (UnreadableReply, Failure) as error:
            logger.warning("The answer to %d images is of no use: they are asked again. %s", images, error)
            return None
        return None if found.failures else found.rows

    async def _settle(self, call: Call, pixels: Pixels, log: AnswerLog, width: int | None) -> None:
        """Ask until all images of a call are answered; each time only about those that are left."""
        left = list(range(len(pixels)))

        async def once() -> None:
            part = replace(call, questions=tuple(call.questions[place] for place in left))
            found = await self._make(part, pixels[left], log, width)
            left[:] = [left[place] for place in found.failures]
            if found.failures:
                raise max(found.failures.values(), key=lambda failure: (not failure.again, not failure.unpaid))

        await self._patience.keep_trying(once)

    async def _make(self, call: Call, pixels: Pixels, log: AnswerLog, width: int | None) -> Outcome:
        """Make one call. Before it, its price is reserved and it is noted; what it left is on the disk on return."""
        await self._patience.wait_turn()
        request = self._spell(pixels)
        self._purse.reserve(len(pixels))
        number = log.note(call)
        try:
            reply = await self._send(request)
            found = self._read(reply, len(pixels), width or log.width, number, log)
        except Failure as failure:
            if failure.unpaid:
                log.void(number)
                self._purse.give_back(len(pixels))
            raise
        free = sum(failure.unpaid for failure in found.failures.values())
        if not found.failures:
            log.answer(number, found.rows)
        elif len(found.at):
            log.answer(number, found.rows, found.at, paid_rest=free < len(found.failures))
        elif free == len(found.failures):
            log.void(number)
        self._purse.give_back(free)
        return found

    def _read(self, reply: Any, images: int, width: int | None, number: int, log: AnswerLog) -> Outcome:
        try:
            return read(reply, images, width, self._headers.hide)
        except UnreadableReply as error:
            log.keep(number, keep_vectors(reply))
            raise Failure(str(error), unpaid=False, again=False) from None

    def _spell(self, pixels: Pixels) -> Any:
        """The request for images, uint8 ``(n, 3, h, w)``."""
        from clarifai_grpc.grpc.api import resources_pb2, service_pb2

        return service_pb2.PostModelOutputsRequest(
            user_app_id=resources_pb2.UserAppIDSet(user_id=self._model.user_id, app_id=self._model.app_id),
            model_id=self._model.model_id,
            version_id=self._model.version_id,
            inputs=[
                resources_pb2.Input(data=resources_pb2.Data(image=resources_pb2.Image(base64=self._form.encode(image))))
                for image in pixels
            ],
        )

    async def _send(self, request: Any) -> Any:
        """The reply to a request.

        Raises:
            Failure: there is none.
        """
        import grpc

        loop, arrived = asyncio.get_running_loop(), asyncio.Event()
        metadata = spell_metadata(await asyncio.to_thread(self._headers.spell_out))
        call = self._open().future(request, metadata=metadata, timeout=self._channel.timeout)
        call.add_done_callback(lambda _: _tell(loop, arrived))
        try:
            await arrived.wait()
        except asyncio.CancelledError:
            call.cancel()
            raise
        if (error := call.exception()) is not None:
            assert isinstance(error, grpc.RpcError)
            failure = explain_error(error, self._channel.base, self._headers.hide)
            self._patience.reached |= failure.reached
            raise failure from None
        self._patience.reached = True
        return call.result()

    def _open(self) -> Any:
        """The method that is called. The published stub takes its channel's settings from a global of its module."""
        if self._method is None:
            from clarifai_grpc.grpc.api import service_pb2

            channel = self._channel.open()
            self._method = channel.unary_unary(
                METHOD,
                request_serializer=service_pb2.PostModelOutputsRequest.SerializeToString,
                response_deserializer=service_pb2.MultiOutputResponse.FromString,
            )

            async def close() -> None:
                channel.close()

            assert self._thread is not None
            self._thread.close_with(self, close)
        return self._method


def _tell(loop: asyncio.AbstractEventLoop, arrived: asyncio.Event) -> None:
    with suppress(RuntimeError):  # nobody waits any more: the loop is closed
        loop.call_soon_threadsafe(arrived.set)


def spell_metadata(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """Headers as gRPC takes them: names in lower case, values of plain characters.

    Raises:
        Failure: a value has others; the message does not hold it.
    """
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):
            raise Failure(f"victim.headers.{name} has a value that gRPC does not allow.", unpaid=True, again=False)
    return [(name.lower(), value) for name, value in headers.items()]


def require_packages() -> None:
    """Check that the packages that are needed are installed.

    Raises:
        ConfigError: one is not.
    """
    try:
        import clarifai_grpc  # noqa: F401
        import grpc  # noqa: F401
        import tenacity  # noqa: F401
    except ImportError as error:
        raise ConfigError(NEEDS.format(error.name)) from None
