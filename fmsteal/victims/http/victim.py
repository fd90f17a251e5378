"""``victim=http``: a model behind an API, described by its config alone."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from fmsteal.base.errors import ConfigError, VictimError
from fmsteal.base.store import digest
from fmsteal.config.answers import Answers
from fmsteal.data.images import Task
from fmsteal.identity.rules import Ignores
from fmsteal.training.context import Context
from fmsteal.victims.answer_log import AnswerLog, Call
from fmsteal.victims.answer_log import Answers as Rows
from fmsteal.victims.base import Victim, VictimMaker
from fmsteal.victims.encoding import Encoding, ImageFormat, Pixels
from fmsteal.victims.http.client import Asking, HttpClient, Manners
from fmsteal.victims.http.reading import Reader, Unreadable
from fmsteal.victims.http.template import Template
from fmsteal.victims.remote import RemoteModel, RemoteVictim, asked_in_this_process, spell_key
from fmsteal.victims.secrets import Headers, check_url

logger = logging.getLogger(__name__)
KINDS = {"probabilities": "classify", "embeddings": "embed"}  # what a service of ours calls its task


@dataclass(frozen=True, kw_only=True)
class HttpVictim(VictimMaker):
    """A classifier that answers over HTTP. Its key depends on its name, the images sent, and its answers to 8 of them.

    Attributes:
        name: the model's name: it stands for the service in keys, which know no addresses.
        url: address that images are sent to, with ``route`` behind it.
        route: the last part of that address.
        about: path below ``url`` of a description (``width``, ``task``, ``price_per_1000``); None: there is none.
        headers: headers, whose values name secrets: ``env:NAME`` is an environment variable, ``{token}`` what
            ``token_command`` prints.
        token_command: program and words that print a token; fetched anew each half hour, and when it is refused.
        body: ``raw``, or a JSON template with places for images: see `Template`; None: that of ``fmsteal serve``.
        options: further fields of the JSON body that decide the answers: the model and its version.
        vectors: JMESPath expression of the vectors, one for each image.
        errors: JMESPath expression of what the service says went wrong.
        images_per_request: most images in a call.
        encoding: ``png``, which is exact, or ``jpeg``.
        quality: of a JPEG.
        size: side in pixels of the square that each image is resized to; None sends images as they are stored.
        outputs: ``probabilities`` or ``logits``.
        deterministic: whether it gives the same answer to an image each time. If so, it is asked once about an image,
            and recognised by its answers; if not, every question of a theft is asked.
        idempotency: whether it charges calls with the same ``Idempotency-Key`` once. If not, only what has certainly
            cost nothing is sent again.
        concurrency: calls under way at once.
        timeout: seconds for a call.
        retries: how often a call is made again, after waits that double up to half a minute.
        patience: longest wait, in seconds, that the service may ask for (``Retry-After``).
        retry_statuses: HTTP statuses that go away, and cost nothing.
        usd_per_1000: price of a thousand images in US dollars; None: the budget's.
        adaptation: always ``given``: it is not trained here.
    """

    answers: ClassVar[Answers] = "probabilities"
    gradients: ClassVar[bool] = False
    eight_bit: ClassVar[bool] = True
    paid: ClassVar[bool] = True
    machine: ClassVar[frozenset[str]] = frozenset(
        {
            "url",
            "route",
            "about",
            "headers",
            "token_command",
            "body",
            "vectors",
            "errors",
            "images_per_request",
            "idempotency",
            "concurrency",
            "timeout",
            "retries",
            "patience",
            "retry_statuses",
            "usd_per_1000",
        }
    )
    ignores: ClassVar[Ignores] = {"quality": {"encoding": "png"}}

    name: str
    url: str
    route: str = ""
    about: str | None = None
    headers: Mapping[str, str] | None = None
    token_command: Sequence[str] | None = None
    body: str | Mapping[str, Any] | None = None
    options: Mapping[str, Any] | None = None
    vectors: str = "outputs[].probabilities"
    errors: str | None = "error.message"
    images_per_request: int = 1
    encoding: Encoding = "png"
    quality: int = 90
    size: int | None = None
    outputs: Literal["probabilities", "logits"] = "probabilities"
    deterministic: bool = True
    idempotency: bool = True
    concurrency: int = 8
    timeout: float = 60.0
    retries: int = 8
    patience: float = 300.0
    retry_statuses: Sequence[int] = (408, 425, 429, 500, 502, 503, 504)
    usd_per_1000: float | None = None
    adaptation: Literal["given"] = "given"

    @property
    def pretrained(self) -> bool:
        """Whether it starts from a backbone's weights: never."""
        return False

    def identity(self) -> dict[str, Any]:
        """All settings that decide the answers."""
        quality = {"quality": self.quality} if self.encoding == "jpeg" else {}
        return {
            "name": self.name, "options": dict(self.options or {}), "encoding": self.encoding, **quality,
            "size": self.size, "outputs": self.outputs, "answers": self.answers,
        }  # fmt: skip

    def require_makeable(self) -> None:
        """Check all that can be checked without asking.

        Raises:
            ConfigError: a setting is wrong, a variable is not set, or a package is not installed.
        """
        if not self.name.strip():
            raise ConfigError("victim.name must be given: what you call the model, as keys know no addresses.")
        if self.images_per_request < 1:
            raise ConfigError(f"victim.images_per_request must be at least 1, not {self.images_per_request}.")
        if self.usd_per_1000 is not None and self.usd_per_1000 < 0:
            raise ConfigError(f"victim.usd_per_1000 must not be negative, but is {self.usd_per_1000}.")
        self._connect().headers.require_set()

    def prepare(self, task: Task, ctx: Context) -> Victim:
        """The victim. Its width is what the service says of itself, or found by asking about up to 8 test images.

        Raises:
            VictimError: it cannot be asked, or its answers do not fit the task.
        """
        service = self._connect()
        victim = RemoteVictim(
            spell_key(self.name, self.identity()), RemoteModel(f"victim.name={self.name}", 0), self.answers,
            paid=True, given=True, deterministic=self.deterministic, service=service, logits=self.outputs == "logits",
            asked=asked_in_this_process(self.url + self.route, digest(self.identity())),
        )  # fmt: skip
        width = self._read_about(service.client)
        if width is None:
            width = victim.find_width(task, ctx)
        victim.model.width = width  # type: ignore[assignment]
        self._require_width(width, task)
        return victim

    def _require_width(self, width: int, task: Task) -> None:
        if width != task.num_classes:
            raise VictimError(
                f"victim.name={self.name} answers with {width} numbers, and the data set has {task.num_classes} "
                "classes: choose the data set that it was trained for (data=...), with its classes in the same order."
            )

    def _connect(self) -> HttpService:
        url = f"{self.url.rstrip('/')}{self.route}" if self.route else self.url
        check_url(url)
        headers = Headers(self.headers or {}, self.token_command)
        reader = Reader(self.vectors, self.errors, headers.hide)
        manners = Manners(
            self.concurrency, self.timeout, self.retries, self.patience, tuple(self.retry_statuses), self.idempotency
        )
        form = ImageFormat(self.encoding, self.quality, self.size)
        template = Template(self.body, self.options or {}, self.images_per_request)
        return HttpService(
            HttpClient(url, headers, manners, reader), template, form, reader, self.images_per_request, headers
        )

    def _read_about(self, client: HttpClient) -> int | None:
        """The width of an answer, as the service describes itself."""
        if self.about is None:
            return None
        url = f"{self.url.rstrip('/')}{self.about}"
        try:
            known = json.loads(client.get(url))
            width, kind = int(known["width"]), known.get("task")
        except VictimError as error:
            raise VictimError(f"{error} If it does not describe itself: victim.about=null.") from None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise VictimError(
                f"{url} does not describe a model ({{width, task, price_per_1000}}). If it does "
                "not describe itself: victim.about=null."
            ) from None
        if kind not in (None, KINDS[self.answers]):
            raise VictimError(f"{url} is a service for task={kind}, and this job's is task={KINDS[self.answers]}.")
        if (price := known.get("price_per_1000")) is not None and self.usd_per_1000 not in (None, price):
            logger.warning("%s: 1000 images cost %s there, not victim.usd_per_1000=%s", url, price, self.usd_per_1000)
        return width


