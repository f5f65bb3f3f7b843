"""Inbetweening on networks of a few weights: losses, what they train and see, sampling, baselines, bad settings."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.one_step import KEY, OneStep, moved_nets
from vidgen_jax.core.state import NetState
from vidgen_jax.errors import UserError
from vidgen_jax.gans import Inbetween, InbetweenConfig, SampleOptions
from vidgen_jax.nn.norm import BATCH_STATS
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


def _given(batch):
  return {"conditioning": batch["video"][:, jnp.array([0, -1])], "label": batch["label"]}


def _nets(algorithm: Inbetween, batch) -> dict[str, NetState]:
  """Nets of the shapes that `init` gives, drawn with numpy."""
  rng = np.random.default_rng(1)

  def leaf(path, shape):
    values, name = rng.normal(size=shape.shape).astype(np.float32), getattr(path[-1], "key", "")
    # Biases small beside what they are added to, so that the inputs still decide.
    return jnp.asarray(np.abs(values) + 0.5 if name == "var" else (0.1 if name == "bias" else 0.5) * values)

  return jax.tree.map_with_path(leaf, jax.eval_shape(algorithm.init, jax.random.key(0), batch))


def _mute(nets: dict[str, NetState], net: str, output) -> dict[str, NetState]:
  """Nets of which one gives a constant: the parameters `output` of its last layer are set."""
  params = nets[net].params
  return nets | {net: nets[net].replace(params=params | {"output": params["output"] | output})}


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
def still(step, nets):
  """(nets, metrics) of a step whose learning rates are 0, so that both losses are of the same parameters."""
  return step(nets, _batch())


@pytest.fixture(scope="module")
def predict(algorithm):
  return jax.jit(functools.partial(algorithm.predict, num_frames=FRAMES))


@pytest.fixture(scope="module")
def train_clips(algorithm, nets):
  """(batch, key) -> (real clips, generated ones as in training, the generator's statistics), from the modules."""
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


def test_initial_nets_have_the_collections_of_a_state_and_nothing_else():
  for changes in ({}, {"fusion": False}, {"naive": True, "encoder_widths": (2, 2), "decoder_widths": (2, 2)}):
    config = dataclasses.replace(CONFIG, **changes)
    shapes = jax.eval_shape(Inbetween(config).init, jax.random.key(0), _batch())
    assert set(shapes) == {*GENERATOR, IMAGE, VIDEO}
    stateless = {IMAGE, VIDEO} | ({"latent_generator"} if config.naive else set())
    for name, net in shapes.items():
      assert set(net.variables) == (set() if name in stateless else {BATCH_STATS})
      assert {leaf.dtype for leaf in jax.tree.leaves(net)} == {jnp.dtype(jnp.float32)}


def test_the_first_and_the_last_frame_are_given(algorithm):
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
  """Two of the frames 1..T - 2 of each clip: where a uniform draw is least."""
  chosen = 1 + np.sort(np.argsort(jax.random.uniform(key, (len(video), FRAMES - 2)), axis=1)[:, :2], axis=1)
  return np.concatenate([clip[places] for clip, places in zip(video, chosen, strict=True)])


def _log(x):
  return np.log1p(np.exp(x)).mean()


def test_losses_against_networks_called_one_by_one(algorithm, nets, step, still, train_clips):
  updated, metrics = still
  evaluate = {}
  for name in (IMAGE, VIDEO):
    one = lambda x, name=name: algorithm.networks()[name].apply(nets[name].collections, x[None])[0]
    slopes = jax.jit(jax.vmap(jax.value_and_grad(one)))

    def logits_and_norms(seen, slopes=slopes):
      logits, gradients = (np.asarray(x, np.float64) for x in slopes(seen))
      return logits, np.sum(np.square(gradients), axis=tuple(range(1, seen.ndim)))

    evaluate[name] = logits_and_norms

  keys = jax.random.split(step.loss_key("disc"), 3)
  real, fake, _ = train_clips(_batch(), keys[0])
  seen = {IMAGE: (_frames(real, keys[1]), _frames(fake, keys[2])), VIDEO: (real, fake)}
  expected = {"disc/loss": 0.0}
  for name, clips in seen.items():
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
  # What the generator's own pass left; the pass of the discriminators' update leaves nothing.
  for name in GENERATOR:
    close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4)
    jax.tree.map(close, updated[name].variables, stats[name])


@pytest.mark.parametrize(("rates", "moved"), [({"disc": 1e-3}, {IMAGE, VIDEO}), ({"gen": 1e-3}, set(GENERATOR))])
def test_each_update_moves_its_own_nets(rates, moved, step, still, nets):
  updated, _ = step(nets, _batch(), **rates)
  assert moved_nets(nets, updated) == moved
  for name, net in nets.items():
    # Adam's first step is as long as the rate.
    change = jax.tree.map(lambda new, old: float(np.abs(new - old).max()), updated[name].params, net.params)
    assert max(jax.tree.leaves(change)) < 1.01e-3
    # The generator's statistics are refreshed whatever the rates, by its own update.
    assert jax.tree.structure(updated[name].variables) == jax.tree.structure(net.variables)
    jax.tree.map(np.testing.assert_array_equal, updated[name].variables, still[0][name].variables)


