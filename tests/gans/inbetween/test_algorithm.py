"""Inbetweening with tiny networks: losses, trained nets, sampling, baselines, invalid settings."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.one_step import KEY, OneStep, changed_nets, drawn_frames, drawn_nets
from vidgen_jax.core.state import NetState
from vidgen_jax.errors import UserError
from vidgen_jax.gans import SampleOptions
from vidgen_jax.gans.inbetween.algorithm import Inbetween
from vidgen_jax.gans.inbetween.config import InbetweenConfig
from vidgen_jax.nn.norm import BATCH_STATS
from vidgen_jax.ops.convolution2d import convolution_p
from vidgen_jax.ops.video import to_uint8

CONFIG = InbetweenConfig(
  latent_features=3,
  encoding_features=2,
  encoder_widths=(2,),
  latent_blocks=(2,),
  decoder_widths=(2,),
  video_discriminator_widths=(2,),
  image_discriminator_widths=(2,),
  frames_per_clip=2,
  gradient_penalty=0.5,
)
FRAMES = 8
IMAGE, VIDEO = "image_disc", "video_disc"
GENERATOR = ("encoder", "latent_generator", "video_generator")


def _batch(frames: int = FRAMES, size: int = 4, channels: int = 3):
  video = np.random.default_rng(0).integers(0, 256, (3, frames, size, size, channels), dtype=np.uint8)
  return {"video": jnp.asarray(video), "label": jnp.array([2, 0, 1], jnp.int32)}


def _known(batch):
  return {"conditioning": batch["video"][:, jnp.array([0, -1])], "label": batch["label"]}


def _nets(algorithm: Inbetween, batch) -> dict[str, NetState]:
  # With large biases the outputs would hardly depend on the inputs.
  return drawn_nets(algorithm, batch, scale=0.5, bias_scale=0.1)


@pytest.fixture(scope="module")
def algorithm() -> Inbetween:
  return Inbetween(CONFIG)


@pytest.fixture(scope="module")
def nets(algorithm):
  return _nets(algorithm, _batch())


@pytest.fixture(scope="module")
def step(algorithm) -> OneStep:
  return OneStep(algorithm)


@pytest.fixture(scope="module")
def unchanged(step, nets):
  """(nets, metrics) of a step with learning rates 0, so that both losses use the same parameters."""
  return step(nets, _batch())


@pytest.fixture(scope="module")
def predict(algorithm):
  return jax.jit(functools.partial(algorithm.predict, num_frames=FRAMES))


@pytest.fixture(scope="module")
def train_clips(algorithm, nets):
  """(batch, key) -> (real clips, clips generated in train mode, the generator's statistics), from the modules."""
  modules = algorithm.networks()

  @jax.jit
  def generate(ends, noise):
    stats = {}

    def run(name, *inputs, **options):
      apply = functools.partial(modules[name].apply, train=True, mutable=[BATCH_STATS], **options)
      output, stats[name] = apply(nets[name].collections, *inputs)
      return output

    latent = run("latent_generator", run("encoder", ends), noise, num_frames=FRAMES)
    return run("video_generator", latent), stats

  def clips(batch, key):
    video = np.asarray(batch["video"], np.float32) / 127.5 - 1
    fake, stats = generate(video[:, [0, -1]], jax.random.normal(key, (3, 3)))
    fake = np.array(fake)
    fake[:, [0, -1]] = video[:, [0, -1]]
    return video, fake, stats

  return clips


def test_initial_nets_have_exactly_the_expected_collections():
  for changes in ({}, {"fusion": False}, {"naive": True, "encoder_widths": (2, 2), "decoder_widths": (2, 2)}):
    config = dataclasses.replace(CONFIG, **changes)
    shapes = jax.eval_shape(Inbetween(config).init, jax.random.key(0), _batch())
    assert set(shapes) == {*GENERATOR, IMAGE, VIDEO}
    stateless = {IMAGE, VIDEO} | ({"latent_generator"} if config.naive else set())
    for name, net in shapes.items():
      assert set(net.variables) == (set() if name in stateless else {BATCH_STATS})
      assert {leaf.dtype for leaf in jax.tree.leaves(net)} == {jnp.dtype(jnp.float32)}


def test_first_and_last_frame_are_conditioning_frames(algorithm):
  assert algorithm.conditioning_indices(8) == (0, 7)
  assert algorithm.conditioning_indices(16) == (0, 15)
  with pytest.raises(UserError, match="num_frames=2 leaves nothing between"):
    algorithm.conditioning_indices(2)
  with pytest.raises(UserError, match="num_frames=6 must be a multiple of 4 and at least 8 for the 3 entries"):
    Inbetween(InbetweenConfig()).conditioning_indices(6)
  naive = Inbetween(InbetweenConfig(naive=True))
  assert naive.conditioning_indices(16) == (0, 15)
  assert naive.conditioning_indices(4) == (0, 3)
  for frames in (12, 32):
    with pytest.raises(UserError, match=f"num_frames={frames} must be one of 4, 8, 16 with algorithm.naive"):
      naive.conditioning_indices(frames)


def _frames(video, key):
  """Two intermediate frames of each clip, [2 B, H, W, C]."""
  return np.concatenate(drawn_frames(video[:, 1:-1], key, 2))


def _log(x):
  return np.log1p(np.exp(x)).mean()


def test_losses_against_separate_calls_of_the_networks(algorithm, nets, step, unchanged, train_clips):
  updated, metrics = unchanged
  evaluate = {}
  for name in (IMAGE, VIDEO):
    one = lambda x, name=name: algorithm.networks()[name].apply(nets[name].collections, x[None])[0]
    slopes = jax.jit(jax.vmap(jax.value_and_grad(one)))

    def logits_and_norms(inputs, slopes=slopes):
      logits, gradients = (np.asarray(x, np.float64) for x in slopes(inputs))
      return logits, np.sum(np.square(gradients), axis=tuple(range(1, inputs.ndim)))

    evaluate[name] = logits_and_norms

  keys = jax.random.split(step.loss_key("disc"), 3)
  real, fake, _ = train_clips(_batch(), keys[0])
  inputs = {IMAGE: (_frames(real, keys[1]), _frames(fake, keys[2])), VIDEO: (real, fake)}
  expected = {"disc/loss": 0.0}
  for name, clips in inputs.items():
    (real_logits, real_norms), (fake_logits, fake_norms) = (evaluate[name](x) for x in clips)
    loss = _log(-real_logits) + _log(fake_logits)
    on_real, on_fake = 1 / (1 + np.exp(real_logits)), 1 / (1 + np.exp(-fake_logits))
    penalty = np.mean(on_real**2 * real_norms) + np.mean(on_fake**2 * fake_norms)
    assert penalty > 0.01 * loss
    expected["disc/loss"] += loss + 0.5 * penalty
    expected |= {f"disc/{name}/loss": loss, f"disc/{name}/gradient_penalty": penalty}
    expected |= {f"disc/{name}/real": real_logits.mean(), f"disc/{name}/fake": fake_logits.mean()}

  keys = jax.random.split(step.loss_key("gen"))
  _, fake, stats = train_clips(_batch(), keys[0])
  parts = {name: _log(-evaluate[name](x)[0]) for name, x in ((IMAGE, _frames(fake, keys[1])), (VIDEO, fake))}
  expected |= {f"gen/{name}/loss": value for name, value in parts.items()} | {"gen/loss": sum(parts.values())}

  found = {name: value for name, value in metrics.items() if "grad_norm" not in name}
  assert found == pytest.approx(expected, rel=2e-3, abs=1e-4)
  # Statistics come from the generator's own update; the discriminators' update does not change them.
  for name in GENERATOR:
    close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4)
    jax.tree.map(close, updated[name].variables, stats[name])


