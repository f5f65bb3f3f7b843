"""The symmetric similarity score S3: how far real and synthetic clips teach each other's classes.

Munoz et al., Temporal Shift GAN for Large Scale Video Generation, section 5. It is above 0 and reaches 1 where a
classifier cannot tell which of the two it was trained on; noise can lift it a little above that.
"""

import math


def s3_score(*, ser: float, res: float, rer: float) -> float:
  """sqrt((SeR / ReR) (ReS / ReR)), equation 9.

  Accuracies are shares in [0, 1]; scores of classifiers of different architecture cannot be compared (appendix B.1).

  Args:
    ser: of a classifier trained on synthetic clips, on real ones: needs diverse and realistic clips.
    res: of a classifier trained on real clips, on synthetic ones: needs realistic clips.
    rer: of a classifier trained on real clips, on real ones.

  Returns:
    The score; 0 where `ser` or `res` is.

  Raises:
    ValueError: if an accuracy is not in [0, 1], or `rer` is 0.
  """
  for name, value in (("ser", ser), ("res", res), ("rer", rer)):
    # Written so that NaN fails too.
    if not 0.0 <= value <= 1.0:
      raise ValueError(f"{name} must be an accuracy in [0, 1], got {value}; divide percentages by 100")
  if rer == 0.0:
    raise ValueError("S3 is not defined where no real clip is recognised (rer=0); train a better classifier")
  return math.sqrt((ser / rer) * (res / rer))