@dataclass(frozen=True, kw_only=True)
class HttpEncoder(HttpVictim):
    """An encoder that answers over HTTP with embeddings. Attributes: see `HttpVictim`."""

    answers: ClassVar[Answers] = "embeddings"
    ignores: ClassVar[Ignores] = {**HttpVictim.ignores, "outputs": {}}

    vectors: str = "outputs[].embedding"

    def _require_width(self, width: int, task: Task) -> None:
        """Any width will do."""


@dataclass(frozen=True)
class HttpService:
    """A `Service` over HTTP."""

    client: HttpClient
    template: Template
    form: ImageFormat
    reader: Reader
    per_call: int
    headers: Headers

    @property
    def charged_once(self) -> bool:
        """Whether calls with the same key are charged once."""
        return self.client.charged_once

    def fit(self, images: Tensor) -> Pixels:
        """The pixels that are sent."""
        return self.form.fit(images)

    def ask(self, calls: Sequence[tuple[Call, Pixels]], log: AnswerLog, width: int | None) -> None:
        """Make these calls; every answer is in the log when this returns.

        Raises:
            VictimError: one of them has no answer.
        """
        askings = [Asking(call, functools.partial(self.template.fill, pixels, self.form)) for call, pixels in calls]
        self.client.ask(askings, log, width)

    def read(self, body: bytes, images: int, width: int | None) -> Rows | None:
        """The answers in a reply that was kept; None if no config can read it.

        Raises:
            VictimError: it still cannot be read, and another config may.
        """
        try:
            return self.reader.read(body, images, width)
        except Unreadable as error:
            if error.elsewhere:
                raise VictimError(f"{error} The answer is paid for and kept; nothing more was sent.") from None
            logger.warning(
                "The answer to %d images was paid for and is of no use: they are asked again. %s", images, error
            )
            return None
