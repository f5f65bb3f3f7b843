"""Building a data set by an Apache Beam pipeline, on a cluster or on this machine.

The workers share the folders of the source and of the data set with the machine that starts the build. Decoded videos
go into the same staging cache as those of a build without Beam, so either continues what the other began.
"""

import dataclasses
import importlib.util
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorflow_datasets as tfds

from vidgen_jax.data import building, records
from vidgen_jax.data.decoding import Decoder, IsolatedDecoder, Staged
from vidgen_jax.data.listing import SourceFile
from vidgen_jax.errors import UserError

if TYPE_CHECKING:
  import apache_beam


@dataclasses.dataclass(frozen=True)
class BeamRun:
  """How pipelines are run.

  Attributes:
    flags: of Beam's pipelines, '--runner=DirectRunner', ...
  """

  flags: Sequence[str]

  def options(self) -> Any:
    """As Beam takes them."""
    from apache_beam.options.pipeline_options import PipelineOptions

    # What the workers run is pickled by reference to modules, which they must have installed.
    return PipelineOptions(list(self.flags), save_main_session=False)

  def download_config(self) -> tfds.download.DownloadConfig:
    """As TFDS takes them."""
    return tfds.download.DownloadConfig(beam_options=self.options())


def run_of(options: Sequence[str]) -> BeamRun:
  """Checks options of a pipeline.

  Args:
    options: 'runner=DirectRunner', 'project=...', ..., as Beam names them, without dashes.

  Raises:
    UserError: if Beam is not installed, or an option has no value or no such name.
  """
  if importlib.util.find_spec("apache_beam") is None:
    raise UserError("--beam_options needs Apache Beam: pip install 'vidgen-jax[beam]'")
  for option in options:
    if "=" not in option or option.startswith("-"):
      raise UserError(f"--beam_options: write {option!r} as NAME=VALUE, without dashes")
  run = BeamRun(tuple(f"--{option}" for option in options))
  unknown = sorted(_unknown_names(run, options))
  if unknown:
    raise UserError(f"--beam_options: Beam has no option {', '.join(unknown)}")
  return run


def _unknown_names(run: BeamRun, options: Sequence[str]) -> set[str]:
  """Names that Beam does not know."""
  known = run.options().get_all_options()
  return {option.partition("=")[0] for option in options} - set(known)


def stage_all(decoder: Decoder, files: Sequence[SourceFile], run: BeamRun, *, folder: Path) -> list[Staged]:
  """Decodes every video that is not in the cache.

  Args:
    decoder: does it.
    files: the videos.
    run: how.
    folder: for files that are gone afterwards; seen by all workers.

  Returns:
    What became of each, in the order of `files`.
  """
  import apache_beam as beam

  told = folder / "beam"
  shutil.rmtree(told, ignore_errors=True)
  told.mkdir()
  with beam.Pipeline(options=run.options()) as pipeline:
    (
      pipeline
      | "Videos" >> beam.Create(list(enumerate(files)))
      | "Spread" >> beam.Reshuffle()
      | "Decode" >> beam.ParDo(_stage_fn(decoder))
      | "Tell" >> beam.io.WriteToText(str(told / "staged"), file_name_suffix=".jsonl")
    )
  results = {}
  for part in told.glob("*.jsonl"):
    for line in part.read_text().splitlines():
      index, cached, reason, facts = json.loads(line)
      facts = facts | {"cuts": tuple(facts["cuts"])} if facts else {}
      cached = None if cached is None else Path(cached)
      results[index] = Staged(file=files[index], cached=cached, reason=reason, facts=facts)
  shutil.rmtree(told)
  return [results[index] for index in range(len(files))]


def _stage_fn(decoder: Decoder) -> "apache_beam.DoFn":
  """(index, video) -> a line that says what became of it."""
  import apache_beam as beam

  class Stage(beam.DoFn):
    """A video that makes the decoder crash must not take Beam's worker along."""

    def setup(self):
      self._isolated = IsolatedDecoder(decoder)

    def process(self, element):
      index, file = element
      staged = self._isolated.stage(file)
      yield json.dumps([index, staged.cached and str(staged.cached), staged.reason, dict(staged.facts)])

    def teardown(self):
      self._isolated.__exit__()

  return Stage()


def examples(
  entries: Sequence[Staged], make_clips: Callable[[Staged], Iterable[tuple[str, building.Clip]]]
) -> "apache_beam.PTransform":
  """A transform that makes what TFDS writes: (unique key, example) of every clip.

  Args:
    entries: the videos.
    make_clips: makes the clips of one.
  """
  import apache_beam as beam

  def make(entry: Staged) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, clip in make_clips(entry):
      yield key, records.as_example(clip)

  return "Videos" >> beam.Create(list(entries)) | "Spread" >> beam.Reshuffle() | "Read" >> beam.FlatMap(make)
