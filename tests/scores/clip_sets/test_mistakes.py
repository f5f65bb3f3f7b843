"""Sets that are usable but probably wrong are logged."""

import numpy as np

from vidgen_jax.scores.clip_sets import ClipOptions, open_clips
from vidgen_jax.scores.clip_sets.mistakes import warn_of_mistakes, warn_of_mistakes_by_facts


def test_copies_and_frame_rates_are_logged(tmp_path, make, caplog):
  for name, rates in {"real": (25, 25, 25), "fake": (25, 10, 10)}.items():
    for index, rate in enumerate(rates):
      make.video(tmp_path / name / f"{index}.mp4", make.clip(index % 2, height=16, width=16), rate=rate)
  warn_of_mistakes(*(open_clips(tmp_path / name, ClipOptions()) for name in ("real", "fake")))
  assert [record.getMessage() for record in caplog.records] == [
    "--real: 1 of 3 clips repeat another clip of the set, such as 2.mp4, which equals 0.mp4; remove the copies",
    "--fake: 1 of 3 clips repeat another clip of the set, such as 2.mp4, which equals 0.mp4; remove the copies",
    "--fake: 3 of 3 clips are real clips, such as 0.mp4, which equals 0.mp4; score clips that the model generated",
    "--real has 25 frames per second, --fake 10, 25: motion differs in speed; write both at one rate",
  ]


def test_nearly_equal_frame_rates_are_not(tmp_path, make, caplog):
  for index, rate in enumerate(("30", "30000/1001")):
    make.video(tmp_path / str(index) / "0.mp4", make.clip(index, height=16, width=16), rate=rate)
  sets = [open_clips(tmp_path / str(index), ClipOptions()) for index in range(2)]
  assert [clips.frame_rates for clips in sets] == [(30.0,), (29.97,)]
  warn_of_mistakes(*sets)
  assert not caplog.records


def test_sets_of_different_clips_are_not(tmp_path, make, caplog):
  for index, name in enumerate(("real", "fake")):
    np.save(tmp_path / f"{name}.npy", np.stack([make.clip(2 * index), make.clip(2 * index + 1)]))
  warn_of_mistakes(*(open_clips(tmp_path / f"{name}.npy", ClipOptions()) for name in ("real", "fake")))
  assert not caplog.records


def test_mistakes_are_known_from_the_facts_of_a_set(tmp_path, make, caplog):
  for index in range(2):
    make.video(tmp_path / f"{index}.mp4", make.clip(0, height=16, width=16), rate=30)
  fast, slow = (open_clips(tmp_path, ClipOptions(frame_stride=stride)) for stride in (1, 3))
  fast.digests()
  warn_of_mistakes_by_facts(fast.facts, fast)
  warn_of_mistakes_by_facts(fast.facts | {"fps": []}, slow)
  warn_of_mistakes_by_facts(fast.facts | {"fps": [10.0]}, slow)
  repeat = "--fake: 1 of 2 clips repeat another clip of the set, such as 1.mp4, which equals 0.mp4; remove the copies"
  assert [record.getMessage() for record in caplog.records] == [
    repeat,
    "--fake: all clips are those of --real; score clips that the model generated",
    repeat,
    "--real was made with --frame_stride=1, --fake with 3: motion may differ in speed",
    repeat,
  ]
