import io

import numpy as np
import pytest

from vidgen_jax.scores.clip_sets import ClipOptions, open_clips

FILES_OF_A_KIND = 10


def originals(folder, make):
  """Undamaged files of six kinds, by suffix."""
  rng = np.random.default_rng(0)
  noise = rng.integers(256, size=(6, 16, 16, 3), dtype=np.uint8)
  for name in ("a.mp4", "a.avi", "a.webm"):
    yield name[1:], make.video(folder / name, noise).read_bytes()
  yield ".png", make.strip_bytes(noise)
  for suffix, save in {".npy": np.save, ".npz": np.savez_compressed}.items():
    buffer = io.BytesIO()
    save(buffer, noise[None])
    yield suffix, buffer.getvalue()


def damage(data: bytes, rng) -> bytes:
  """Truncates, changes bytes, writes zeros, or repeats a part."""
  data = bytearray(data)
  at = int(rng.integers(len(data)))
  kind = int(rng.integers(4))
  if kind == 0:
    del data[at:]
  elif kind == 1:
    for position in rng.integers(len(data), size=int(rng.integers(1, 20))):
      data[int(position)] = int(rng.integers(256))
  elif kind == 2:
    data[at : at + 64] = bytes(len(data[at : at + 64]))
  else:
    data[at:at] = data[at // 2 : at]
  return bytes(data)


def write_damaged(folder, make, *, seed):
  """Writes damaged files, whose names are returned, and one undamaged file of each kind."""
  rng = np.random.default_rng(seed)
  names = set()
  folder.mkdir()
  for suffix, data in originals(folder.parent, make):
    (folder / f"undamaged{suffix}").write_bytes(data)
    for index in range(FILES_OF_A_KIND):
      (folder / f"damaged_{suffix[1:]}_{index:02d}{suffix}").write_bytes(damage(data, rng))
      names.add(f"damaged_{suffix[1:]}_{index:02d}{suffix}")
  return names


@pytest.mark.filterwarnings("ignore:.*additional header parsing:UserWarning")
def test_every_damaged_file_is_either_listed_or_read(tmp_path, make):
  names = write_damaged(tmp_path / "clips", make, seed=0)
  with open_clips(str(tmp_path / "clips"), ClipOptions(num_frames=4, resolution=16)) as clips:
    read = sum(map(len, clips.batches(16)))
    used = {name.split("[")[0] for name in clips.clip_names}
    listed = dict(clips.skipped)
  assert read == len(clips) >= 6
  assert used | set(listed) == names | {
    f"undamaged{suffix}" for suffix in (".mp4", ".avi", ".webm", ".png", ".npy", ".npz")
  }
  assert not used & set(listed)
  assert len(listed) > 15
  assert all(reason and "\n" not in reason for reason in listed.values())
