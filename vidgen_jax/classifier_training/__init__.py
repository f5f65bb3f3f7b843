"""Training video classifiers on prepared data sets, and measuring their accuracy.

The score S3 needs them, and so does the Frechet distance on a classifier of the data set in use.
"""

from vidgen_jax.classifier_training.config import NETWORK_DEFAULTS, ClassifierConfig, NetworkDefaults
from vidgen_jax.classifier_training.evaluation import Accuracy, accuracy
from vidgen_jax.classifier_training.network import network_input, predict
from vidgen_jax.classifier_training.training import EpochRecord, TrainedClassifier, train_classifier

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
