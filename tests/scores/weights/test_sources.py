"""The table of published weights, and what messages say about them."""

import re
import subprocess
import sys
import textwrap

import pytest

from vidgen_jax import cli
from vidgen_jax.errors import UserError
from vidgen_jax.scores.weights.naming import IMPORTABLE
from vidgen_jax.scores.weights.sources import SOURCES, find_source, how_to_get, listing, source_of_file

FILES = [file for source in SOURCES for file in filter(None, (*source.files, source.mean, source.heads))]


def test_every_network_can_be_fetched():
  assert {source.network for source in SOURCES} == {*IMPORTABLE}
  names = [source.name for source in SOURCES]
  assert len(set(names)) == len(names)
  assert [find_source(name).name for name in names] == names


def test_recorded_hashes_are_those_of_their_addresses():
  for file in FILES:
    if "github.com" in file.url and "/raw/" in file.url:
      # A commit, not a branch, and Git's hash of the file in it.
      assert re.search(r"/raw/[0-9a-f]{40}/", file.url), file
      assert re.fullmatch(r"[0-9a-f]{40}", file.git_blob_sha1), file
    elif file.sha256:
      assert file.name.endswith(f"-{file.sha256[:8]}.pth"), file
    else:
      assert file.expected_hash == "", file
  assert source_of_file("93daef59c7ae0e9e8f76225521407e60cbafa6aa") == find_source("i3d_torchscript")
  assert source_of_file("") is None


def test_the_list_shows_every_file_and_command(capsys):
  assert cli.dispatch(["weights", "list"]) == 0
  shown = capsys.readouterr().out
  assert shown == listing()
  for source in SOURCES:
    assert f"\n  import  {source.import_command()}\n" in shown
  for file in FILES:
    assert (file.url or file.name) in shown
    assert file.expected_hash in shown


@pytest.mark.parametrize(
  ("path", "network", "expected"),
  [
    (
      "a/i3d.safetensors",
      "",
      "`vidgen weights fetch i3d --out=a/i3d.safetensors` downloads and imports model.ckpt.data",
    ),
    ("a/my_i3d_torchscript.safetensors", "", "fetch i3d_torchscript --out=a/my_i3d_torchscript.safetensors"),
    ("flow.safetensors", "pwc_net", "imports pwc_net.pth.tar of https://github.com/NVlabs/PWC-Net (git blob 27da4cc9"),
    ("i3d.safetensors", "pwc_net", "fetch pwc_net --out=i3d.safetensors"),
    (
      "c3d.safetensors",
      "",
      "(hash not recorded); by hand: vidgen weights import --network=c3d --from=conv3d_deepnetA_u",
    ),
    ("x.safetensors", "", "`vidgen weights list` says where weights are published"),
  ],
)
def test_missing_weights(path, network, expected):
  assert expected in how_to_get(path, network=network)


@pytest.mark.parametrize(("name", "hint"), [("i3dd", r"; did you mean i3d\?"), ("nothing", ";")])
def test_unknown_names(name, hint):
  with pytest.raises(UserError, match=rf"^no published weights are called '{name}'{hint} `.* shows i3d, i3d_to"):
    find_source(name)


def test_the_list_and_mistakes_import_no_jax():
  code = """
    import sys
    from vidgen_jax import cli
    mistakes = [["fetch", "i3dd"], ["show", "--out=x"], ["import", "--network=i3d", "--from=http://x", "--out=y"]]
    assert [cli.dispatch(["weights", *words]) for words in (["list"], *mistakes)] == [0, 2, 2, 2]
    sys.exit(len({"jax", "flax", "tensorflow", "torch", "scipy"} & set(sys.modules)))
  """
  words = [sys.executable, "-c", textwrap.dedent(code)]
  assert subprocess.run(words, capture_output=True, check=False).returncode == 0