@pytest.mark.parametrize(("rates", "trained"), [({"disc": 1e-3}, {IMAGE, VIDEO}), ({"gen": 1e-3}, set(GENERATOR))])
def test_each_update_trains_its_own_nets(rates, trained, step, unchanged, nets):
  updated, _ = step(nets, _batch(), **rates)
  assert changed_nets(nets, updated) == trained
  for name, net in nets.items():
    # Adam's first step has the length of the learning rate.
    change = jax.tree.map(lambda new, old: float(np.abs(new - old).max()), updated[name].params, net.params)
    assert max(jax.tree.leaves(change)) < 1.01e-3
    # The generator's update refreshes its statistics at any learning rate.
    assert jax.tree.structure(updated[name].variables) == jax.tree.structure(net.variables)
    jax.tree.map(np.testing.assert_array_equal, updated[name].variables, unchanged[0][name].variables)


def test_image_discriminator_receives_intermediate_frames_only(nets, step):
  # The encoder's output is constant, so that conditioning frames reach the discriminators directly or not at all.
  params = nets["encoder"].params
  output = params["output"] | {"norm": {"scale": jnp.zeros(2), "bias": jnp.array([0.4, -0.2])}}
  nets = nets | {"encoder": nets["encoder"].replace(params=params | {"output": output})}
  batch = _batch()
  changed = batch | {"video": batch["video"].at[:, jnp.array([0, -1])].set(255)}
  before, after = (step(nets, clips)[1] for clips in (batch, changed))
  for update in ("disc", "gen"):
    for metric in ("loss", "real", "fake", "gradient_penalty") if update == "disc" else ("loss",):
      assert before[f"{update}/{IMAGE}/{metric}"] == after[f"{update}/{IMAGE}/{metric}"], metric
      assert before[f"{update}/{VIDEO}/{metric}"] != after[f"{update}/{VIDEO}/{metric}"], metric