def test_the_image_discriminator_sees_only_frames_between_the_given_ones(nets, step):
  # The encoder is mute, so that the conditioning frames reach the discriminators as they are or not at all.
  nets = _mute(nets, "encoder", {"norm": {"scale": jnp.zeros(2), "bias": jnp.array([0.4, -0.2])}})
  batch = _batch()
  poisoned = batch | {"video": batch["video"].at[:, jnp.array([0, -1])].set(255)}
  before, after = (step(nets, clips)[1] for clips in (batch, poisoned))
  for update in ("disc", "gen"):
    for metric in ("loss", "real", "fake", "gradient_penalty") if update == "disc" else ("loss",):
      assert before[f"{update}/{IMAGE}/{metric}"] == after[f"{update}/{IMAGE}/{metric}"], metric
      assert before[f"{update}/{VIDEO}/{metric}"] != after[f"{update}/{VIDEO}/{metric}"], metric


@pytest.mark.parametrize("drawn", [1, 3])
def test_frames_are_drawn_uniformly_and_for_each_clip(drawn):
  algorithm = Inbetween(dataclasses.replace(CONFIG, frames_per_clip=drawn))
  video = jnp.broadcast_to(jnp.arange(6.0).reshape(1, 6, 1, 1, 1), (400, 6, 1, 1, 1))
  frames = np.asarray(algorithm._frames(video, KEY))
  assert frames.shape == (400 * drawn, 1, 1, 1)
  places = frames.astype(int).reshape(400, drawn)
  assert all(len(set(clip)) == drawn for clip in places.tolist())
  counts = np.bincount(places.ravel(), minlength=6)
  assert counts[0] == counts[5] == 0
  # Each of the four is drawn with the chance 1/4 or 3/4: four standard deviations of the binomial are 35.
  assert np.abs(counts[1:5] - 100 * drawn).max() < 35


def test_sampled_clips_hold_the_given_frames(algorithm, nets, predict):
  batch = _batch()
  latent = algorithm.latent(KEY, 3)
  clips = predict(nets, _given(batch), latent)
  assert (clips.shape, clips.dtype) == ((3, FRAMES, 4, 4, 3), jnp.float32)
  np.testing.assert_array_equal(to_uint8(clips)[:, [0, -1]], batch["video"][:, jnp.array([0, -1])])
  between = clips[:, 1:-1]
  assert 0.05 < float(jnp.std(between)) < float(jnp.max(jnp.abs(between))) <= 1.0
  # Labels change nothing.
  np.testing.assert_array_equal(predict(nets, _given(batch) | {"label": jnp.zeros(3, jnp.int32)}, latent), clips)


@pytest.mark.parametrize("changed", ["latent", "first frame", "last frame"])
def test_every_clip_is_made_of_its_own_frames_and_noise(changed, algorithm, nets, predict):
  latent, conditioning = algorithm.latent(KEY, 3), _given(_batch())
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
  # It concerns every frame between.
  assert np.all(np.abs(after - before)[1, 1:-1].max(axis=(1, 2, 3)) > 1e-4)


def test_samples_are_predictions_from_truncated_latents(monkeypatch, algorithm, nets):
  monkeypatch.setattr(Inbetween, "predict", lambda self, nets, batch, latent, *, num_frames: (latent, num_frames))
  for truncation in (None, 0.5, 0.0):
    options = SampleOptions(num_frames=6, truncation=truncation)
    latent, num_frames = algorithm.sample(nets, _given(_batch()), KEY, options=options)
    assert num_frames == 6
    assert latent.shape == (3, 3)
    np.testing.assert_array_equal(latent, algorithm.latent(KEY, 3, truncation=truncation))
    assert truncation is None or float(jnp.max(jnp.abs(latent))) <= truncation
  np.testing.assert_array_equal(algorithm.latent(KEY, 3), jax.random.normal(KEY, (3, 3)))


def test_decoded_blocks_end_with_the_prediction(algorithm, nets, predict):
  latent, batch = algorithm.latent(KEY, 3), _batch()
  blocks = jax.jit(functools.partial(algorithm.decode_blocks, num_frames=FRAMES))(nets, _given(batch), latent)
  assert (blocks.shape, blocks.dtype) == ((2, 3, FRAMES, 4, 4, 3), jnp.float32)
  np.testing.assert_allclose(blocks[1], predict(nets, _given(batch), latent), atol=1e-5)
  for block in blocks:
    np.testing.assert_array_equal(to_uint8(block)[:, [0, -1]], batch["video"][:, jnp.array([0, -1])])
  assert np.all(np.abs(blocks[0] - blocks[1])[:, 1:-1].max(axis=(2, 3, 4)) > 1e-3)
  with pytest.raises(UserError, match="the naive baseline has no latent generator"):
    Inbetween(dataclasses.replace(CONFIG, naive=True)).decode_blocks(nets, _given(batch), latent, num_frames=4)


