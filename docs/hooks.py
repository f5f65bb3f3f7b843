"""Pages that MkDocs generates from the code: configuration, commands, metrics and the API reference."""

import dataclasses
import importlib
import inspect
import pkgutil
import types
import typing
from collections.abc import Iterator
from pathlib import Path

import griffe
from absl import flags
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import vidgen_jax
from vidgen_jax import cli
from vidgen_jax.gans import GANS
from vidgen_jax.runs.config import RESUME_OVERRIDABLE, ExperimentConfig
from vidgen_jax.scores.classifier.config import ClassifierConfig
from vidgen_jax.scores.metric import Need
from vidgen_jax.scores.metrics.preprocessing import FVD_PROTOCOLS
from vidgen_jax.scores.registry import METRICS

ROOT = Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True)
class ConfigField:
  """One field of an experiment's config.

  Attributes:
    name: dotted name, as in `--config.train.batch_size`.
    type: type as text.
    default: default as text; '' for a required field.
    meaning: description from the `Attributes:` section of the class; '' if it has none.
  """

  name: str
  type: str
  default: str
  meaning: str


def on_files(files: Files, config: MkDocsConfig) -> Files:
  """Adds the generated pages to the files and to the section `Reference` of the navigation."""
  pages = {
    "decisions.md": root_page("BUILD_NOTES.md"),
    "changelog.md": root_page("CHANGELOG.md"),
    "reference/configuration.md": configuration_page(),
    "reference/commands.md": commands_page(),
    **api_pages(),
  }
  for uri, text in pages.items():
    files.append(File.generated(config, uri, content=text))
  api = [uri for uri in pages if uri.startswith("reference/api/")]
  assert config.nav is not None
  reference = next(item for item in config.nav if "Reference" in item)
  reference["Reference"] = [
    {"Configuration": "reference/configuration.md"},
    {"Commands": "reference/commands.md"},
    {"API": [{Path(uri).stem: uri} for uri in api]},
  ]
  return files


