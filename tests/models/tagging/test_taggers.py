"""Taggers: what each of them tells, by hand; and what all of them share."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

import selfstudy
from selfstudy.core.errors import MachineError, UsageError
from selfstudy.core.random import generator
from selfstudy.data.made_tags import made_sentences
from selfstudy.data.tagged import TaggedTexts, tagged
from selfstudy.models.tagging.base import Tagger
from selfstudy.models.tagging.counted import suffix_counts, suffixes, word_counts
from selfstudy.models.tagging.features import FEATURES, shape, window_features
from selfstudy.models.tagging.frequency import FrequencyTagger
from selfstudy.models.tagging.linear import LogisticTagger, PerceptronTagger
from selfstudy.models.tagging.trigrams import TrigramTagger, transitions, trigram_counts
from selfstudy.models.tagging.viterbi import best_tags

NAMES = ("frequency-tagger", "trigram-tagger", "perceptron-tagger?bits=12", "logistic-tagger?bits=12")
SOME = tagged(
    "some",
    [["the", "walk"], ["they", "walk"], ["the", "walk"], ["they", "ran"], ["Rome"]],
    [["D", "N"], ["P", "V"], ["D", "N"], ["P", "V"], ["N"]],
)


def taught(tagger: Tagger, texts: TaggedTexts = SOME) -> Tagger:
    made = tagger.made_for(texts)
    made.learn(texts, 7)
    return made


def test_words_and_endings_are_counted() -> None:
    """Oracle: counts by hand."""
    words, counts = word_counts(SOME, 4)
    assert dict(zip(words, counts.tolist(), strict=True))["walk"] == [0, 2, 0, 1]
    endings, summed = suffix_counts(words, counts, longest=1, rare=2)
    found = dict(zip(endings, summed.tolist(), strict=True))
    assert found == {
        "A": [0, 1, 0, 0],
        "Ae": [0, 1, 0, 0],
        "a": [2, 0, 2, 1],
        "ae": [2, 0, 0, 0],
        "ay": [0, 0, 2, 0],
        "an": [0, 0, 0, 1],
    }
    assert suffixes("ab", 5) == ["a", "ab", "aab"]


def test_the_most_frequent_tag() -> None:
    """Oracle: by hand: the usual tag of a known word, that of the ending of a new one, else the commonest."""
    tagger = taught(FrequencyTagger(suffix=1, rare=2))
    told = tagger.predict([["walk", "gray", "span"], ["Rhode", "Zz"]])
    assert told == [["N", "P", "V"], ["N", "N"]]


def test_the_search_finds_the_likeliest_tags() -> None:
    """Oracle: all sequences of tags, scored one by one; lengths from 1 to 5 together."""
    rng = generator("viterbi")
    log_transitions, emissions = rng.normal(size=(4, 4, 3)), rng.normal(size=(6, 3))
    coded = [rng.integers(0, 6, length) for length in (2, 5, 1, 3, 4, 1)]
    by_hand: list[int] = []
    for sentence in coded:
        scores: dict[tuple[int, ...], float] = {}
        for tags in itertools.product(range(3), repeat=len(sentence)):
            padded = (3, 3, *tags)
            scores[tags] = sum(
                log_transitions[padded[i], padded[i + 1], tag] + emissions[word, tag]
                for i, (tag, word) in enumerate(zip(tags, sentence, strict=True))
            )
        by_hand += max(scores.items(), key=lambda scored: scored[1])[0]
    assert best_tags(coded, emissions, log_transitions).tolist() == by_hand
    assert best_tags([np.zeros(0, np.int64)], emissions, log_transitions).tolist() == []


def test_trigrams_are_counted_within_sentences() -> None:
    """Oracle: a loop over the sentences."""
    texts = made_sentences("train", 300, 5)
    wanted = np.zeros((6, 6, 5), dtype=int)
    for sentence, tags in zip(
        texts.sentences, np.split(texts.labels, np.cumsum(texts.lengths)[:-1]), strict=True
    ):
        padded = [5, 5, *tags.tolist()]
        for place in range(len(sentence)):
            wanted[tuple(padded[place : place + 3])] += 1
    assert (trigram_counts(texts, 5) == wanted).all()


def test_transitions_are_probabilities() -> None:
    """Oracle: they sum to 1 after any two tags, seen or not; a lone pattern takes the share of its order."""
    texts = made_sentences("train", 3000, 6)
    tags = np.bincount(texts.labels, minlength=6)
    found = transitions(trigram_counts(texts, 6), tags)
    assert found.shape == (7, 7, 6) and found.min() > 0
    assert np.allclose(found.sum(-1), 1)
    always = tagged("always", [["x", "y"]] * 50, [["A", "B"]] * 50)
    sure = transitions(trigram_counts(always, 2), np.array([50, 50]))
    assert sure[2, 0, 1] > 0.99 and sure[2, 2, 0] > 0.99


def test_the_trigram_tagger_looks_at_neighbours() -> None:
    """Oracle: the same word after two different ones, each as it was seen."""
    assert taught(TrigramTagger()).predict([["the", "walk"], ["they", "walk"]]) == [["D", "N"], ["P", "V"]]


def test_window_features() -> None:
    """Oracle: words with the same neighbours have the same row, others have not; ones, `FEATURES` a row."""
    rows = window_features([["a", "b", "c"], ["a", "b", "c"], ["a", "b"], []], 14)
    assert rows.shape == (8, 2**14) and rows.nnz == 8 * FEATURES
    dense = rows.toarray()
    assert (dense[:3] == dense[3:6]).all()
    assert not (dense[6] == dense[0]).all()  # two words on, the sentence is over
    assert (dense.sum(1) == FEATURES).all()
    assert shape("McCoy-9") == "AaAa-0"
    assert window_features([], 8).shape == (0, 256)


@pytest.mark.parametrize("name", NAMES)
def test_what_all_taggers_share(name: str, tmp_path: Path) -> None:
    """Oracle: a learner beats always telling one tag, repeats itself, forgets what it knew, and comes back
    from its files as it was."""
    train, test = made_sentences("train", 3000, 6), made_sentences("test", 1000, 6)
    model = selfstudy.model(name)
    with pytest.raises(UsageError, match="untrained"):
        model.predict([["a"]])
    assert not model.made_for(train).trained
    assert (model.made_for(train).label(test.sentences) == 0).all()
    tagger, again = taught(model, train), taught(model, train)
    told = tagger.label(test.sentences)
    assert (told == test.labels).mean() > np.bincount(test.labels).max() / test.words + 0.2
    assert (again.label(test.sentences) == told).all()
    retaught = taught(taught(model, made_sentences("validation", 500, 6)), train)
    assert (retaught.label(test.sentences) == told).all()
    tagger.save(tmp_path / "saved")
    loaded = selfstudy.model(str(tmp_path / "saved"))
    assert loaded.name == tagger.name and loaded.classes == train.classes
    assert (loaded.label(test.sentences) == told).all()
    assert loaded.predict([["ba", "la"], []])[1] == []
    with pytest.raises(UsageError, match="knows the tags"):
        loaded.made_for(made_sentences("train", 100, 3))
    other = FrequencyTagger if name != "frequency-tagger" else TrigramTagger
    with pytest.raises(MachineError, match="holds a model"):
        other.load(tmp_path / "saved")


@pytest.mark.parametrize("kind", [PerceptronTagger, LogisticTagger])
def test_linear_taggers_with_few_tags(kind: type[Tagger]) -> None:
    """Oracle: with two tags the scores are those of one weight vector and its negative; with one tag all is
    that; a tag that was not seen is never told."""
    one = tagged("one", [["a", "b"]], [["X", "X"]], classes=["X", "Y", "Z"])
    assert taught(kind(), one).predict([["c", "a"]]) == [["X", "X"]]
    two = tagged("two", [["a", "b"]] * 30, [["X", "Z"]] * 30, classes=["X", "Y", "Z"])
    assert taught(kind(), two).predict([["a", "b"]]) == [["X", "Z"]]


def test_bad_fields() -> None:
    """Oracle: each is refused by name."""
    for wrong in ("perceptron-tagger?passes=0", "logistic-tagger?strength=0", "perceptron-tagger?bits=40"):
        with pytest.raises(UsageError, match=wrong.split("?")[1].split("=")[0]):
            selfstudy.model(wrong)
    for wrong in ("frequency-tagger?suffix=-1", "trigram-tagger?rare=0"):
        with pytest.raises(UsageError, match="must be"):
            selfstudy.model(wrong)
