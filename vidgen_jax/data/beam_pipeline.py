"""Builds a data set with an Apache Beam pipeline, on a cluster or on this machine.

The workers share the folders of the source and of the data set with the machine that starts the build. The staging
cache is the same as in builds without Beam, so each kind of build can resume the other.
"""

import importlib.util
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidgen_jax.data.listing import SourceFile
from vidgen_jax.data.staging import Decoder, IsolatedDecoder, Staged
from vidgen_jax.errors import UserError

if TYPE_CHECKING:
  import apache_beam
  from apache_beam.options.pipeline_options import PipelineOptions

MakeClips = Callable[[Staged], Iterable[tuple[str, dict[str, Any]]]]


def parse_options(options: Sequence[str]) -> "PipelineOptions":
  """Parses options of a pipeline, 'runner=DirectRunner', 'project=...', without dashes.

  Raises:
    UserError: if Beam is not installed, or an option has no value or is unknown.
  """
  if importlib.util.find_spec("apache_beam") is None:
    raise UserError("--beam_options needs Apache Beam: pip install 'vidgen-jax[beam]'")
  from apache_beam.options.pipeline_options import PipelineOptions

  for option in options:
    if "=" not in option or option.startswith("-"):
      raise UserError(f"--beam_options: write {option!r} as NAME=VALUE, without dashes")
  # Workers unpickle functions by reference to this package, which they must have installed.
  parsed = PipelineOptions([f"--{option}" for option in options], save_main_session=False)
  unknown = sorted({option.partition("=")[0] for option in options} - set(parsed.get_all_options()))
  if unknown:
    raise UserError(f"--beam_options: Beam has no option {', '.join(unknown)}")
  return parsed


def stage_all(
  decoder: Decoder, files: Sequence[SourceFile], options: "PipelineOptions", *, folder: Path
) -> list[Staged]:
  """Decodes all videos that the cache lacks, as `staging.stage_all` does; all workers must see `folder`."""
  import apache_beam as beam

  output = folder / "beam"
  shutil.rmtree(output, ignore_errors=True)
  output.mkdir()
  with beam.Pipeline(options=options) as pipeline:
    (
      pipeline
      | "Videos" >> beam.Create(list(enumerate(files)))
      | "Spread" >> beam.Reshuffle()
      | "Decode" >> beam.ParDo(_stage_fn(decoder))
      | "Write" >> beam.io.WriteToText(str(output / "staged"), file_name_suffix=".jsonl")
    )
  results = {}
  for line in "".join(part.read_text() for part in output.glob("*.jsonl")).splitlines():
    index, cached, reason, facts = json.loads(line)
    results[index] = Staged(file=files[index], cached=cached and Path(cached), reason=reason, facts=facts)
  shutil.rmtree(output)
  return [results[index] for index in range(len(files))]


def _stage_fn(decoder: Decoder) -> "apache_beam.DoFn":
  """(index, video) -> JSON line with the fields of `Staged`."""
  import apache_beam as beam

  class Stage(beam.DoFn):
    """Decodes in a separate process: a crash of the decoder must not end Beam's worker."""

    def setup(self):
      self._isolated = IsolatedDecoder(decoder)

    def process(self, element):
      index, file = element
      staged = self._isolated.stage(file)
      yield json.dumps([index, staged.cached and str(staged.cached), staged.reason, dict(staged.facts)])

    def teardown(self):
      self._isolated.close()

  return Stage()


def examples(entries: Sequence[Staged], make_clips: MakeClips) -> "apache_beam.PTransform":
  """Creates a transform that yields (unique key, clip) for every clip of the videos, as `ClipDatasetBuilder` needs."""
  import apache_beam as beam

  return "Videos" >> beam.Create(list(entries)) | "Spread" >> beam.Reshuffle() | "Read" >> beam.FlatMap(make_clips)