def root_page(name: str) -> str:
  """A Markdown file from the top of the repository, with its links relative to docs/."""
  return (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
  """Replaces `{{ metrics }}` and `{{ fvd_protocols }}` by tables."""
  del page, config, files
  return markdown.replace("{{ metrics }}", metrics_table()).replace("{{ fvd_protocols }}", fvd_protocols_table())


def fvd_protocols_table() -> str:
  """What each protocol of FVD fixes, and who uses it."""
  heads = (
    "protocol",
    "resize to 224x224",
    "range",
    "window of real clips",
    "frames",
    "epsilon",
    "layer",
    "covariance /",
  )
  heads = (*heads, "used by")
  layer = "logits" if Need.LOGITS in METRICS["fvd"].needs else "features"
  rows = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
  for name, protocol in FVD_PROTOCOLS.items():
    fit = {"stretch": "stretched", "short_side": "short side, centre crop"}[protocol.fit]
    resize = f"{protocol.method.replace('_', ' ')}, {fit}"
    window, divisor = protocol.real_window or "any", "N - 1" if protocol.unbiased else "N"
    ends = [(value - protocol.mean[0]) / protocol.std[0] for value in (0, 1)]
    values = (resize, "[{:g}, {:g}]".format(*ends), window, f"{protocol.min_frames} or more", f"{protocol.epsilon:g}")
    cells = (f"`{name}`", *values, layer, divisor, protocol.used_by)
    rows.append("| " + " | ".join(_cell(text) for text in cells) + " |")
  return "\n".join(rows)


def metrics_table() -> str:
  """Every metric of the registry with its source, inputs and networks."""
  rows = ["| metric | measures | needs | networks | better | source |", "|---|---|---|---|---|---|"]
  directions = {True: "higher", False: "lower", None: ""}
  for metric in METRICS.values():
    name = f"`{metric.name}`" + (f", {metric.unit}" if metric.unit else "")
    networks = ", ".join(metric.networks)
    cells = (name, metric.description, "; ".join(metric.needs), networks, directions[metric.higher_is_better])
    rows.append("| " + " | ".join(_cell(text) for text in (*cells, metric.source)) + " |")
  return "\n".join(rows)


def configuration_page() -> str:
  """Every config field with type, default and meaning, one section per dataclass."""
  sections = [
    "# Configuration",
    "An experiment file returns a config with these fields. Every field can be set on the command line, for example "
    "`--config.train.batch_size=16`; an unknown name is an error. Fields marked *yes* may change when a run resumes.",
  ]
  for title, prefix, cls in config_classes():
    rows = ["| field | type | default | on resume | meaning |", "|---|---|---|---|---|"]
    for field in config_fields(cls, prefix):
      resumable = any(field.name == free or field.name.startswith(f"{free}.") for free in RESUME_OVERRIDABLE)
      cells = (f"`{field.name}`", f"`{field.type}`", f"`{field.default}`" if field.default else "required")
      rows.append("| " + " | ".join(_cell(text) for text in (*cells, "yes" if resumable else "", field.meaning)) + " |")
    sections += [f"## {title}", _summary(cls), "\n".join(rows)]
  return "\n\n".join(sections) + "\n"


def config_classes() -> Iterator[tuple[str, str, type]]:
  """(title, prefix of the dotted names, dataclass) of every part of a config, in the order of the page."""
  yield "ExperimentConfig", "", ExperimentConfig
  hints = typing.get_type_hints(ExperimentConfig)
  for field in dataclasses.fields(ExperimentConfig):
    if dataclasses.is_dataclass(hints[field.name]):
      yield hints[field.name].__name__, f"{field.name}.", hints[field.name]
  nested: dict[str, type] = {}
  for name, entry in GANS.items():
    (cls,) = [part for part in entry if dataclasses.is_dataclass(part) and part.__name__.endswith("Config")]
    yield f"{cls.__name__}: `algorithm_name='{name}'`", "algorithm.", cls
    parts = [hint for hint in typing.get_type_hints(cls).values() if dataclasses.is_dataclass(hint)]
    nested |= {part.__name__: part for part in parts}
  for name, cls in nested.items():
    yield f"{name}: `algorithm.*_optimizer`" if name == "AdamConfig" else name, "", cls
  yield "ClassifierConfig: `vidgen classify`", "", ClassifierConfig


def config_fields(cls: type, prefix: str = "") -> Iterator[ConfigField]:
  """The fields of a config dataclass, described by the `Attributes:` section of its docstring."""
  docstring = griffe.Docstring(inspect.getdoc(cls) or "")
  sections = docstring.parse("google", warnings=False)
  meanings = {
    attribute.name: attribute.description
    for section in sections
    if section.kind is griffe.DocstringSectionKind.attributes
    for attribute in section.value
  }
  hints = typing.get_type_hints(cls)
  for field in dataclasses.fields(cls):
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
      default = field.default_factory()
    text = "" if default is dataclasses.MISSING else _default_text(default)
    yield ConfigField(f"{prefix}{field.name}", _type_text(hints[field.name]), text, meanings.get(field.name, ""))


def commands_page() -> str:
  """The help of every command."""
  sections = ["# Commands", "`vidgen COMMAND --help` prints the same text."]
  for name, command in cli.COMMANDS.items():
    module = importlib.import_module(command.module)
    rows = ["| flag | type | default | meaning |", "|---|---|---|---|"]
    for flag in command_flags(name):
      kind = flag.flag_type().replace("string enum", "choice")
      default = "" if flag.default in (None, "", []) else f"`{flag.default}`"
      cells = (f"`--[no]{flag.name}`" if flag.boolean else f"`--{flag.name}`", kind, default, flag.help or "")
      rows.append("| " + " | ".join(_cell(text) for text in cells) + " |")
    usage = f"vidgen {name} {command.arguments}".rstrip()
    sections += [f"## {name}", f"```text\n{usage} [--flag=value ...]\n\n{module.SUMMARY.strip()}\n```", "\n".join(rows)]
  return "\n\n".join(sections) + "\n"


def command_flags(name: str) -> list[flags.Flag]:
  """The flags of one command, in the order of their definition."""
  flag_values = flags.FlagValues()
  importlib.import_module(cli.COMMANDS[name].module).define_flags(flag_values)
  return list(dict.fromkeys(flag_values[flag] for flag in flag_values))


def api_pages() -> dict[str, str]:
  """One page per folder of the package, with every public module in it."""
  folders: dict[str, list[str]] = {}
  for module in pkgutil.walk_packages(vidgen_jax.__path__, "vidgen_jax."):
    name = module.name.removeprefix("vidgen_jax.")
    if "__main__" in name or module.ispkg:
      continue
    parts = name.split(".")
    depth = 2 if parts[0] in ("gans", "scores") and len(parts) > 2 else 1
    folder = ".".join(parts[: min(depth, len(parts) - 1)]) or "vidgen_jax"
    folders.setdefault(folder, []).append(module.name)
  pages = {}
  for folder, modules in sorted(folders.items()):
    title = "vidgen_jax" if folder == "vidgen_jax" else f"vidgen_jax.{folder}"
    text = "\n\n".join(f"::: {module}" for module in modules)
    pages[f"reference/api/{folder}.md"] = f"# {title}\n\n{text}\n"
  return pages


def _summary(cls: type) -> str:
  """The docstring of a class without its `Attributes:` section."""
  return (inspect.getdoc(cls) or "").split("\n\nAttributes:")[0]


def _cell(text: str) -> str:
  return " ".join(text.split()).replace("|", "\\|")


def _type_text(hint: object) -> str:
  origin, options = typing.get_origin(hint), typing.get_args(hint)
  if origin is typing.Literal:
    return " | ".join(map(repr, options))
  if origin in (typing.Union, types.UnionType):
    return " | ".join(map(_type_text, options))
  if origin is tuple:
    return f"tuple[{', '.join('...' if option is ... else _type_text(option) for option in options)}]"
  if hint is type(None):
    return "None"
  return getattr(hint, "__name__", str(hint))


def _default_text(default: object) -> str:
  """A dataclass shows the fields that differ from its own defaults."""
  if not dataclasses.is_dataclass(default):
    return repr(default)
  shown = [
    f"{field.name}={getattr(default, field.name)!r}"
    for field in dataclasses.fields(default)
    if getattr(default, field.name) != field.default
  ]
  return f"{type(default).__name__}({', '.join(shown)})"