@pytest.mark.parametrize("drawn", [1, 3])
def test_frames_are_drawn_uniformly_from_each_clip(drawn):
  algorithm = Inbetween(dataclasses.replace(CONFIG, frames_per_clip=drawn))
  video = jnp.broadcast_to(jnp.arange(6.0).reshape(1, 6, 1, 1, 1), (400, 6, 1, 1, 1))
  frames = np.asarray(algorithm._frames(video, KEY))
  assert frames.shape == (400 * drawn, 1, 1, 1)
  indices = frames.astype(int).reshape(400, drawn)
  assert all(len(set(clip)) == drawn for clip in indices.tolist())
  counts = np.bincount(indices.ravel(), minlength=6)
  assert counts[0] == counts[5] == 0
  # Each of the four is drawn with probability 1/4 or 3/4; four standard deviations of the binomial are 35.
  assert np.abs(counts[1:5] - 100 * drawn).max() < 35


def test_predicted_clips_contain_the_conditioning_frames(algorithm, nets, predict):
  batch = _batch()
  latent = algorithm.latent(KEY, 3)
  clips = predict(nets, _known(batch), latent)
  assert (clips.shape, clips.dtype) == ((3, FRAMES, 4, 4, 3), jnp.float32)
  np.testing.assert_array_equal(to_uint8(clips)[:, [0, -1]], batch["video"][:, jnp.array([0, -1])])
  between = clips[:, 1:-1]
  assert 0.05 < float(jnp.std(between)) < float(jnp.max(jnp.abs(between))) <= 1.0
  # Labels have no effect.
  np.testing.assert_array_equal(predict(nets, _known(batch) | {"label": jnp.zeros(3, jnp.int32)}, latent), clips)


@pytest.mark.parametrize("changed", ["latent", "first frame", "last frame"])
def test_every_clip_depends_on_its_own_frames_and_latent_only(changed, algorithm, nets, predict):
  latent, conditioning = algorithm.latent(KEY, 3), _known(_batch())
  before = predict(nets, conditioning, latent)
  if changed == "latent":
    latent = latent.at[1].add(1.0)
  else:
    frame = 0 if changed == "first frame" else 1
    conditioning = conditioning | {
      "conditioning": conditioning["conditioning"].at[1, frame].set(255 - conditioning["conditioning"][1, frame])
    }
  after = predict(nets, conditioning, latent)
  np.testing.assert_array_equal(np.delete(after, 1, axis=0), np.delete(before, 1, axis=0))
  # The change affects every intermediate frame.
  assert np.all(np.abs(after - before)[1, 1:-1].max(axis=(1, 2, 3)) > 1e-4)


