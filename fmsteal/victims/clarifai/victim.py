"""``victim=clarifai``: an encoder behind Clarifai's API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from fmsteal.base.errors import ConfigError
from fmsteal.base.store import digest
from fmsteal.config.answers import Answers
from fmsteal.data.images import Task
from fmsteal.identity.rules import Ignores
from fmsteal.training.context import Context
from fmsteal.victims.base import Victim, VictimMaker
from fmsteal.victims.clarifai.client import Channel, ClarifaiService, Model, require_packages
from fmsteal.victims.encoding import Encoding, ImageFormat
from fmsteal.victims.patience import Patience
from fmsteal.victims.purse import Purse
from fmsteal.victims.remote import RemoteModel, RemoteVictim, asked_in_this_process, spell_key
from fmsteal.victims.secrets import Headers

MOST = 128  # images in a call
SPENDING = "spending/clarifai.usd"  # beside the paid answers: what was spent there, by all jobs with this output


@dataclass(frozen=True, kw_only=True)
class ClarifaiEncoder(VictimMaker):
    """An encoder behind Clarifai's API. Its key depends on the model's names, the images sent, and 8 of its answers.

    Attributes:
        usd_per_1000: price of a thousand images in US dollars.
        cap_usd: most US dollars that jobs with this output may spend there, by that price; a call that would pass it is
            not made. None: no cap.
        user_id: whose model it is.
        app_id: the application that it belongs to.
        model_id: the model.
        version_id: its version.
        base: ``host`` or ``host:port``; always with TLS.
        root_certificates: a file of certificates to trust; None: grpc's own.
        headers: metadata, whose values name secrets: ``env:NAME`` is an environment variable.
        images_per_request: most images in a call, 128 at most.
        encoding: ``png``, which is exact, or ``jpeg``.
        quality: of a JPEG.
        size: side in pixels of the square that each image is resized to; None sends images as they are stored.
        deterministic: whether it gives the same answer to an image each time: see `HttpVictim`.
        concurrency: calls under way at once.
        timeout: seconds for a call.
        retries: how often a call that has certainly cost nothing is made again, after waits that double up to half a
            minute.
        adaptation: always ``given``: it is not trained here.
    """

    answers: ClassVar[Answers] = "embeddings"
    gradients: ClassVar[bool] = False
    eight_bit: ClassVar[bool] = True
    paid: ClassVar[bool] = True
    machine: ClassVar[frozenset[str]] = frozenset(
        {
            "usd_per_1000", "cap_usd", "base", "root_certificates", "headers", "images_per_request", "concurrency",
            "timeout", "retries",
        }
    )  # fmt: skip
    ignores: ClassVar[Ignores] = {"quality": {"encoding": "png"}}

    usd_per_1000: float
    cap_usd: float | None = None
    user_id: str = "clarifai"
    app_id: str = "main"
    model_id: str = "general-image-embedding"
    version_id: str = "bb186755eda04f9cbb6fe32e816be104"
    base: str = "api.clarifai.com"
    root_certificates: str | None = None
    headers: Mapping[str, str] | None = None
    images_per_request: int = MOST
    encoding: Encoding = "png"
    quality: int = 90
    size: int | None = None
    deterministic: bool = True
    concurrency: int = 4
    timeout: float = 60.0
    retries: int = 8
    adaptation: Literal["given"] = "given"

    @property
    def pretrained(self) -> bool:
        """Whether it starts from a backbone's weights: never."""
        return False

    def identity(self) -> dict[str, Any]:
        """All settings that decide the answers."""
        quality = {"quality": self.quality} if self.encoding == "jpeg" else {}
        return {
            "model": [self.user_id, self.app_id, self.model_id, self.version_id], "encoding": self.encoding, **quality,
            "size": self.size,
        }  # fmt: skip

    def require_makeable(self) -> None:
        """Check all that can be checked without asking.

        Raises:
            ConfigError: a setting is wrong, a variable is not set, or a package is not installed.
        """
        self._require_sound()
        require_packages()
        Headers(self.headers or {}, None).require_set()
        ImageFormat(self.encoding, self.quality, self.size)
        self._channel().read_certificates()

    def check_budget(self, queries: int) -> None:
        """Check that ``queries`` queries fit the cap.

        Raises:
            ConfigError: they cost more.
        """
        cost = queries * self.usd_per_1000 / 1000
        if self.cap_usd is not None and cost > self.cap_usd:
            raise ConfigError(
                f"budget.queries={queries} cost {cost:g} USD at victim.usd_per_1000={self.usd_per_1000:g}, more than "
                f"victim.cap_usd={self.cap_usd:g}: a smaller budget, or a higher cap."
            )

    def prepare(self, task: Task, ctx: Context) -> Victim:
        """The victim. Its width is found by asking about up to 8 test images.

        Raises:
            VictimError: it cannot be asked.
        """
        purse = Purse((ctx.paid or ctx.store).root / SPENDING, self.usd_per_1000, self.cap_usd)
        model = RemoteModel(f"victim.model_id={self.model_id}", 0)
        victim = RemoteVictim(
            f"clarifai-{spell_key(self.model_id, self.identity())}", model, self.answers, paid=True, given=True,
            deterministic=self.deterministic, service=self._connect(purse),
            asked=asked_in_this_process(self.base, digest(self.identity())),
        )  # fmt: skip
        model.width = victim.find_width(task, ctx)
        return victim

    def _connect(self, purse: Purse) -> ClarifaiService:
        return ClarifaiService(
            Model(self.user_id, self.app_id, self.model_id, self.version_id), self._channel(),
            Headers(self.headers or {}, None), Patience(self.retries, longest=0.0),
            ImageFormat(self.encoding, self.quality, self.size), purse,
            per_call=self.images_per_request, concurrency=self.concurrency,
        )  # fmt: skip

    def _channel(self) -> Channel:
        return Channel(self.base, self.root_certificates, self.timeout)

    def _require_sound(self) -> None:
        if not 1 <= self.images_per_request <= MOST:
            raise ConfigError(f"victim.images_per_request must be 1 to {MOST}, not {self.images_per_request}.")
        if self.usd_per_1000 < 0 or (self.cap_usd is not None and self.cap_usd < 0):
            raise ConfigError(
                f"victim.usd_per_1000 and victim.cap_usd must not be negative: {self.usd_per_1000}, {self.cap_usd}."
            )
        if self.concurrency < 1 or self.retries < 0 or self.timeout <= 0:
            raise ConfigError(
                "victim.concurrency must be at least 1, victim.timeout above 0, victim.retries not negative: "
                f"{self.concurrency}, {self.timeout}, {self.retries}."
            )
        if "/" in self.base or "@" in self.base or not self.base.strip():
            raise ConfigError(f"victim.base={self.base} is no host: api.clarifai.com, or host:port.")
