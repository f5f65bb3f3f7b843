"""TrIVD-GAN-FP with tiny networks: losses, updated variables, sampling, invalid settings."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.one_step import drawn_nets
from vidgen_jax.errors import UserError
from vidgen_jax.gans import SampleOptions
from vidgen_jax.gans.common import BoundNets
from vidgen_jax.gans.trivd import algorithm as trivd
from vidgen_jax.gans.trivd.algorithm import Trivd
from vidgen_jax.gans.trivd.config import TrivdConfig
from vidgen_jax.nn.norm import BATCH_STATS
from vidgen_jax.nn.spectral import SPECTRAL_STATS
from vidgen_jax.ops.convolution2d import convolution_p
from vidgen_jax.ops.video import to_uint8

CONFIG = TrivdConfig(
  conditioning_frames=2,
  channels=1,
  num_classes=3,
  decomposition="dvd_gan_fp",
  frames_per_clip=3,
  recurrent_unit="conv_gru",
  generator_channels=2,
  generator_multipliers=(1,),
  upsampled_multipliers=(1,),
  generator_blocks=1,
  discriminator_channels=2,
  discriminator_multipliers=(1, 2),
  temporal_blocks=1,
  latent_features=3,
  class_features=2,
  orthogonal_penalty=0.25,
)
FRAMES, VIDEO = "frame_disc", "downsampled_video_disc"


def _batch(frames: int = 5, size: int = 8):
  video = np.random.default_rng(0).integers(0, 256, (3, frames, size, size, 1), dtype=np.uint8)
  return {"video": jnp.asarray(video), "label": jnp.array([2, 0, 1], jnp.int32)}


def _known(batch):
  """The part of the batch that sampling receives."""
  return {"conditioning": batch["video"][:, :2], "label": batch["label"]}


def _loss(algorithm: Trivd, name: str, nets, batch, key):
  return getattr(algorithm, name)(nets, {}, batch, key, jnp.int32(0))


@pytest.fixture(scope="module")
def algorithm() -> Trivd:
  return Trivd(CONFIG)


@pytest.fixture(scope="module")
def nets(algorithm):
  return drawn_nets(algorithm, _batch(), scale=0.5)


@pytest.fixture(scope="module")
def constant_nets(nets):
  """Nets with a generator whose last ReLU outputs zeros, so that every frame is tanh(0.3) for any latent."""
  norm = {"scale": jnp.zeros(2), "bias": jnp.full(2, -1.0)}
  output = nets["generator"].params["output"] | {"bias": jnp.array([0.3])}
  params = nets["generator"].params | {"output_norm": norm, "output": output}
  return nets | {"generator": nets["generator"].replace(params=params)}


@pytest.fixture(scope="module")
def outcomes(algorithm, constant_nets):
  """(loss, LossOutput) of both losses, by name; all predicted frames are drawn, so no view is random."""
  names = ("discriminator_loss", "generator_loss")
  key = jax.random.key(7)
  return {name: jax.jit(functools.partial(_loss, algorithm, name))(constant_nets, _batch(), key) for name in names}


def test_updates_follow_the_paper(algorithm):
  disc, gen = algorithm.updates("main")
  assert (disc.name, disc.trains, disc.refreshes, disc.repeats) == ("disc", (FRAMES, VIDEO), (FRAMES, VIDEO), 2)
  assert (gen.name, gen.trains, gen.refreshes, gen.repeats) == ("gen", ("generator",), ("generator",), 1)
  assert (disc.learning_rate(10**6), gen.learning_rate(10**6)) == pytest.approx((5e-4, 1e-4))
  assert algorithm.microbatches == 3
  assert algorithm.phases == (algorithm.phase_at(0),) == (algorithm.phase_at(10**6),)
  assert algorithm.ema_nets == ("generator",)
  assert set(algorithm.networks()) == {"generator", FRAMES, VIDEO}


def test_initial_nets_have_exactly_the_expected_collections(algorithm):
  for decomposition in trivd.DECOMPOSITIONS:
    config = dataclasses.replace(CONFIG, decomposition=decomposition, recurrent_unit="tsru_p")
    shapes = jax.eval_shape(Trivd(config).init, jax.random.key(0), _batch())
    assert set(shapes) == {"generator"} | {view.net for view in trivd.DECOMPOSITIONS[decomposition]}
    assert set(shapes.pop("generator").variables) == {BATCH_STATS, SPECTRAL_STATS}
    assert all(set(net.variables) == {SPECTRAL_STATS} for net in shapes.values())


def test_leading_frames_are_conditioning_frames_at_any_length(algorithm):
  assert algorithm.conditioning_indices(3) == algorithm.conditioning_indices(50) == (0, 1)
  with pytest.raises(UserError, match="num_frames=2 leaves nothing to predict after the 2 conditioning frames"):
    algorithm.conditioning_indices(2)


def test_losses_are_finite_float32_scalars(outcomes):
  for loss, output in outcomes.values():
    for value in (loss, *output.metrics.values()):
      assert (value.shape, value.dtype) == ((), jnp.float32)
      assert jnp.isfinite(value)


def test_losses_update_only_variables_of_the_trained_nets(outcomes, constant_nets):
  nets = constant_nets
  for name, kept in (("discriminator_loss", {FRAMES, VIDEO}), ("generator_loss", {"generator"})):
    refreshed = outcomes[name][1].nets
    assert set(refreshed) == kept
    for net in kept:
      assert jax.tree.structure(refreshed[net].variables) == jax.tree.structure(nets[net].variables)
      jax.tree.map(np.testing.assert_array_equal, refreshed[net].params, nets[net].params)
      changed = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), refreshed[net].variables, nets[net].variables)
      assert any(jax.tree.leaves(changed[SPECTRAL_STATS]))
      assert all(jax.tree.leaves(changed.get(BATCH_STATS, True)))


def test_power_iteration_advances_once_for_real_and_fake_clips(outcomes, nets):
  kernel = np.asarray(nets[FRAMES].params["block_1"]["conv_0"]["kernel"], np.float64).reshape(-1, 4)
  v = kernel @ np.asarray(nets[FRAMES].variables[SPECTRAL_STATS]["block_1"]["conv_0"]["kernel_u"])
  u = kernel.T @ (v / np.linalg.norm(v))
  refreshed = outcomes["discriminator_loss"][1].nets[FRAMES].variables[SPECTRAL_STATS]
  np.testing.assert_allclose(refreshed["block_1"]["conv_0"]["kernel_u"], u / np.linalg.norm(u), rtol=1e-4, atol=1e-5)


def _count_convolutions(function, *arguments) -> int:
  """Counts convolutions; where a platform is chosen, in the last branch, which is the default."""

  def count(jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
      total += equation.primitive.name in ("conv_general_dilated", convolution_p.name)
      params = equation.params["branches"][-1] if equation.primitive.name == "cond" else equation.params
      for value in jax.tree.leaves(params, is_leaf=lambda x: hasattr(x, "jaxpr")):
        total += count(value.jaxpr) if hasattr(value, "jaxpr") else 0
    return total

  return count(jax.make_jaxpr(function)(*arguments).jaxpr)


def test_the_discriminator_update_does_not_differentiate_the_generator(algorithm, nets):
  key, batch = jax.random.key(0), _batch()

  def loss(params):
    trained = {name: nets[name].replace(params=value) for name, value in params.items()}
    return _loss(algorithm, "discriminator_loss", nets | trained, batch, key)[0]

  (disc, _) = algorithm.updates("main")
  own = {name: nets[name].params for name in disc.trains}
  everything = own | {"generator": nets["generator"].params}
  forward = _count_convolutions(loss, own)
  known, options = _known(batch), SampleOptions(num_frames=5)
  generator = _count_convolutions(lambda: algorithm.sample(nets, known, key, options=options))
  # In the backward pass every convolution of a discriminator adds two more, but the two that read the video only one.
  discriminators = forward - generator
  inputs = sum(2 for _ in disc.trains)
  assert _count_convolutions(jax.grad(loss), own) == forward + 2 * discriminators - inputs
  assert _count_convolutions(jax.grad(loss), everything) > forward + 2 * discriminators + generator


def test_every_clip_is_scored_with_its_own_label(algorithm, nets):
  # The plain head has one output per clip, so clips can be scored one by one; spectral vectors stay fixed.
  plain = Trivd(dataclasses.replace(CONFIG, head="projection"))
  rng = np.random.default_rng(2)
  real, fake = (jnp.asarray(rng.normal(size=(3, 2, 8, 8, 1)), jnp.float32) for _ in range(2))
  label = _batch()["label"]
  (view, _) = plain.views
  bind = lambda: BoundNets({view.net: plain.discriminator(view)}, nets)
  apply_discriminator = jax.jit(lambda label, *videos: plain._discriminate(bind(), label, view.net, videos))
  together, _ = apply_discriminator(label, real, fake)
  for outputs, videos in zip(together, (real, fake), strict=True):
    alone = [apply_discriminator(label[b : b + 1], videos[b : b + 1])[0][0][0] for b in range(3)]
    np.testing.assert_allclose(outputs, alone, rtol=1e-4, atol=1e-5)
    assert np.ptp(alone) > 0.1
  others, _ = apply_discriminator(jnp.roll(label, 1), real, fake)
  assert float(jnp.min(jnp.abs(others[0] - together[0]))) > 1e-3


def test_losses_against_separate_calls_of_the_discriminators(algorithm, constant_nets, outcomes):
  nets, batch = constant_nets, _batch()
  real = np.asarray(batch["video"], np.float32) / 127.5 - 1
  fake = np.concatenate([real[:, :2], np.full((3, 3, 8, 8, 1), np.tanh(0.3), np.float32)], axis=1)

  def outputs(name, module, inputs):
    scores = jax.jit(functools.partial(module.apply, train=False))(nets[name].collections, inputs, batch["label"])
    own, by_class = np.asarray(scores.unconditional), np.asarray(scores.conditional)
    return np.array([own[b] + by_class[other].sum() for b in range(3) for other in range(3)])

  discriminator_loss, generator_loss = 0.0, 0.0
  for view in algorithm.views:
    module = algorithm.discriminator(view)
    views = {FRAMES: lambda x: x[:, 2:], VIDEO: lambda x: x.reshape(3, 5, 4, 2, 4, 2, 1).mean(axis=(3, 5))}
    on_real, on_fake = (outputs(view.net, module, views[view.net](x)) for x in (real, fake))
    discriminator_loss += np.maximum(1 + on_fake, 0).mean() + np.maximum(1 - on_real, 0).mean()
    generator_loss -= on_fake.mean()
  for path, leaf in jax.tree.leaves_with_path(nets["generator"].params):
    if path[-1].key.startswith("kernel"):
      matrix = np.asarray(leaf, np.float64).reshape(-1, leaf.shape[-1])
      generator_loss += 0.25 * np.sum((matrix.T @ matrix * (1 - np.eye(leaf.shape[-1]))) ** 2)

  assert float(outcomes["discriminator_loss"][0]) == pytest.approx(discriminator_loss, rel=1e-4)
  assert float(outcomes["generator_loss"][0]) == pytest.approx(generator_loss, rel=1e-4)


def test_every_view_of_real_and_fake_clips_has_its_own_key(monkeypatch, nets):
  algorithm = Trivd(dataclasses.replace(CONFIG, decomposition="stronger"))
  keys = []

  def apply_view(view, video, key, **_):
    keys.append(tuple(jax.random.key_data(key).tolist()))
    return video

  def latent(self, key, batch_size):
    keys.append(tuple(jax.random.key_data(key).tolist()))
    return jnp.zeros((batch_size, 3))

  monkeypatch.setattr(trivd, "apply_view", apply_view)
  monkeypatch.setattr(Trivd, "latent", latent)
  monkeypatch.setattr(Trivd, "generate", lambda *_, **__: (jnp.zeros((3, 5, 8, 8, 1)), {}))
  discriminate = lambda self, bound, label, name, videos: ((jnp.zeros(1),) * len(videos), bound.nets[name])
  monkeypatch.setattr(Trivd, "_discriminate", discriminate)
  nets = dict.fromkeys(("generator", *(view.net for view in algorithm.views)), nets["generator"])
  _loss(algorithm, "discriminator_loss", nets, _batch(), jax.random.key(0))
  assert len(set(keys)) == len(keys) == 1 + 3 * 2


def test_labels_of_an_unconditional_model_are_0(algorithm):
  unconditional = Trivd(dataclasses.replace(CONFIG, num_classes=1))
  np.testing.assert_array_equal(unconditional._label(_batch()), [0, 0, 0])
  np.testing.assert_array_equal(algorithm._label(_batch()), [2, 0, 1])


def test_truncated_latents(algorithm):
  key = jax.random.key(0)
  full = algorithm.latent(key, 500)
  assert (full.shape, full.dtype) == ((500, 3), jnp.float32)
  assert float(jnp.std(full)) == pytest.approx(1.0, abs=0.1)
  truncated = algorithm.latent(key, 500, truncation=0.8)
  # A uniform distribution on [-0.8, 0.8] has standard deviation 0.462, the truncated normal distribution 0.443.
  assert 0.75 < float(jnp.max(jnp.abs(truncated))) <= 0.8
  assert float(jnp.std(truncated)) == pytest.approx(0.443, abs=0.02)
  np.testing.assert_array_equal(algorithm.latent(key, 4, truncation=0.0), np.zeros((4, 3)))
  with pytest.raises(ValueError, match=r"truncation=-0\.5"):
    algorithm.latent(key, 4, truncation=-0.5)


def test_batch_moments_allow_longer_clips_than_in_training(algorithm, nets):
  batch, longer, key = _batch(), _batch(frames=8), jax.random.key(5)
  longer["video"] = longer["video"].at[:, :2].set(batch["video"][:, :2])

  @jax.jit
  def run(nets):
    pooled = algorithm.batch_moments(nets, _known(batch), key, options=SampleOptions(num_frames=8))
    # Spectral vectors from before the pass, with which the pass started.
    own = nets["generator"].variables | {BATCH_STATS: pooled["generator"].variables[BATCH_STATS]}
    net = nets["generator"].replace(variables=own)
    return pooled, net, algorithm.fake_video({"generator": net}, longer, key)[0]

  pooled, net, fake = run(nets)
  assert {leaf.shape[0] for leaf in jax.tree.leaves(pooled["generator"].variables[BATCH_STATS])} == {6}
  for name in (FRAMES, VIDEO):
    jax.tree.map(np.testing.assert_array_equal, pooled[name], nets[name])
  np.testing.assert_allclose(fake[:, :2], np.asarray(batch["video"][:, :2], np.float32) / 127.5 - 1, atol=1e-6)
  # With a batch's own moments, evaluation repeats the pass in train mode; it receives no frame after the second.
  predict = jax.jit(functools.partial(algorithm.predict, num_frames=8))
  known, latent = _known(batch), algorithm.latent(key, 3)
  clips = predict({"generator": net}, known, latent)
  assert (clips.shape, clips.dtype) == ((3, 8, 8, 8, 1), jnp.float32)
  np.testing.assert_array_equal(to_uint8(clips)[:, :2], known["conditioning"])
  predicted = clips[:, 2:]
  assert 0.01 < float(jnp.std(predicted)) < float(jnp.max(jnp.abs(predicted))) <= 1.0
  np.testing.assert_allclose(predicted, fake[:, 2:], rtol=1e-3, atol=1e-4)
  with pytest.raises(ValueError, match="pool standing statistics at the length"):
    predict(nets, known, latent)


def test_sample_predicts_from_truncated_latents(monkeypatch, algorithm, nets):
  monkeypatch.setattr(Trivd, "predict", lambda self, nets, batch, latent, *, num_frames: (latent, num_frames))
  key = jax.random.key(0)
  for truncation in (None, 0.5, 0.0):
    options = SampleOptions(num_frames=7, truncation=truncation)
    latent, num_frames = algorithm.sample(nets, _batch(), key, options=options)
    assert num_frames == 7
    np.testing.assert_array_equal(latent, algorithm.latent(key, 3, truncation=truncation))


def test_in_bfloat16_losses_and_parameters_stay_float32():
  algorithm = Trivd(dataclasses.replace(CONFIG, compute_dtype="bfloat16", spectral_norm=False))
  nets = drawn_nets(algorithm, _batch(), scale=0.5)
  assert {leaf.dtype for leaf in jax.tree.leaves(nets)} == {jnp.dtype(jnp.float32)}
  loss, output = jax.jit(functools.partial(_loss, algorithm, "generator_loss"))(nets, _batch(), jax.random.key(0))
  assert {leaf.dtype for leaf in jax.tree.leaves((loss, output))} == {jnp.dtype(jnp.float32)}
  assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves((loss, output)))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (
      {"decomposition": "weaker"},
      r"algorithm\.decomposition='weaker' must be one of clip, .*, dvd_gan_fp, faster, stronger",
    ),
    ({"frames_per_clip": 0}, r"algorithm\.frames_per_clip=0 must be positive"),
    ({"downsampling": 0}, r"algorithm\.downsampling=0 must be positive"),
    ({"num_classes": 0}, r"algorithm\.num_classes=0 must be positive"),
    ({"recurrent_unit": "lstm"}, r"algorithm\.recurrent_unit='lstm' must be one of"),
    ({"head": "linear"}, r"algorithm\.head='linear' must be one of mixed_projection, projection"),
    (
      dict.fromkeys(("generator_multipliers", "upsampled_multipliers"), (4, 2, 1)),
      r"algorithm\.discriminator_multipliers must have at least as many",
    ),
    ({"generator_multipliers": (2, 2)}, r"upsampled_multipliers=\(1,\) must have one entry for each of the 2 in"),
  ],
)
def test_invalid_settings(changes, message):
  with pytest.raises(UserError, match=message):
    dataclasses.replace(CONFIG, **changes)


@pytest.mark.parametrize(
  ("changes", "batch", "message"),
  [
    ({}, {"frames": 2}, r"num_frames=2 leaves nothing to predict after the 2 conditioning frames"),
    ({"frames_per_clip": 4}, {}, r"algorithm\.frames_per_clip=4 must be in 1\.\.3"),
    ({"frames_per_clip": 6, "frames_from": "video"}, {}, r"algorithm\.frames_per_clip=6 must be in 1\.\.5"),
    (
      {"downsample_time": True, "temporal_blocks": 4, "discriminator_multipliers": (1, 1, 1, 1)},
      {"size": 16},
      r"data\.num_frames=5 cannot be halved 3 times; set algorithm\.downsample_time=false",
    ),
    (
      {"generator_multipliers": (2, 1), "upsampled_multipliers": (1, 1)},
      {"size": 10},
      r"10x10, but the 2 entries of algorithm\.generator_multipliers need multiples of 4",
    ),
    (
      {"discriminator_multipliers": (1, 1, 1, 1)},
      {"size": 8},
      r"8x8, but the 4 entries of algorithm\.discriminator_multipliers need multiples of 16",
    ),
  ],
)
def test_unsuitable_clips(changes, batch, message):
  with pytest.raises(UserError, match=message):
    Trivd(dataclasses.replace(CONFIG, **changes)).init(jax.random.key(0), _batch(**batch))


def test_only_downsampling_blocks_halve_time():
  config = dataclasses.replace(CONFIG, downsample_time=True, temporal_blocks=4)
  algorithm = Trivd(config)
  nets = jax.eval_shape(algorithm.init, jax.random.key(0), _batch())
  view = algorithm.views[1]
  video = jax.ShapeDtypeStruct((3, 5, 4, 4, 1), jnp.float32)
  apply = functools.partial(algorithm.discriminator(view).apply, train=False)
  # Only the first of two blocks downsamples: 5 // 2 time steps.
  scores = jax.eval_shape(apply, nets[view.net].collections, video, _batch()["label"])
  assert scores.unconditional.shape == (3, 2)


def test_frames_may_be_drawn_from_the_whole_video():
  config = dataclasses.replace(CONFIG, frames_per_clip=5, frames_from="video")
  assert set(jax.eval_shape(Trivd(config).init, jax.random.key(0), _batch())) == {"generator", FRAMES, VIDEO}