def test_sample_predicts_from_truncated_latents(monkeypatch, algorithm, nets):
  monkeypatch.setattr(Inbetween, "predict", lambda self, nets, batch, latent, *, num_frames: (latent, num_frames))
  for truncation in (None, 0.5, 0.0):
    options = SampleOptions(num_frames=6, truncation=truncation)
    latent, num_frames = algorithm.sample(nets, _known(_batch()), KEY, options=options)
    assert num_frames == 6
    assert latent.shape == (3, 3)
    np.testing.assert_array_equal(latent, algorithm.latent(KEY, 3, truncation=truncation))
    assert truncation is None or float(jnp.max(jnp.abs(latent))) <= truncation
  np.testing.assert_array_equal(algorithm.latent(KEY, 3), jax.random.normal(KEY, (3, 3)))


def test_last_decoded_block_equals_the_prediction(algorithm, nets, predict):
  latent, batch = algorithm.latent(KEY, 3), _batch()
  blocks = jax.jit(functools.partial(algorithm.decode_blocks, num_frames=FRAMES))(nets, _known(batch), latent)
  assert (blocks.shape, blocks.dtype) == ((2, 3, FRAMES, 4, 4, 3), jnp.float32)
  np.testing.assert_allclose(blocks[1], predict(nets, _known(batch), latent), atol=1e-5)
  for block in blocks:
    np.testing.assert_array_equal(to_uint8(block)[:, [0, -1]], batch["video"][:, jnp.array([0, -1])])
  assert np.all(np.abs(blocks[0] - blocks[1])[:, 1:-1].max(axis=(2, 3, 4)) > 1e-3)
  with pytest.raises(UserError, match="the naive baseline has no latent generator"):
    Inbetween(dataclasses.replace(CONFIG, naive=True)).decode_blocks(nets, _known(batch), latent, num_frames=4)


def test_with_batch_moments_predict_repeats_the_pass_in_train_mode(algorithm, nets, train_clips, predict):
  batch = _batch()
  moments = jax.jit(functools.partial(algorithm.batch_moments, options=SampleOptions(num_frames=FRAMES)))
  pooled = moments(nets, _known(batch), KEY)
  _, fake, updated = train_clips(batch, KEY)
  for name, net in nets.items():
    jax.tree.map(np.testing.assert_array_equal, pooled[name].params, net.params)
  for name in GENERATOR:
    # Running statistics keep nine tenths of the old values.
    old, own = nets[name].variables[BATCH_STATS], pooled[name].variables[BATCH_STATS]
    mixed = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, old, own)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4)
    jax.tree.map(close, updated[name][BATCH_STATS], mixed)
  predicted = predict(pooled, _known(batch), algorithm.latent(KEY, 3))
  np.testing.assert_allclose(predicted, fake, atol=1e-3)
  assert float(jnp.max(jnp.abs(predict(nets, _known(batch), algorithm.latent(KEY, 3)) - fake))) > 0.1


