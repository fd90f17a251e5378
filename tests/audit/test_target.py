"""What an audit knows of its target, and how many images are asked about besides those of the thefts."""

from __future__ import annotations

import pytest

from fmsteal.audit.composer import open_composer
from fmsteal.audit.target import Target, asks_to_prepare, count_besides, require_countable
from fmsteal.base.errors import ConfigError

HTTP = ("victim=http", "victim.name=mine", "victim.url=http://127.0.0.1:9", "victim.usd_per_1000=2")
ENCODER = ("task=embed", "victim=http_encoder", *HTTP[1:])
TEST, TRAIN, LOOK = 600, 1197, 8  # the digits; and the images that identify a service


def count(*words: str, defenses: tuple[str, ...] = ("none",), jobs: int = 1) -> int:
    with open_composer(words) as composer:
        return count_besides([composer.compose([*words, f"defense={name}"]) for name in defenses], jobs)


def test_test_images_count_once_and_training_images_if_a_defense_is_prepared_with_them() -> None:
    assert count(*HTTP, jobs=9) == TEST + LOOK
    assert count(*HTTP, "hydra/launcher=joblib", jobs=9) == TEST + 10 * LOOK, "each process looks who it is"
    assert count(*HTTP, defenses=("none", "prada", "hard_label")) == TEST + LOOK
    assert count(*HTTP, "data.train_count=500", defenses=("none", "proof_of_work")) == TEST + LOOK + 500
    assert count(*ENCODER, defenses=("none", "b4b")) == TEST + LOOK + TEST + TRAIN, "the downstream task's"


def test_a_service_with_other_answers_each_time_is_asked_for_each_theft() -> None:
    assert count(*HTTP, "victim.deterministic=false", jobs=4) == 4 * 2 * TEST + LOOK


def test_what_cannot_be_counted_is_refused() -> None:
    words = (*HTTP, "data=webdataset", "data.root=/shards", "data.test_root=/others")
    with pytest.raises(ConfigError, match="cannot be told without opening it"):
        count(*words)
    with open_composer(HTTP) as composer, pytest.raises(ConfigError, match="evaluation=ood may ask a service"):
        require_countable(composer.compose([*HTTP, "evaluation=ood"]))


def test_a_target_is_named_by_what_its_owner_calls_it() -> None:
    with open_composer(HTTP) as composer:
        target = Target.of(composer.compose(HTTP))
    assert (target.names["victim"], target.paid, target.price, target.again) == ("mine (http)", True, 2.0, False)
    with open_composer([]) as composer:
        cfg = composer.compose([])
        assert not Target.of(cfg).paid and Target.of(cfg).price == 1.5 and not asks_to_prepare(cfg)
