"""Scores of sets against the metric functions: values, names by network, protocols."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest

from vidgen_jax.errors import UserError
from vidgen_jax.scores.extraction import Features, concatenate
from vidgen_jax.scores.metric import Kind, Metric, Need
from vidgen_jax.scores.metrics.classifier_scores import inception_score
from vidgen_jax.scores.metrics.diversity import pairwise_cosine_distance
from vidgen_jax.scores.metrics.intervals import mean_interval
from vidgen_jax.scores.metrics.precision_recall import recall
from vidgen_jax.scores.metrics.set_distance import extrapolated_frechet_distance, frechet_distance, kernel_distance
from vidgen_jax.scores.set_metrics import SetOptions, SetScorer, set_metrics

SHAPE = (16, 64, 64, 3)
REAL_FIELDS = {"split": "test", "num_clips": 60}


def features(seed, count=60, *, shift=0.0):
  generator = np.random.default_rng(seed)
  return Features(generator.normal(shift, 1, (count, 6)), generator.normal(shift, 2, (count, 4)))


def scorer(network="r3d18", *, unbiased=True, real=None, **options):
  extractor = SimpleNamespace(
    network=network,
    label=f"{network}, 4 classes",
    name=network,
    hash="0123456",
    unbiased=unbiased,
    protocol=lambda shape: "input",
  )
  options = SetOptions(**options)
  return SetScorer(extractor, real or features(0), clip_shape=SHAPE, options=options, real_fields=REAL_FIELDS)


def by_metric(scores):
  return {score.metric: score for score in scores}


@pytest.mark.parametrize(
  ("network", "frechet", "kernel", "layer"),
  [
    ("i3d", "fvd", "kvd", "logits"),
    ("tsn", "fid", "clip_kernel", "features"),
    ("r3d18", "clip_frechet", "clip_kernel", "features"),
    ("c3d", "clip_frechet", "clip_kernel", "features"),
    ("videomae", "cd_fvd", "clip_kernel", "features"),
  ],
)
def test_network_determines_names_and_layer(network, frechet, kernel, layer):
  real, fake = features(0), features(1, shift=0.3)
  found = by_metric(scorer(network).score("model", [fake], step=7))
  rows = lambda options, samples: {metric.row for metric in set_metrics(network, options, samples=samples)}
  assert set(found) == {frechet, kernel, "inception_score"} == rows(SetOptions(), 1)
  assert rows(SetOptions(extrapolate=True), 2) - set(found) == {f"{frechet}_infinity", "diversity"}
  a, b = getattr(real, layer), getattr(fake, layer)
  assert found[frechet].value == pytest.approx(frechet_distance(a, b), rel=1e-9)
  assert found[kernel].value == pytest.approx(kernel_distance(a, b), rel=1e-9)
  assert found["inception_score"].value == pytest.approx(inception_score(fake.logits), rel=1e-9)
  for score in found.values():
    assert score.interval[0] <= score.value <= score.interval[1]
    assert (score.step, score.split, score.num_clips, score.num_generated, score.samples) == (7, "test", 60, 60, 1)
    assert (score.clip, score.extractor, score.extractor_hash) == ("16x64x64x3", f"{network}, 4 classes", "0123456")
    assert "input" in score.protocol
  where = "logits" if layer == "logits" else "last layer but one"
  assert found[frechet].protocol == f"{where}, input, covariance / (N - 1), interval over clips"


def test_protocol_determines_the_covariance():
  found = by_metric(scorer("i3d", unbiased=False).score("model", [features(1)]))
  expected = frechet_distance(features(0).logits, features(1).logits, unbiased=False)
  assert found["fvd"].value == pytest.approx(expected, rel=1e-9)
  assert "covariance / N," in found["fvd"].protocol


def test_several_samples_give_means_over_sets_and_diversity():
  samples = [features(seed, shift=0.2) for seed in (1, 2, 3)]
  found = by_metric(scorer().score("model", samples))
  distances = [frechet_distance(features(0).features, sample.features) for sample in samples]
  assert found["clip_frechet"].value == pytest.approx(np.mean(distances), rel=1e-9)
  assert found["clip_frechet"].interval == mean_interval(np.array(distances))
  assert found["clip_frechet"].protocol.endswith("mean and interval over 3 sets")
  stacked = np.stack([sample.features for sample in samples], axis=1)
  assert found["diversity"].value == pytest.approx(pairwise_cosine_distance(stacked).mean())
  assert (found["diversity"].num_generated, found["diversity"].samples) == (180, 3)


def test_pooled_samples_are_one_set():
  samples = [features(seed, shift=0.2) for seed in (1, 2, 3)]
  found = by_metric(scorer(pool_samples=True).score("model", samples))
  pooled = concatenate(samples)
  for metric, expected in {
    "clip_frechet": frechet_distance(features(0).features, pooled.features),
    "inception_score": inception_score(pooled.logits),
    "diversity": pairwise_cosine_distance(np.stack([sample.features for sample in samples], axis=1)).mean(),
  }.items():
    assert found[metric].value == pytest.approx(expected, rel=1e-9), metric
    assert (found[metric].num_generated, found[metric].samples) == (180, 3)
  assert found["clip_frechet"].protocol.endswith("interval over clips")


def test_real_set_is_scored_against_itself_in_disjoint_halves():
  found = [score for score in scorer().score_real() if score.subject == "real, other half"]
  assert [score.metric for score in found] == ["clip_frechet", "clip_kernel"]
  assert {(score.num_clips, score.num_generated) for score in found} == {(30, 30)}
  order = np.random.default_rng(0).permutation(60)
  first, second = (features(0).features[order[part]] for part in (slice(0, 30), slice(30, 60)))
  assert found[0].value == pytest.approx(frechet_distance(first, second), rel=1e-9)
  (score,) = (s for s in scorer().score_real() if s.subject == "real")
  assert (score.metric, score.value) == ("inception_score", pytest.approx(inception_score(features(0).logits)))


def test_options_apply_to_the_scores():
  found = by_metric(
    scorer(extrapolate=True, splits=3, intervals=False, seed=5, nearest_k=4).score("model", [features(1)])
  )
  expected = extrapolated_frechet_distance(features(0).features, features(1).features, seed=5)
  assert found["clip_frechet_infinity"].value == pytest.approx(expected, rel=1e-9)
  mixed = features(1).logits[np.random.default_rng(5).permutation(60)]
  assert found["inception_score"].value == pytest.approx(
    np.mean([inception_score(part) for part in np.split(mixed, 3)])
  )
  deviation = np.std([inception_score(part) for part in np.split(mixed, 3)], ddof=1)
  assert found["inception_score"].deviation == pytest.approx(deviation)
  assert "3 splits, drawn at random, mean and interval over 3 sets" in found["inception_score"].protocol
  assert {score.interval for score in found.values()} == {None}
  assert found["recall"].value == recall(features(0).features, features(1).features, k=4)
  assert found["coverage"].protocol == "last layer but one, input, 4 nearest neighbours"


def test_all_frames_are_vectors_of_one_set_without_intervals(caplog):
  frames = [
    Features(*(array.reshape(20, 3, -1) for array in (one.features, one.logits))) for one in map(features, (0, 1))
  ]
  found = by_metric(scorer("inception", real=frames[0], nearest_k=3).score("model", [frames[1]]))
  assert set(found) == {"frame_fid", "frame_kid", "inception_score"}
  assert "no precision and recall of all frames" in caplog.text
  expected = frechet_distance(features(0).features, features(1).features)
  assert found["frame_fid"].value == pytest.approx(expected, rel=1e-9)
  assert {(score.interval, score.num_generated) for score in found.values()} == {(None, 20)}
  real = by_metric(scorer("inception", real=frames[0], splits=4).score_real())
  order = np.random.default_rng(0).permutation(20)
  parts = np.array_split(frames[0].logits[order].reshape(60, -1), 4)
  assert real["inception_score"].value == pytest.approx(np.mean([inception_score(part) for part in parts]))


def test_few_clips_cause_a_warning(caplog):
  # 12 clips are enough for 6 features, 11 are not.
  with caplog.at_level(logging.WARNING):
    list(scorer(real=features(0, 12)).score_all("model", [features(1, 12)], {}))
    assert caplog.text == ""
    list(scorer(real=features(0, 11)).score_all("model", [features(1, 60)], {}))
  assert "model: 11 clips are few for a covariance of 6 features: clip_frechet has a bias" in caplog.text


@pytest.mark.parametrize(
  ("options", "count", "message"),
  [
    ({}, 1, "needs two clips on either side; model"),
    ({"splits": 70}, 60, "--splits=70 is more than the 60 clips of model"),
  ],
)
def test_too_few_clips_are_user_errors(options, count, message):
  with pytest.raises(UserError, match=message):
    list(scorer(**options).score("model", [features(1, count)]))


def test_too_few_clips_are_not_extrapolated(caplog):
  found = by_metric(scorer(extrapolate=True).score("model", [features(1, 8)]))
  assert "clip_frechet_infinity" not in found
  assert "no clip_frechet_infinity of model: extrapolation needs 12 clips or more for 6 features" in caplog.text


def test_fewer_clips_than_features_change_no_score():
  # 5 and 4 clips of 40 features span 9 dimensions; the kernel still divides by 40.
  generator = np.random.default_rng(8)
  real, fake = (Features(generator.normal(size=(n, 40)), generator.normal(size=(n, 3))) for n in (5, 4))
  found = by_metric(scorer(real=real).score("model", [fake]))
  assert found["clip_kernel"].value == pytest.approx(kernel_distance(real.features, fake.features), rel=1e-9)
  assert found["clip_frechet"].value == pytest.approx(frechet_distance(real.features, fake.features), rel=1e-6)


def test_splits_do_not_depend_on_the_order_of_the_files():
  # Four certain classes, sorted by class: two halves in that order would score 2 each.
  logits = np.repeat(1000.0 * np.eye(4), 15, axis=0)
  found = by_metric(scorer(splits=2).score("model", [Features(features(1).features, logits)]))
  assert 3.5 < found["inception_score"].value <= 4


def test_another_metric_of_features_is_computed_from_its_description(monkeypatch):
  offset = Metric(
    name="offset",
    description="distance of the means",
    source="this test",
    protocol="Euclidean",
    function=lambda real, fake: float(np.linalg.norm(real.mean(axis=0) - fake.mean(axis=0))),
    higher_is_better=False,
    kind=Kind.SET,
    needs=(Need.REAL_SET, Need.FEATURES),
  )
  monkeypatch.setattr("vidgen_jax.scores.set_metrics.network_metrics", lambda network: [offset])
  (score,) = scorer(intervals=False).score("model", [features(1)])
  means = [features(seed).features.mean(axis=0) for seed in (0, 1)]
  assert score.value == pytest.approx(np.linalg.norm(means[0] - means[1]))
  assert (score.metric, score.protocol) == ("offset", "last layer but one, input, Euclidean")
