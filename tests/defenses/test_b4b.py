"""B4B against its published loops, a question at a time, and what makes it a defense of each client by itself."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fmsteal.attacks.sybil_remap import SybilRemap
from fmsteal.base.errors import ConfigError, DefenseError, LedgerError
from fmsteal.config import answers, build
from fmsteal.defenses.b4b import B4B, Buckets, Occupied
from fmsteal.defenses.base import name_of
from fmsteal.defenses.client_transforms import TransformName, draw_transform, multiply_exactly, transformed_width
from fmsteal.oracle.ledger import Question
from tests.support.asking import asked, guard_of, question
from tests.support.composing import composed
from tests.support.exact import embeddings
from tests.support.guards import WIDTH, api
from tests.support.published_b4b import Coverage, deviation, draw_planes

NAMES: tuple[TransformName, ...] = get_args(TransformName)
LOUD = {"alpha": 3.0, "beta": 20.0, "lam": 1e-2}  # noise from the first questions on


def plain(defense: B4B, v: Tensor, questions: list[Question], seed: int = 0) -> Tensor:
    """Answers without a transform: a question at a time, a set of spelt-out buckets for each client and cut."""
    planes = draw_planes(v.shape[1], defense.projections, defense.bits, defense.seed)
    clients: dict[int, Coverage] = {}
    answers = []
    for row, q in enumerate(questions):
        seen = clients.setdefault(q.client, Coverage(planes)).see(v[row : row + 1].numpy())
        noise = torch.randn(v.shape[1], generator=asked(v, questions, seed).generator(row))
        answers.append(v[row] + deviation(seen, defense.alpha, defense.beta, defense.lam) * noise)
    return torch.stack(answers)


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 5), st.integers(1, 6), st.data(), st.integers(0, 99))
@settings(max_examples=40)
def test_noise_is_that_of_the_published_loop_for_each_client(
    n: int, width: int, projections: int, bits: int, data: st.DataObject, seed: int
) -> None:
    (v,) = embeddings(seed, (n, width))
    clients = data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    questions = [question(row, client) for row, client in enumerate(clients)]
    defense = B4B(**LOUD, transform="none", projections=projections, bits=bits, seed=seed)
    guard, got = guard_of(defense, width), []
    cut = data.draw(st.integers(0, n))
    for part in (slice(0, cut), slice(cut, n)):
        said = guard.reply(asked(v[part], questions[part], seed))
        assert said.log is not None and guard.reply(asked(v[part], questions[part], seed)).log == said.log
        got.append(said.answers)
        guard.fold(questions[part], said.log)
    torch.testing.assert_close(torch.cat(got), plain(defense, v, questions, seed), rtol=1e-5, atol=1e-5)


@given(st.integers(0, 99), st.sampled_from([(1, 1), (3, 12), (20, 12), (2, 16)]))
@settings(max_examples=10)
def test_buckets_are_those_of_one_cut_after_the_other(seed: int, cuts: tuple[int, int]) -> None:
    (v,) = embeddings(seed, (60, 33))
    projections, bits = cuts
    slow, table = Coverage(draw_planes(33, projections, bits, seed)), Occupied(projections, bits)
    buckets = Buckets(33, projections, bits, seed)
    for start in (0, 20, 40):
        part = v[start : start + 20].numpy()
        codes = buckets.find(part)
        wanted = [slow.see(part[row : row + 1]) for row in range(20)]
        np.testing.assert_allclose(table.coverage(codes), wanted, rtol=1e-12)
        table.add(codes)
    twos = [[int((v[7].double().numpy() @ plane)[bit] > 0) for bit in range(bits)] for plane in slow.planes]
    assert buckets.find(v[7:8].numpy()).tolist() == [[sum(2**i * b for i, b in enumerate(row)) for row in twos]]


def test_who_looks_at_one_place_is_not_disturbed_and_who_looks_everywhere_is() -> None:
    defense = B4B(alpha=1.0, beta=60, lam=1e-5, transform="none", projections=10, bits=6)
    centre, every = torch.full((512, 8), 3.0), torch.randn(512, 8, generator=torch.Generator().manual_seed(0))
    honest = centre + 0.01 * every
    questions = [question(row % 256, client, nth=row // 256) for client in (0, 1) for row in range(512)]
    v = torch.cat([honest, every])
    disturbed = (guard_of(defense, 8).reply(asked(v, questions)).answers - v).norm(dim=1)
    assert disturbed[:512].max() < 1e-3 < 0.1 < disturbed[-50:].mean()
    apart = (disturbed[512:].reshape(4, 128).mean(1)).tolist()
    assert apart == sorted(apart) and apart[0] < 0.2 * apart[-1], "it grows with the coverage"


def test_an_image_asked_about_again_occupies_nothing_but_its_noise_is_new() -> None:
    defense = B4B(**LOUD, transform="none", projections=3, bits=4)
    (v,) = embeddings(0, (1, 6))
    guard = guard_of(defense, 6)
    said = guard.reply(asked(v.expand(3, -1), [question(1, nth=nth) for nth in range(3)]))
    noise = said.answers - v
    assert len({tuple(row) for row in noise.tolist()}) == 3
    assert said.log is not None and len(set(said.log)) == 1
    alone = deviation(100 / 16, **LOUD)
    many = guard.reply(asked(v.expand(400, -1), [question(1, nth=nth) for nth in range(400)])).answers - v
    assert float(many.std()) == pytest.approx(alone, rel=0.05) and abs(float(many.mean())) < 0.1 * alone


def by_rows(name: TransformName, v: Tensor, random: torch.Generator) -> list[list[float]]:
    """The transforms from what their authors say of them, a number at a time."""
    d = v.shape[1]
    rows = [[float(x) for x in row] for row in v]

    def uniform() -> list[float]:
        return [2 * float(x) - 1 for x in torch.rand(d, generator=random, dtype=torch.float64)]

    if name == "affine":
        a = torch.randint(-(2**15), 2**15 + 1, (d, d), generator=random) / 2**15
        b = uniform()
        return [[sum(x * float(a[i, k]) for i, x in enumerate(row)) + b[k] for k in range(d)] for row in rows]
    if name.startswith("diagonal"):
        a, b = uniform(), uniform()
        rows = [[x * scale + shift for x, scale, shift in zip(row, a, b, strict=True)] for row in rows]
    if name.endswith("pad_shuffle"):
        pad = torch.randn(d, generator=random).tolist()
        order = torch.randperm(2 * d, generator=random).tolist()
        rows = [[[*row, *pad][k] for k in order] for row in rows]
    if name == "binary":
        tangents = torch.tan(2 * torch.pi * torch.rand(d - 1, 2 * d, generator=random, dtype=torch.float64))
        points = torch.rand(2 * d, d, generator=random, dtype=torch.float64)
        answers = []
        for row in rows:
            sides = []
            for k in range(2 * d):  # z = a x + b y + c, where the plane contains the point
                away = [x - float(p) for x, p in zip(row, points[k], strict=True)]
                height = away[-1] - sum(float(t) * x for t, x in zip(tangents[:, k], away, strict=False))
                sides.append(float(height > 0))
            answers.append(sides)
        return answers
    return rows


@pytest.mark.parametrize("name", NAMES)
@given(st.integers(1, 7), st.integers(1, 9), st.integers(0, 999))
@settings(max_examples=15)
def test_transforms_are_plain_loops_over_numbers(name: TransformName, n: int, width: int, seed: int) -> None:
    (v,) = embeddings(seed, (n, width))
    one, other = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed)
    got = draw_transform(name, width, one)(v)
    assert got.dtype == torch.float32 and got.shape == (n, transformed_width(name, width))
    torch.testing.assert_close(got, torch.tensor(by_rows(name, v, other)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_becomes_the_same_in_any_block(name: TransformName) -> None:
    v = (
        torch.randn(130, 257, generator=torch.Generator().manual_seed(0))
        * 10.0 ** torch.arange(-6, 7).repeat(10)[:, None]
    )
    v[7] = 0
    whole = (transform := draw_transform(name, 257, torch.Generator().manual_seed(1)))(v)
    for size in (1, 7, 64):
        assert torch.equal(torch.cat([transform(part) for part in v.split(size)]), whole)


@given(st.integers(1, 9), st.integers(1, 300), st.integers(0, 999), st.floats(1e-30, 1e30))
@settings(max_examples=30)
def test_the_exact_product_is_the_product(n: int, width: int, seed: int, scale: float) -> None:
    (v,) = embeddings(seed, (n, width))
    v = (v.double() * scale).float()
    whole = torch.randint(-(2**15), 2**15 + 1, (width, 3), generator=torch.Generator().manual_seed(seed)).double()
    near = 2.0**15 * width * v.abs().amax(1, keepdim=True).double() * 2.0**-24
    assert bool(((multiply_exactly(v, whole) - v.double() @ whole).abs() <= near).all())
    assert torch.equal(multiply_exactly(v.flip(1), whole.flip(0)), multiply_exactly(v, whole)), "in any order"


def test_each_client_has_coordinates_of_its_own_whatever_it_asked_before() -> None:
    (v,) = embeddings(0, (1, 16))
    guard = guard_of(B4B(transform="affine"), 16)

    def answer(client: int, seed: int = 0) -> Tensor:
        return guard.reply(asked(v, [question(3, client)], seed)).answers[0]

    first = [answer(client) for client in range(6)]  # more than are kept at hand
    assert all(torch.equal(answer(client), row) for client, row in enumerate(first))
    assert all(float((a - b).norm()) > 0.5 for a, b in itertools.pairwise(first))
    assert float((answer(0, seed=1) - first[0]).norm()) > 0.5


def test_what_two_clients_get_can_be_mapped_onto_each_other(tmp_path: Path) -> None:
    """The remapping that the paper tests: an affine map undoes affine transforms, and binary ones less well."""
    v = torch.randn(300, 10, generator=torch.Generator().manual_seed(0))
    attack = build.make(composed("task=embed", "attack=sybil_remap").attack)
    assert isinstance(attack, SybilRemap)
    lost = {}
    for name in ("affine", "diagonal_pad_shuffle", "binary"):
        guard = guard_of(B4B(transform=name), 10)  # type: ignore[arg-type]
        one, other = (guard.reply(asked(v, [question(0, c, nth=r) for r in range(300)])).answers for c in (0, 1))
        got = attack.remap(other[:150], one[:150], other[150:], seed=0)
        lost[name] = float((got - one[150:]).square().mean() / (one[150:] - one[150:].mean(0)).square().mean())
        untouched = (other[150:] - one[150:]).square().mean() / (one[150:] - one[150:].mean(0)).square().mean()
        assert float(untouched) > 0.5
    assert lost["affine"] < 1e-3 and lost["diagonal_pad_shuffle"] < 1e-3 and lost["binary"] > 0.2


def test_no_question_is_answered_with_nothing() -> None:
    for name in NAMES:
        guard = guard_of(B4B(transform=name), 6)
        said = guard.reply(asked(torch.zeros(0, 6)))
        assert said.answers.shape == (0, guard.width) == (0, transformed_width(name, 6)) and said.log == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"alpha": 0.0}, r"defense\.lam must be above 0 and below defense\.alpha"),
        ({"lam": 0.0}, r"defense\.lam"),
        ({"lam": 0.8}, r"defense\.lam"),
        ({"alpha": float("nan")}, r"defense\.alpha"),
        ({"beta": 0.0}, r"defense\.beta above 0"),
        ({"beta": 1.0}, r"defense\.beta=1\.0 lets the noise .* grow without bound"),
        ({"transform": "rotate"}, r"defense\.transform is one of none, affine, .*, not rotate"),
        ({"projections": 0}, r"defense\.projections"),
        ({"bits": 0}, r"defense\.bits from 1 to 16"),
        ({"bits": 17}, r"defense\.bits from 1 to 16"),
    ],
)
def test_settings_without_meaning_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        B4B(**options)
    build.make(composed("task=embed", "defense=b4b").defense)


def test_a_classifier_and_the_state_of_others_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"defense \(.*B4B\) is made for embeddings.*task=embed"):
        answers.check(composed("defense=b4b"))
    guard = guard_of(B4B(projections=2, bits=3), WIDTH)
    for entry in (b"12345", b"\x08\x00\x00\x00"):  # of another length; a bucket that there is not
        with pytest.raises(
            DefenseError, match=rf"B4B cannot take {len(entry)} bytes .* for 2 buckets of 8.*force=true"
        ):
            guard.fold([question(0)], [entry])
    defense = B4B()
    api(tmp_path, guard_of(defense, WIDTH), defense=name_of(defense)).ask(np.arange(5))
    ledger = (tmp_path / "ledger.bin").read_bytes()
    for named, made, says in (
        ("another", B4B(), rf"defense\.log is the log of {name_of(defense)} in job job, not of another"),
        (name_of(defense), B4B(transform="binary"), "answers changed width from 3 to 6"),
        (name_of(defense), B4B(projections=7), r"40 bytes of its log for 7 buckets of 4096"),
    ):
        with pytest.raises((LedgerError, DefenseError), match=says):
            api(tmp_path, guard_of(made, WIDTH), defense=named)
    assert (tmp_path / "ledger.bin").read_bytes() == ledger, "nothing is paid"


def test_it_sees_what_would_leave_without_it_not_the_raw_outputs() -> None:
    """In a chain, the widths before and after it are those of what is answered."""
    (v,) = embeddings(0, (4, 6))
    guard = guard_of(B4B(transform="none", **LOUD), 6)
    ask = asked(v)
    assert torch.equal(guard.reply(replace(ask, raw=torch.zeros(4, 99))).answers, guard.reply(ask).answers)
