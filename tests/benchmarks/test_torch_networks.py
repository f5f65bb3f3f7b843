"""The networks of benchmarks/torch_networks are those of the package: outputs in train mode, parameters and FLOPs."""

import functools

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `parity`")

from benchmarks.torch_networks import Trainer, build_system  # noqa: E402
from benchmarks.torch_networks.flops import count_flops  # noqa: E402
from experiments import inbetween_shape_motion, mvt_weizmann, trivd_shape_motion  # noqa: E402
from tests.benchmarks.torch_weights import to_torch  # noqa: E402
from tests.tiny_experiment import TINY  # noqa: E402
from vidgen_jax.bench.cost_estimate import needed_flops, total_flops  # noqa: E402
from vidgen_jax.errors import UserError  # noqa: E402
from vidgen_jax.gans.common import MUTABLE  # noqa: E402
from vidgen_jax.runs.config import from_config_dict  # noqa: E402
from vidgen_jax.runs.experiment import build_experiment  # noqa: E402

TRIVD = TINY | {
  "train.batch_size": 2,
  "data.resolution": 16,
  "algorithm.discriminator_multipliers": (1, 2),
  "algorithm.generator_multipliers": (2, 2),
  "algorithm.upsampled_multipliers": (2, 1),
}
STRONGER = TRIVD | {
  "algorithm.recurrent_unit": "tsru_p",
  "algorithm.decomposition": "stronger",
  "algorithm.generator_blocks": 2,
}
PUBLISHED_MVT = {
  "train.batch_size": 2,
  "algorithm.num_classes": 2,
  "algorithm.sequence_spectral_norm": True,
  "algorithm.embedding_spectral_norm": True,
  "algorithm.conditional_bias": True,
  "algorithm.video_discriminator_batch_norm": True,
}
CASES = {
  "conv_gru": (trivd_shape_motion, "smoke", TRIVD),
  "tsru_p": (trivd_shape_motion, "smoke", STRONGER),
  "inbetween": (inbetween_shape_motion, "smoke", {"train.batch_size": 2}),
  "mvt": (mvt_weizmann, "mvt_tsa_smoke", PUBLISHED_MVT),
}


def _config(name, **changes):
  module, variant, own = CASES[name]
  config = module.get_config(variant)
  config.update_from_flattened_dict(own | changes)
  return from_config_dict(config)


@pytest.fixture(scope="module", params=CASES)
def case(request):
  """(experiment, nets with noise on all parameters, PyTorch system with the same weights)."""
  config = _config(request.param)
  experiment = build_experiment(config, devices=jax.devices()[:1])
  random = np.random.default_rng(0)

  def perturbed(x):
    return x + 0.1 * random.normal(size=x.shape).astype(np.float32)

  # Zeros, such as biases and attention's gamma, would hide differences.
  nets = {
    name: net.replace(params=jax.tree.map(perturbed, net.params)) for name, net in experiment.init_state().nets.items()
  }
  system = build_system(config)
  for name, module in system.nets.items():
    weights = {key: torch.from_numpy(value) for key, value in to_torch(nets[name], module).items()}
    missing, unexpected = module.load_state_dict(weights, strict=False)
    statistics = {key for key, _ in module.named_buffers() if not key.endswith(".u") and key != "u"}
    assert not unexpected and set(missing) <= statistics
  return experiment, nets, system


def _apply(module, net, *inputs, **options):
  """(output, net with its updated variables) in train mode."""
  collections = [name for name in MUTABLE if name in net.variables]
  run = jax.jit(lambda *inputs: module.apply(net.collections, *inputs, **options, mutable=collections))
  output, variables = run(*inputs)
  return jax.tree.map(np.asarray, output), net.replace(variables=variables)


def _check(found, expected, module, net):
  np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-4, atol=1e-4)
  assert np.ptp(expected) > 1e-2
  # The power iterations agree as well.
  for name, value in to_torch(net, module).items():
    if name.endswith(".u"):
      np.testing.assert_allclose(module.get_buffer(name).numpy(), value, atol=1e-4, err_msg=name)


def _video(experiment):
  _, size, *rest = experiment.batch_shape()["video"].shape
  return np.random.default_rng(1).uniform(-1, 1, (size, *rest)).astype(np.float32)


def _channels_first(video):
  return torch.from_numpy(np.moveaxis(video, -1, 2).copy())


def test_generators(case):
  experiment, nets, system = case
  video, label = _video(experiment), np.array([0, 1], np.int32)
  c, labels = experiment.config.algorithm, torch.tensor([0, 1])
  random = np.random.default_rng(2)
  module, net = experiment.algorithm.networks().get("generator"), nets.get("generator")
  if experiment.config.algorithm_name == "trivd":
    latent = random.normal(size=(2, c.latent_features)).astype(np.float32)
    conditioning, frames = video[:, : c.conditioning_frames], video.shape[1] - c.conditioning_frames
    expected, net = _apply(module, net, conditioning, latent, label, num_frames=frames, train=True)
    found = system.nets["generator"](_channels_first(conditioning), torch.from_numpy(latent), labels)
    _check(found, np.moveaxis(expected, -1, 2), system.nets["generator"], net)
  elif experiment.config.algorithm_name == "mvt":
    latent = random.normal(size=(2, sum(c.latent_sizes))).astype(np.float32)
    module = experiment.algorithm.generator(video.shape[2:4])
    expected, net = _apply(module, net, latent, label, num_frames=video.shape[1], train=True)
    found = system.nets["generator"](torch.from_numpy(latent), labels)
    _check(found, np.moveaxis(expected, -1, 2), system.nets["generator"], net)
  else:
    modules = experiment.algorithm.generators(num_frames=video.shape[1])
    noise, ends = random.normal(size=(2, c.latent_features)).astype(np.float32), video[:, [0, -1]]
    encoded, _ = _apply(modules["encoder"], nets["encoder"], ends, train=True)
    found = system.nets["encoder"](_channels_first(ends).flatten(0, 1)).unflatten(0, (2, 2))
    _check(found, np.moveaxis(encoded, -1, 2), system.nets["encoder"], nets["encoder"])
    options = {"num_frames": video.shape[1], "train": True}
    latent, _ = _apply(modules["latent_generator"], nets["latent_generator"], encoded, noise, **options)
    found = system.nets["latent_generator"](found.transpose(1, 2), torch.from_numpy(noise))
    _check(found, np.moveaxis(latent, -1, 1), system.nets["latent_generator"], nets["latent_generator"])
    decoded, _ = _apply(modules["video_generator"], nets["video_generator"], latent, train=True)
    found = torch.tanh(system.nets["video_generator"](found))
    _check(found, np.moveaxis(decoded, -1, 1), system.nets["video_generator"], nets["video_generator"])


