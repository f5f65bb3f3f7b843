"""Means of the latent's parts that replace those of a run's config in sampling."""

import jax
import numpy as np
import pytest

from experiments import mvt_weizmann, trivd_shape_motion
from vidgen_jax.errors import UserError
from vidgen_jax.runs.config import from_config_dict
from vidgen_jax.runs.sampling.samplers import load_run, with_sampling_means

pytest_plugins = ("tests.trained_runs",)


def test_latents_of_a_loaded_run_have_the_means(noise_folder):
  gans = [load_run(str(noise_folder), num_clips=1, sampling_means=words).experiment.algorithm for words in ([], "421")]
  key, scales = jax.random.key(0), np.repeat(gans[0].config.latent_scales, gans[0].config.latent_sizes)
  plain, shifted = (np.asarray(gan.latent(key, 2)) * scales for gan in gans)
  expected = np.repeat([4.0, 2.0, 1.0], gans[0].config.latent_sizes)
  np.testing.assert_allclose(shifted - plain, np.tile(expected, (2, 1)), atol=1e-5)


@pytest.mark.parametrize(
  ("module", "variant", "words", "message"),
  [
    (trivd_shape_motion, "smoke", ["1"], "the latents of trivd have no parts"),
    (mvt_weizmann, "mvt_smoke", ["1", "x", "0"], "--sampling_means=1,x,0 must be numbers"),
    (mvt_weizmann, "mvt_smoke", ["1"], "sampling_means=.1.0,. must have the same number of entries"),
  ],
)
def test_unsuitable_means_are_refused(module, variant, words, message):
  config = from_config_dict(module.get_config(variant))
  with pytest.raises(UserError, match=message):
    with_sampling_means(config, words)
