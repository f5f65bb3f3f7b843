"""Training video classifiers on prepared data sets, and measuring their accuracy.

The score S3 needs them, and so does the Frechet distance on a classifier of the data set in use.
"""

from vidgen_jax.scores.classifier.config import NETWORK_DEFAULTS, ClassifierConfig, NetworkDefaults
from vidgen_jax.scores.classifier.evaluation import Accuracy, accuracy
from vidgen_jax.scores.classifier.network import network_input, predict
from vidgen_jax.scores.classifier.training import EpochRecord, TrainedClassifier, train_classifier

__all__ = [
  "NETWORK_DEFAULTS",
  "Accuracy",
  "ClassifierConfig",
  "EpochRecord",
  "NetworkDefaults",
  "TrainedClassifier",
  "accuracy",
  "network_input",
  "predict",
  "train_classifier",
]
