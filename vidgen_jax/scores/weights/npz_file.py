"""Archives of NumPy arrays, such as Chainer's snapshots. Pickled arrays are refused."""

import io
import math
import pathlib
import zipfile
import zlib

import numpy as np

from vidgen_jax.errors import UserError

_SUFFIX = ".npy"


def is_npz_file(data: bytes) -> bool:
  """Whether the bytes of a file look like a zip archive of arrays."""
  try:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
      return any(name.endswith(_SUFFIX) for name in archive.namelist())
  except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
    return False


def read_npz_file(path: str | pathlib.Path) -> dict[str, np.ndarray]:
  """Reads the arrays of a file made by `numpy.savez` or `chainer.serializers.save_npz`.

  Args:
    path: the file.

  Returns:
    Arrays by name, with '/' where the names have it.

  Raises:
    UserError: if it is no such file, is damaged, or holds Python objects.
  """
  try:
    with zipfile.ZipFile(path) as archive:
      infos = [info for info in archive.infolist() if info.filename.endswith(_SUFFIX)]
      return {info.filename.removesuffix(_SUFFIX): _read_array(archive, info) for info in infos}
  except OSError as error:
    raise UserError(f"{path} cannot be read: {error.strerror or error}; check the path") from error
  except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
    reason = " ".join(str(error).split()) or "it is damaged"
    raise UserError(f"{path} cannot be read: {reason}; fetch or write the file again") from error


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
  data = archive.read(info)
  file = io.BytesIO(data)
  version = np.lib.format.read_magic(file)
  read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
  if read_header is None:
    raise ValueError(f"{info.filename} is of version {version} of the format")
  shape, fortran_order, dtype = read_header(file)
  if dtype.hasobject:
    raise ValueError(f"{info.filename} holds Python objects; save plain arrays")
  # Before anything is allocated: the header may ask for more than there is.
  if math.prod(shape) * dtype.itemsize != len(data) - file.tell():
    raise ValueError(f"{info.filename} does not have the size that its shape needs")
  return np.frombuffer(data, dtype, offset=file.tell()).reshape(shape, order="F" if fortran_order else "C")