def test_from_a_batchs_own_moments_the_generator_repeats_training(algorithm, nets, train_clips, predict):
  batch = _batch()
  moments = jax.jit(functools.partial(algorithm.batch_moments, options=SampleOptions(num_frames=FRAMES)))
  pooled = moments(nets, _given(batch), KEY)
  _, fake, updated = train_clips(batch, KEY)
  for name, net in nets.items():
    jax.tree.map(np.testing.assert_array_equal, pooled[name].params, net.params)
  for name in GENERATOR:
    # Training keeps nine tenths of the old statistics.
    old, own = nets[name].variables[BATCH_STATS], pooled[name].variables[BATCH_STATS]
    mixed = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, old, own)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4)
    jax.tree.map(close, updated[name][BATCH_STATS], mixed)
  predicted = predict(pooled, _given(batch), algorithm.latent(KEY, 3))
  np.testing.assert_allclose(predicted, fake, atol=1e-3)
  assert float(jnp.max(jnp.abs(predict(nets, _given(batch), algorithm.latent(KEY, 3)) - fake))) > 0.1


@pytest.mark.parametrize(
  "changes",
  [
    {"fusion": False},
    {"naive": True, "encoder_widths": (2, 2), "decoder_widths": (2, 2)},
    {"channels": 1, "remat": True, "unroll": True},
  ],
  ids=["no fusion", "naive", "one channel"],
)
def test_baselines_and_grey_clips(changes):
  algorithm, batch = Inbetween(dataclasses.replace(CONFIG, **changes)), _batch(channels=changes.get("channels", 3))
  nets = _nets(algorithm, batch)
  predict = jax.jit(functools.partial(algorithm.predict, num_frames=FRAMES))
  latent = algorithm.latent(KEY, 3)
  clips = predict(nets, _given(batch), latent)
  assert clips.shape == batch["video"].shape
  np.testing.assert_array_equal(to_uint8(clips)[:, [0, -1]], batch["video"][:, jnp.array([0, -1])])
  assert np.all(np.abs(predict(nets, _given(batch), latent + 1.0) - clips)[:, 1:-1].max(axis=(1, 2, 3, 4)) > 1e-4)
  for loss in (algorithm.discriminator_loss, algorithm.generator_loss):
    value, output = jax.eval_shape(loss, nets, {}, batch, KEY, jnp.int32(0))
    for scalar in (value, *output.metrics.values()):
      assert (scalar.shape, scalar.dtype) == ((), jnp.float32)
    refreshed = {name: nets[name] for name in output.nets}
    assert jax.tree.map(jnp.shape, output.nets) == jax.tree.map(jnp.shape, refreshed)


def _dtypes(jaxpr, primitive: str | None = None) -> set[str]:
  """Of all that goes into or comes out of a primitive (or all of them)."""
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
  assert _dtypes(jax.make_jaxpr(loss)(nets).jaxpr, "conv_general_dilated") == {"bfloat16"}
  value, output = jax.eval_shape(loss, nets)
  assert {leaf.dtype for leaf in jax.tree.leaves((value, output))} == {jnp.dtype(jnp.float32)}
  # All of the discriminators' update but the clips, which the generator hands over in float32.
  clips, _ = jax.eval_shape(algorithm._fake_video, nets, batch, KEY)
  assert clips.dtype == jnp.float32
  monkeypatch.setattr(Inbetween, "_fake_video", lambda *_: (jnp.zeros(clips.shape), {}))
  loss = lambda nets: algorithm.discriminator_loss(nets, {}, batch, KEY, jnp.int32(0))[0]
  jaxpr = jax.make_jaxpr(jax.grad(loss))(nets).jaxpr
  assert _dtypes(jaxpr, "conv_general_dilated") == {"float32"}
  assert "bfloat16" not in _dtypes(jaxpr)


@pytest.mark.parametrize(
  ("changes", "batch", "message"),
  [
    ({}, {"frames": 2}, "num_frames=2 leaves nothing between the first and the last frame"),
    ({"video_discriminator_widths": (2, 3)}, {"frames": 6}, r"data\.num_frames=6 must exceed 6: each of the 2 entries"),
    ({"frames_per_clip": 7}, {}, r"algorithm\.frames_per_clip=7 must lie in 1\.\.6"),
    ({"frames_per_clip": 0}, {}, r"algorithm\.frames_per_clip=0 must lie in 1\.\.6"),
    ({"encoder_widths": (2, 2), "decoder_widths": (2, 2)}, {"size": 6}, r"6x6, .* algorithm\.encoder_widths need .* 4"),
    ({"image_discriminator_widths": (1, 1, 1)}, {"size": 4}, r"4x4, but the 3 entries .* need multiples of 8"),
    ({"video_discriminator_widths": (1, 1)}, {"size": 6}, r"algorithm\.video_discriminator_widths need multiples of 4"),
  ],
)
def test_clips_that_do_not_fit(changes, batch, message):
  with pytest.raises(UserError, match=message):
    Inbetween(dataclasses.replace(CONFIG, **changes)).init(jax.random.key(0), _batch(**batch))
