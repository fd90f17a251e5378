from __future__ import annotations

import sys
import tracemalloc
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from torch import Tensor, nn

from fmsteal.base.errors import BudgetExceeded, DataError
from fmsteal.data.images import Images
from fmsteal.defenses.base import NoDefense, RowDefense, RowGuard
from fmsteal.oracle.guard import Ask
from fmsteal.oracle.index import Counts, keys_of
from fmsteal.oracle.ledger import Ledger
from fmsteal.oracle.oracle import Budget, Oracle

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 3, 4, 4), dtype=np.uint8)
PIXELS[5] = PIXELS[4]  # the same image under two ids
POOL = Images(PIXELS, "pool")
ANSWERS = torch.randn(12, 3, generator=torch.Generator().manual_seed(0)).softmax(1)


class Victim:
    """Answers from a table, and counts the images it was shown."""

    def __init__(self) -> None:
        self.seen = 0

    def pool(self, ids: np.ndarray) -> Tensor:
        self.seen += len(ids)
        return ANSWERS[torch.from_numpy(ids)]

    def images(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return images.flatten(1)[:, :3].softmax(1)


class Noise(RowDefense):
    """A random defense: its noise must be the row's own."""

    def protect(self, answers: Tensor, ask: Ask) -> Tensor:
        assert len(answers) == len(ask.images()) == len(ask.questions)
        return torch.stack([a + torch.randn(len(a), generator=ask.generator(i)) for i, a in enumerate(answers)])


def oracle(
    folder: Path, budget: int, victim: Victim | None = None, defense: RowDefense | None = None, seed: int = 0
) -> Oracle:
    victim = victim or Victim()
    return Oracle(
        answer_pool=victim.pool,
        answer_images=victim.images,
        pool=POOL,
        guard=RowGuard(defense or NoDefense(), 3),
        budget=Budget(budget, usd_per_1000=2.0),
        ledger=Ledger(folder / "ledger.bin", "job"),
        seed=seed,
    )


def test_answers_are_the_victims_and_are_counted(tmp_path: Path) -> None:
    api = oracle(tmp_path, 10)
    ids = np.array([3, 0, 7])
    torch.testing.assert_close(api.ask(ids), ANSWERS[ids])
    assert (api.used, api.left) == (3, 7)
    api.ask(ids[:1])
    assert api.used == 4  # the same image again is another query
    api.ask(np.array([2, 2, 2]))
    assert api.used == 7
    assert api.budget.usd(api.used) == pytest.approx(0.014)


def test_past_the_budget_nothing_is_answered(tmp_path: Path) -> None:
    victim = Victim()
    api = oracle(tmp_path, 4, victim)
    api.ask(np.array([0, 1, 2]))
    with pytest.raises(BudgetExceeded, match="2 questions asked with 1 of 4"):
        api.ask(np.array([3, 4]))
    assert api.used == 3 and victim.seen == 3
    api.ask(np.array([3]))
    with pytest.raises(BudgetExceeded):
        api.ask_images(torch.rand(1, 3, 4, 4))
    assert api.used == len(Ledger(tmp_path / "ledger.bin", "job")) == 4


def test_a_restarted_job_pays_for_nothing_twice(tmp_path: Path) -> None:
    first = oracle(tmp_path, 8, defense=Noise())
    x = torch.rand(2, 3, 4, 4)
    answers = [first.ask(np.array([0, 1, 0])), first.ask_images(x), first.ask(np.array([0]))]
    victim = Victim()
    second = oracle(tmp_path, 8, victim, defense=Noise())
    torch.testing.assert_close(second.ask(np.array([0, 1, 0])), answers[0], rtol=0, atol=0)
    torch.testing.assert_close(second.ask_images(x), answers[1], rtol=0, atol=0)
    torch.testing.assert_close(second.ask(np.array([0])), answers[2], rtol=0, atol=0)
    assert victim.seen == 0 and second.used == 6
    second.ask(np.array([0]))
    assert victim.seen == 1 and second.used == 7


def test_equal_images_are_one_question_whatever_their_id(tmp_path: Path) -> None:
    api = oracle(tmp_path, 8, defense=Noise())
    both = api.ask(np.array([4, 5]))
    assert not torch.equal(both[0] - ANSWERS[4], both[1] - ANSWERS[5])  # first and second ask: other noise
    swapped = oracle(tmp_path / "other", 8, defense=Noise()).ask(np.array([5]))
    torch.testing.assert_close(swapped[0] - ANSWERS[5], both[0] - ANSWERS[4])


def test_noise_depends_on_seed_client_and_ask_but_not_on_the_batch(tmp_path: Path) -> None:
    def ask(name: str, ids: list[int], client: int = 0, seed: int = 0) -> Tensor:
        return oracle(tmp_path / name, 12, defense=Noise(), seed=seed).ask(np.array(ids), client)

    row = ask("a", [3])[0]
    torch.testing.assert_close(ask("b", [1, 3, 2])[1], row, rtol=0, atol=0)
    assert not torch.equal(ask("c", [3], client=1)[0], row)
    assert not torch.equal(ask("d", [3], seed=1)[0], row)


@pytest.mark.parametrize(
    ("ids", "match"),
    [
        (np.array([12]), "0 to 11"),
        (np.array([-1]), "0 to 11"),
        (np.array([0.5]), "integer"),
        (np.array([[1]]), "integer"),
        (np.array([True]), "integer"),
        (None, "integer"),
        (["a"], "integer"),
        ([[1], [2, 3]], "integer"),
        ([2**70], "integer|0 to 11"),
        (torch.tensor([1]).to_sparse(), "integer"),
        (torch.tensor([1 + 1j]), "integer"),
        (3, "integer"),
        (np.array([1], "datetime64[s]"), "integer"),
    ],
)
def test_ids_that_are_none_are_refused(tmp_path: Path, ids: np.ndarray, match: str) -> None:
    api = oracle(tmp_path, 8)
    with pytest.raises(DataError, match=match):
        api.ask(ids)
    assert api.used == 0


@pytest.mark.parametrize(
    "image",
    [
        torch.rand(3, 4, 4),
        torch.rand(1, 1, 4, 4),
        torch.full((1, 3, 4, 4), 1.1),
        torch.full((1, 3, 4, 4), float("nan")),
        torch.rand(1, 3, 4, 4).numpy(),
        None,
        [torch.rand(3, 4, 4)],
        torch.rand(1, 3, 4, 4).to_sparse(),
        torch.rand(1, 3, 4, 4, dtype=torch.complex64),
        torch.zeros(1, 3, 4, 4, dtype=torch.uint8),
        torch.zeros(1, 3, 4, 4, dtype=torch.bool),
        torch.zeros(1, 3, 0, 4),
        torch.zeros(2, 3, 0, 0),
        torch.zeros(0, 4),
        torch.rand(1, 3, 4, 4, device="meta"),
    ],
    ids=lambda image: f"{type(image).__name__} {getattr(image, 'dtype', '')} {tuple(getattr(image, 'shape', ()))}",
)
def test_images_that_are_none_are_refused(tmp_path: Path, image: Tensor) -> None:
    api = oracle(tmp_path, 8)
    with pytest.raises(DataError, match="Images are asked for"):
        api.ask_images(image)
    assert api.used == 0 and not (tmp_path / "ledger.bin").exists()


@pytest.mark.parametrize("client", ["a", 2**40, 2**31, -1, 1.5, 1.0, True, None, np.float32(1), float("nan"), (1,)])
def test_clients_that_are_no_numbers_are_refused(tmp_path: Path, client: object) -> None:
    api = oracle(tmp_path, 8)
    for ask in (lambda: api.ask(np.array([0]), client), lambda: api.ask_images(torch.rand(1, 3, 4, 4), client)):  # type: ignore[arg-type]
        with pytest.raises(DataError, match="A client is an integer from 0 to 2147483647, not "):
            ask()
    assert api.used == 0


def test_clients_are_counted_each_by_itself_to_the_last(tmp_path: Path) -> None:
    api = oracle(tmp_path, 8)
    for client in (0, np.int64(3), 2**31 - 1):
        torch.testing.assert_close(api.ask(np.array([1, 1]), client), ANSWERS[[1, 1]])  # type: ignore[arg-type]
    assert [(q.client, q.nth) for q in Ledger(tmp_path / "ledger.bin", "job")] == [
        (0, 0), (0, 1), (3, 0), (3, 1), (2**31 - 1, 0), (2**31 - 1, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("ids", [[], np.array([]), torch.zeros(0, dtype=torch.long), np.zeros(0, np.uint8)], ids=repr)
def test_an_empty_ask_has_an_empty_answer(tmp_path: Path, ids: object) -> None:
    api = oracle(tmp_path, 1)
    for _ in range(2):
        assert api.ask(ids).shape == api.ask_images(torch.zeros(0, 3, 4, 4)).shape == (0, 3)  # type: ignore[arg-type]
        assert api.ask_images(torch.zeros(0, 3, 0, 0)).shape == (0, 3)
        assert api.ask(ids).dtype == torch.float32  # type: ignore[arg-type]
        assert api.used == 0
    api.ask(np.array([0]))
    assert api.ask(ids).shape == (0, 3) and api.used == 1  # type: ignore[arg-type]


def test_ids_and_images_of_other_integer_and_float_types_are_the_same_questions(tmp_path: Path) -> None:
    images, api = torch.rand(2, 3, 4, 4), oracle(tmp_path, 40)
    for ids in ([3, 4], (3, 4), np.array([3, 4], np.uint8), np.array([3, 4], np.int16), torch.tensor([3, 4])):
        torch.testing.assert_close(api.ask(ids), ANSWERS[[3, 4]])  # type: ignore[arg-type]
    first = api.ask_images(images)
    for other in (images.double(), nn.Parameter(images), images.to(memory_format=torch.channels_last)):
        torch.testing.assert_close(api.ask_images(other), first)
    asked: dict[bytes, int] = {}
    for question in Ledger(tmp_path / "ledger.bin", "job"):
        assert question.nth == asked.get(question.image, 0)
        asked[question.image] = question.nth + 1
    assert sorted(asked.values()) == [4, 4, 5, 5]


def test_threads_that_ask_at_once_pay_for_each_answer_once(tmp_path: Path) -> None:
    api = oracle(tmp_path, 100)

    def ask(thread: int) -> list[tuple[int, Tensor] | None]:
        got: list[tuple[int, Tensor] | None] = []
        for turn in range(6):
            image = (thread * 5 + turn) % 12
            try:
                got.append((image, api.ask(np.array([image, image]))[1]))
            except BudgetExceeded:
                got.append(None)
        return got

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(10) as pool:
            answers = [answer for got in pool.map(ask, range(10)) for answer in got]
    finally:
        sys.setswitchinterval(before)
    received = [answer for answer in answers if answer is not None]
    assert len(received) == 50 and api.used == 100
    for image, answer in received:
        torch.testing.assert_close(answer, ANSWERS[image])
    asked: dict[bytes, set[int]] = {}
    for question in Ledger(tmp_path / "ledger.bin", "job"):
        asked.setdefault(question.image, set()).add(question.nth)
    assert all(numbers == set(range(len(numbers))) for numbers in asked.values())
    assert sum(map(len, asked.values())) == 100


def test_what_the_oracle_counts_takes_few_bytes_for_an_answer() -> None:
    counts, rng, count = Counts(), np.random.default_rng(0), 30_000
    keys = rng.integers(0, 2**63, (count, 3)).astype(np.uint64)
    tracemalloc.start()
    try:
        counts = Counts()
        for start in range(0, count, 500):
            counts.add(keys[start : start + 500])
        assert tracemalloc.get_traced_memory()[0] / count < 55
    finally:
        tracemalloc.stop()


@given(st.lists(st.lists(st.integers(0, 6), max_size=9), max_size=9))
@settings(max_examples=40)
def test_counts_are_a_counter(calls: list[list[int]]) -> None:
    counts, known = Counts(), Counter[int]()
    for call in calls:
        keys = keys_of([(image, bytes([image]) * 16, 0) for image in call])
        assert counts.of(keys).tolist() == [known[image] for image in call]
        counts.add(keys)
        known.update(call)
        assert counts.of(keys).tolist() == [known[image] for image in call]


def test_no_attribute_of_the_oracle_is_the_victim(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    api = Oracle(
        answer_pool=lambda ids: model(torch.zeros(len(ids), 2)),
        answer_images=lambda x: model(x),
        pool=POOL,
        guard=RowGuard(NoDefense(), 2),
        budget=Budget(5),
        ledger=Ledger(tmp_path / "ledger.bin", "job"),
        seed=0,
    )
    with pytest.raises(AttributeError):
        api.budget = Budget(10**9)  # type: ignore[misc]
    held = list(vars(api).values())
    held += [v for value in held for v in getattr(value, "__dict__", {}).values()]
    assert not any(isinstance(v, nn.Module) or isinstance(getattr(v, "__self__", None), nn.Module) for v in held)
    assert not api.ask(np.array([0])).requires_grad


class AnySchedule(RuleBasedStateMachine):
    """Whatever is asked, in whatever order, killed whenever: answers received = queries paid for <= budget."""

    @initialize(budget=st.integers(1, 15))
    def begin(self, budget: int) -> None:
        import tempfile

        self.folder = Path(tempfile.mkdtemp())
        self.budget, self.received, self.victim = budget, 0, Victim()
        self.api = oracle(self.folder, budget, self.victim)

    def _asked(self, ask: object, count: int) -> None:
        before = self.api.used
        try:
            answers = ask()  # type: ignore[operator]
        except BudgetExceeded:
            assert self.api.used == before and before + count > self.budget
        else:
            assert len(answers) == count
            self.received += count

    @rule(ids=st.lists(st.integers(0, 11), max_size=6), client=st.integers(0, 2))
    def ask(self, ids: list[int], client: int) -> None:
        self._asked(lambda: self.api.ask(np.array(ids, dtype=int), client), len(ids))

    @rule(values=st.lists(st.sampled_from([0.0, 0.25, 1.0]), max_size=4), client=st.integers(0, 2))
    def ask_images(self, values: list[float], client: int) -> None:
        images = torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
        self._asked(lambda: self.api.ask_images(images, client), len(values))

    @rule()
    def killed(self) -> None:
        """A new process knows nothing but the ledger; it would ask its questions over again from the first."""
        self.api = oracle(self.folder, self.budget, self.victim)
        self.received = 0

    @invariant()
    def the_meter_is_the_ledger(self) -> None:
        if hasattr(self, "api"):
            paid = len(Ledger(self.folder / "ledger.bin", "job"))
            assert self.api.used == paid == self.victim.seen
            assert self.received <= paid <= self.budget


AnySchedule.TestCase.settings = settings(max_examples=60, stateful_step_count=20)
test_any_schedule = AnySchedule.TestCase