@pytest.mark.parametrize(
  "changes",
  [
    {"fusion": False},
    {"naive": True, "encoder_widths": (2, 2), "decoder_widths": (2, 2)},
    {"channels": 1, "remat": True},
  ],
  ids=["no fusion", "naive", "one channel"],
)
def test_baselines_and_greyscale_clips(changes):
  algorithm, batch = Inbetween(dataclasses.replace(CONFIG, **changes)), _batch(channels=changes.get("channels", 3))
  nets = _nets(algorithm, batch)
  predict = jax.jit(functools.partial(algorithm.predict, num_frames=FRAMES))
  latent = algorithm.latent(KEY, 3)
  clips = predict(nets, _known(batch), latent)
  assert clips.shape == batch["video"].shape
  np.testing.assert_array_equal(to_uint8(clips)[:, [0, -1]], batch["video"][:, jnp.array([0, -1])])
  assert np.all(np.abs(predict(nets, _known(batch), latent + 1.0) - clips)[:, 1:-1].max(axis=(1, 2, 3, 4)) > 1e-4)
  for loss in (algorithm.discriminator_loss, algorithm.generator_loss):
    value, output = jax.eval_shape(loss, nets, {}, batch, KEY, jnp.int32(0))
    for scalar in (value, *output.metrics.values()):
      assert (scalar.shape, scalar.dtype) == ((), jnp.float32)
    refreshed = {name: nets[name] for name in output.nets}
    assert jax.tree.map(jnp.shape, output.nets) == jax.tree.map(jnp.shape, refreshed)


def _dtypes(jaxpr, primitive: str | None = None) -> set[str]:
  """Dtypes of all inputs and outputs of a primitive, or of all primitives."""
  found = set()
  for equation in jaxpr.eqns:
    if primitive in (None, equation.primitive.name):
      found |= {str(variable.aval.dtype) for variable in (*equation.invars, *equation.outvars)}
    for value in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "jaxpr")):
      found |= _dtypes(value.jaxpr, primitive) if hasattr(value, "jaxpr") else set()
  return found


def test_in_bfloat16_the_discriminators_update_stays_float32(monkeypatch, nets):
  algorithm, batch = Inbetween(dataclasses.replace(CONFIG, compute_dtype="bfloat16")), _batch()
  loss = lambda nets: algorithm.generator_loss(nets, {}, batch, KEY, jnp.int32(0))
  assert _dtypes(jax.make_jaxpr(loss)(nets).jaxpr, convolution_p.name) == {"bfloat16"}
  value, output = jax.eval_shape(loss, nets)
  assert {leaf.dtype for leaf in jax.tree.leaves((value, output))} == {jnp.dtype(jnp.float32)}
  # The clips, which the generator returns in float32, are replaced: the rest of the update is all float32.
  clips, _ = jax.eval_shape(algorithm.fake_video, nets, batch, KEY)
  assert clips.dtype == jnp.float32
  monkeypatch.setattr(Inbetween, "fake_video", lambda *_: (jnp.zeros(clips.shape), {}))
  loss = lambda nets: algorithm.discriminator_loss(nets, {}, batch, KEY, jnp.int32(0))[0]
  jaxpr = jax.make_jaxpr(jax.grad(loss))(nets).jaxpr
  assert _dtypes(jaxpr, convolution_p.name) == {"float32"}
  assert "bfloat16" not in _dtypes(jaxpr)


@pytest.mark.parametrize(
  ("changes", "batch", "message"),
  [
    ({}, {"frames": 2}, "num_frames=2 leaves nothing between the first and the last frame"),
    ({"video_discriminator_widths": (2, 3)}, {"frames": 6}, r"data\.num_frames=6 must exceed 6: each of the 2 entries"),
    ({"frames_per_clip": 7}, {}, r"algorithm\.frames_per_clip=7 must be in 1\.\.6"),
    ({"frames_per_clip": 0}, {}, r"algorithm\.frames_per_clip=0 must be in 1\.\.6"),
    ({"encoder_widths": (2, 2), "decoder_widths": (2, 2)}, {"size": 6}, r"6x6, .* algorithm\.encoder_widths need .* 4"),
    ({"image_discriminator_widths": (1, 1, 1)}, {"size": 4}, r"4x4, but the 3 entries .* need multiples of 8"),
    ({"video_discriminator_widths": (1, 1)}, {"size": 6}, r"algorithm\.video_discriminator_widths need multiples of 4"),
  ],
)
def test_unsuitable_clips(changes, batch, message):
  with pytest.raises(UserError, match=message):
    Inbetween(dataclasses.replace(CONFIG, **changes)).init(jax.random.key(0), _batch(**batch))