def test_discriminators(case):
  experiment, nets, system = case
  video, label = _video(experiment), np.array([0, 1], np.int32)
  labels = torch.tensor([0, 1])
  if experiment.config.algorithm_name == "inbetween":
    modules = experiment.algorithm.discriminators(dtype=np.float32)
    for name, x in (("image_disc", video[:, 0]), ("video_disc", video)):
      expected, _ = _apply(modules[name], nets[name], x)
      found = system.nets[name](torch.from_numpy(np.moveaxis(x, -1, 1).copy()))
      _check(found[:, 0], expected, system.nets[name], nets[name])
    return
  for name in set(nets) - {"generator"}:
    module = experiment.algorithm.networks()[name]
    expected, net = _apply(module, nets[name], video, label, train=True)
    found = system.nets[name](_channels_first(video), labels)
    if isinstance(found, tuple):
      found, expected = torch.cat(found), np.concatenate([expected.unconditional, expected.conditional])
    _check(found, expected, system.nets[name], net)


def _batch(config, system):
  data, count = config.data, sum(update.repeats for update in system.updates())
  shape = (count, config.train.batch_size, data.num_frames, data.channels, data.resolution, data.resolution)
  return torch.randint(256, shape, dtype=torch.uint8), torch.zeros(shape[:2], dtype=torch.long)


@pytest.mark.parametrize("name", CASES)
def test_flops_of_a_step_agree(name):
  config = _config(name, **{"train.batch_size": 8})
  system = build_system(config)
  trainer = Trainer(system, config, "cpu", bfloat16=False, compiled=False)
  found = count_flops(lambda: trainer.step(*_batch(config, system)))
  experiment = build_experiment(config, devices=jax.devices()[:1])
  assert found == pytest.approx(total_flops(needed_flops(experiment, "main", backend="tpu")), rel=0.01)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("channels_last", "bfloat16"), [(True, False), (False, True)])
def test_memory_layouts_and_bfloat16_give_nearly_the_same_losses(name, channels_last, bfloat16):
  config = _config(name)
  losses = {}
  for options in ((False, False), (channels_last, bfloat16)):
    torch.manual_seed(0)
    system = build_system(config, channels_last=options[0])
    trainer = Trainer(system, config, "cpu", bfloat16=options[1], compiled=False)
    losses[options] = {k: float(v) for k, v in trainer.step(*_batch(config, system)).items() if k == "disc/loss"}
  first, second = losses.values()
  assert second == pytest.approx(first, rel=0.2 if bfloat16 else 1e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_compiled_networks_take_the_same_steps(monkeypatch):
  # The backend that checks the traced graphs without generating code.
  monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
  config, losses = _config("tsru_p"), []
  for compiled in (False, True):
    torch.manual_seed(0)
    system = build_system(config)
    trainer, batch = Trainer(system, config, "cpu", bfloat16=False, compiled=compiled), _batch(config, system)
    trainer.step(*batch)
    # The second step's losses depend on the first one's updates and power iterations.
    losses.append({name: float(value) for name, value in trainer.step(*batch).items() if name.endswith("loss")})
  assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_a_step_trains_and_averages():
  config = _config("mvt", **{"ema.decay": 0.75, "ema.warmup": False})
  system = build_system(config)
  trainer = Trainer(system, config, "cpu", bfloat16=False, compiled=False)
  before = [p.clone() for p in trainer.live]
  discriminator = [p.detach().clone() for p in system.nets["image_disc"].parameters()]
  metrics = trainer.step(*_batch(config, system))
  assert metrics["gen/grad_norm"] > 0 and metrics["disc/grad_norm"] > 0
  assert any(not torch.equal(a, b) for a, b in zip(discriminator, system.nets["image_disc"].parameters(), strict=True))
  for old, new, average in zip(before, trainer.live, trainer.averages, strict=True):
    torch.testing.assert_close(average, 0.75 * old + 0.25 * new)


@pytest.mark.parametrize(
  ("name", "changes", "message"),
  [
    ("conv_gru", {"algorithm.recurrent_unit": "tsru_s"}, "conv_gru, tsru_p, not tsru_s"),
    ("conv_gru", {"algorithm.remat": True}, "remat=False"),
    ("inbetween", {"algorithm.naive": True}, "naive=False"),
    ("mvt", {"algorithm.motion_constraint": 1.0}, "motion_constraint=0"),
  ],
)
def test_what_the_pytorch_version_lacks_is_an_error(name, changes, message):
  with pytest.raises(UserError, match=message):
    build_system(_config(name, **changes))
