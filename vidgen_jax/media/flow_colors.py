"""Motion fields as colours, with the colour wheel of the Middlebury optical-flow benchmark (Baker et al. 2011).

Hue shows direction: red right, yellow down, cyan left, blue up. Saturation shows length, from white (no motion) to the
full colour at the given radius.
"""

import numpy as np

_SEGMENTS = (
  ((255, 0, 0), 15),
  ((255, 255, 0), 6),
  ((0, 255, 0), 4),
  ((0, 255, 255), 11),
  ((0, 0, 255), 13),
  ((255, 0, 255), 6),
)
"""Corners of the wheel, each with the number of steps to the next: 55 colours, perceptually about equidistant."""


def flow_colors(flow: np.ndarray, *, radius: float) -> np.ndarray:
  """A motion field [..., 2], (dx, dy) with x to the right and y down, as an image uint8 [..., 3].

  `radius` is the length shown in full colour, in the unit of the flow; longer motions are darker.
  """
  flow = np.asarray(flow, np.float64)
  if not np.isfinite(flow).all():
    raise ValueError("flow_colors needs finite motions")
  wheel = _wheel()
  # As in the benchmark, -pi to pi spans the first to the last colour. Adding 0 turns -0 into +0.
  angle = np.arctan2(-(flow[..., 1] + 0.0), -(flow[..., 0] + 0.0))
  position = (angle / np.pi + 1.0) / 2.0 * (len(wheel) - 1)
  first = np.floor(position).astype(np.intp)
  share = (position - first)[..., None]
  hue = (1.0 - share) * wheel[first] + share * wheel[(first + 1) % len(wheel)]
  length = (np.linalg.norm(flow, axis=-1) / radius)[..., None]
  colour = np.where(length <= 1.0, 255.0 - length * (255.0 - hue), 0.75 * hue)
  return np.floor(colour).astype(np.uint8)


def wheel_image(size: int) -> np.ndarray:
  """The legend uint8 [size, size, 3]: each pixel of a disc has the colour of the motion from the centre to it."""
  radius = (size - 1) / 2
  flow = np.moveaxis(np.mgrid[:size, :size] - radius, 0, -1)[..., ::-1]
  inside = np.linalg.norm(flow, axis=-1) <= radius
  return np.where(inside[..., None], flow_colors(flow, radius=radius), np.uint8(255))


def _wheel() -> np.ndarray:
  """float64 [55, 3]; between two corners one channel changes in equal integer steps."""
  colours = []
  for (start, steps), (stop, _) in zip(_SEGMENTS, (*_SEGMENTS[1:], _SEGMENTS[0]), strict=True):
    changed = 255 * np.arange(steps) // steps
    colours.append(np.asarray(start) + np.sign(np.subtract(stop, start)) * changed[:, None])
  return np.concatenate(colours).astype(np.float64)
