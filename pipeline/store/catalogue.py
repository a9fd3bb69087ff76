"""The published models that are known by name: what they are, whose licence they have, and where they come from.

Nothing of it is in this package. Sizes and SHA-256 are those that several who use a file have published; where nobody
does, they are None, and a store pins what it first gets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from operators.quality.metrics.names import ARCFACE, FID_INCEPTION, LPIPS_BACKBONE, LPIPS_HEADS
from pipeline.store.digest import combined
from pipeline.store.licences import NOT_STATED, is_noncommercial
from pipeline.store.record import Role


@dataclass(frozen=True)
class PublishedFile:
    """name: as published. url: None where it lies on a drive that programs cannot read. size: bytes."""

    name: str
    url: str | None = None
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Published:
    """A published model.

    architecture: as its loader calls it, which is what `recognise` finds. page: of its publisher. note: what else a
    user must know. settings: what its files do not say, see `Record`.
    """

    name: str
    role: Role
    architecture: str
    licence: str
    page: str
    files: tuple[PublishedFile, ...]
    note: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def noncommercial(self) -> bool:
        return is_noncommercial(self.licence)

    @property
    def size(self) -> int | None:
        """Bytes of all files; None unless all are known."""
        sizes = [file.size for file in self.files if file.size is not None]
        return sum(sizes) if len(sizes) == len(self.files) else None

    @property
    def sha256(self) -> str | None:
        """As `Record.sha256`; None unless that of every file is known."""
        known = [(file.name, file.sha256) for file in self.files if file.sha256 is not None]
        return combined(known) if len(known) == len(self.files) else None

    @property
    def can_be_pulled(self) -> bool:
        return all(file.url for file in self.files)


_GITHUB = "https://github.com"
_FACEXLIB = f"{_GITHUB}/xinntao/facexlib/releases/download"
_GFPGAN = f"{_GITHUB}/TencentARC/GFPGAN/releases/download"
_REALESRGAN = f"{_GITHUB}/xinntao/Real-ESRGAN/releases/download"
_DIFFBIR = "https://huggingface.co/lxq007/DiffBIR/resolve/main"
_CELEBAHQ = "hf://google/ddpm-celebahq-256"

_ADM = {"size": 256, "attention": "legacy", "schedule": "linear"}
"""What the publishers of the guided-diffusion priors say on the command lines of their READMEs."""

_DIFFACE = "its publisher's sources say that it was taken from DifFace, whose licence this is"
_EVALUATE = "for 'dr2e evaluate --weights', which takes the folder that 'dr2e models show' prints"
_STYLEGAN = "but for parts of the code, which its licence file lists: StyleGAN2 and DFDNet are noncommercial"

CATALOGUE = (
    Published(
        "ffhq_10m", "prior", "guided-diffusion", NOT_STATED, f"{_GITHUB}/jychoi118/ilvr_adm",
        (PublishedFile("ffhq_10m.pt"),), "the prior of ILVR; from a drive that its README links", _ADM,
    ),
    Published(
        "ffhq_p2", "prior", "guided-diffusion", NOT_STATED, f"{_GITHUB}/jychoi118/P2-weighting",
        (PublishedFile("ffhq_p2.pt"),), "P2-weighting; from a drive that its README links", _ADM,
    ),
    Published(
        "dr2_ffhq", "prior", "guided-diffusion", "MIT", f"{_GITHUB}/Kaldwin0106/DR2_Drgradation_Remover",
        (PublishedFile("DR2_FFHQ.pkl"),), "the prior of the paper; from a drive that its readme links", _ADM,
    ),
    Published(
        "ddpm-celebahq-256", "prior", "diffusers UNet2DModel", "Apache-2.0",
        "https://huggingface.co/google/ddpm-celebahq-256",
        tuple(
            PublishedFile(name, f"{_CELEBAHQ}/{name}")
            for name in ("config.json", "scheduler_config.json", "diffusion_pytorch_model.bin")
        ),
        "google/ddpm-celebahq-256 of the Hugging Face hub", {"size": 256, "max_timestep": 1000},
    ),
    Published(
        "sparnethd", "enhancer", "SPARNetHD", "CC-BY-NC-SA-4.0",
        f"{_GITHUB}/chaofengc/Face-SPARNet/releases/tag/v0.1.0",
        (PublishedFile("SPARNetHD_V4_Attn2D_net_H-epoch10.pth"),), "a release that its README links",
    ),
    Published(
        "vqfr-v1", "enhancer", "VQFR-v1", "Apache-2.0", f"{_GITHUB}/TencentARC/VQFR",
        (PublishedFile("VQFR_v1-33a1fac5.pth"),), "from a drive that its README links",
    ),
    Published(
        "vqfr-v2", "enhancer", "VQFR-v2", "Apache-2.0", f"{_GITHUB}/TencentARC/VQFR",
        (PublishedFile("VQFR_v2.pth", f"{_GITHUB}/TencentARC/VQFR/releases/download/v2.0.0/VQFR_v2.pth"),),
        "also on a drive that its README links",
    ),
    Published(
        "gfpgan-1.3", "enhancer", "GFPGAN", "Apache-2.0", f"{_GITHUB}/TencentARC/GFPGAN",
        (
            PublishedFile(
                "GFPGANv1.3.pth", f"{_GFPGAN}/v1.3.0/GFPGANv1.3.pth", 348632874,
                "c953a88f2727c85c3d9ae72e2bd4846bbaf59fe6972ad94130e23e7017524a70",
            ),
        ),
        _STYLEGAN,
    ),
    Published(
        "gfpgan-1.4", "enhancer", "GFPGAN", "Apache-2.0", f"{_GITHUB}/TencentARC/GFPGAN",
        (
            PublishedFile(
                "GFPGANv1.4.pth", f"{_GFPGAN}/v1.3.0/GFPGANv1.4.pth", 348632874,
                "e2cd4703ab14f4d01fd1383a8a8b266f9a5833dacee8e6a79d3bf21a1b6be5ad",
            ),
        ),
        _STYLEGAN,
    ),
    Published(
        "restoreformer", "enhancer", "RestoreFormer", "Apache-2.0", f"{_GITHUB}/wzhouxiff/RestoreFormer",
        (
            PublishedFile(
                "RestoreFormer.pth", f"{_GFPGAN}/v1.3.4/RestoreFormer.pth", 290785322,
                "07404d446d62ca3d5ed38b1de09a947a1e77d46dbccec961a74d713a8f24ace0",
            ),
        ),
        "as GFPGAN's releases have it",
    ),
    Published(
        "codeformer", "enhancer", "CodeFormer", "S-Lab-1.0", f"{_GITHUB}/sczhou/CodeFormer",
        (
            PublishedFile(
                "codeformer.pth", f"{_GITHUB}/sczhou/CodeFormer/releases/download/v0.1.0/codeformer.pth", 376637898,
                "1009e537e0c2a07d4cabce6355f53cb66767cd4b4297ec7a4a64ca4b8a5684b7",
            ),
        ),
    ),
    Published(
        "gpen-512", "enhancer", "GPEN", NOT_STATED, f"{_GITHUB}/yangxy/GPEN",
        (
            PublishedFile(
                "GPEN-BFR-512.pth",
                "https://public-vigen-video.oss-cn-shanghai.aliyuncs.com/robin/models/GPEN-BFR-512.pth", 284085738,
                "f1002c41add95b0decad69604d80455576f7187dd99ca16bd611bcfd44c10b51",
            ),
        ),
    ),
    Published(
        "swinir-face", "remover", "SwinIR", "S-Lab-1.0", f"{_GITHUB}/XPixelGroup/DiffBIR",
        (
            PublishedFile(
                "face_swinir_v1.ckpt", f"{_DIFFBIR}/face_swinir_v1.ckpt", 90204233,
                "62fb6605702e6ad35712299a23cc19ea7cd2fb4bbd50a8080fcefa8ad2620c71",
            ),
        ),
        _DIFFACE,
    ),
    Published(
        "swinir-general", "remover", "SwinIR", "Apache-2.0", f"{_GITHUB}/XPixelGroup/DiffBIR",
        (
            PublishedFile(
                "general_swinir_v1.ckpt", f"{_DIFFBIR}/general_swinir_v1.ckpt", 90208287,
                "577b8f84815d324e5ee17ef3c85d8bc9b7ebd05b20a6d61a5452b66e7e24dcaf",
            ),
        ),
    ),
    Published(
        "retinaface-resnet50", "detector", "RetinaFace ResNet-50", "MIT", f"{_GITHUB}/xinntao/facexlib",
        (
            PublishedFile(
                "detection_Resnet50_Final.pth", f"{_FACEXLIB}/v0.1.0/detection_Resnet50_Final.pth", 109497761,
                "6d1de9c2944f2ccddca5f5e010ea5ae64a39845a86311af6fdf30841b0a5a16d",
            ),
        ),
    ),
    Published(
        "retinaface-mobilenet", "detector", "RetinaFace MobileNet-0.25", "MIT", f"{_GITHUB}/xinntao/facexlib",
        (
            PublishedFile(
                "detection_mobilenet0.25_Final.pth", f"{_FACEXLIB}/v0.1.0/detection_mobilenet0.25_Final.pth", 1789735,
                "2979b33ffafda5d74b6948cd7a5b9a7a62f62b949cef24e95fd15d2883a65220",
            ),
        ),
    ),
    Published(
        "parsenet", "parser", "ParseNet", "MIT", f"{_GITHUB}/xinntao/facexlib",
        (
            PublishedFile(
                "parsing_parsenet.pth", f"{_FACEXLIB}/v0.2.2/parsing_parsenet.pth", 85331193,
                "3d558d8d0e42c20224f13cf5a29c79eba2d59913419f945545d8cf7b72920de2",
            ),
        ),
        "facexlib's licence; the network is that of PSFRGAN, see there as well",
    ),
    Published(
        "realesrgan-x2", "upscaler", "ESRGAN", "BSD-3-Clause", f"{_GITHUB}/xinntao/Real-ESRGAN",
        (
            PublishedFile(
                "RealESRGAN_x2plus.pth", f"{_REALESRGAN}/v0.2.1/RealESRGAN_x2plus.pth", 67061725,
                "49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb",
            ),
        ),
    ),
    Published(
        "realesrgan-x4", "upscaler", "ESRGAN", "BSD-3-Clause", f"{_GITHUB}/xinntao/Real-ESRGAN",
        (
            PublishedFile(
                "RealESRGAN_x4plus.pth", f"{_REALESRGAN}/v0.1.0/RealESRGAN_x4plus.pth", 67040989,
                "4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1",
            ),
        ),
    ),
    Published(
        "lpips", "metric", "LPIPS AlexNet", "BSD-2-Clause", f"{_GITHUB}/richzhang/PerceptualSimilarity",
        (
            PublishedFile(
                LPIPS_HEADS.name,
                f"https://huggingface.co/chaofengc/IQA-PyTorch-Weights/resolve/main/{LPIPS_HEADS.name}", None,
                "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
            ),
            PublishedFile(
                LPIPS_BACKBONE.name, f"https://download.pytorch.org/models/{LPIPS_BACKBONE.name}", 244408911,
                "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
            ),
        ),
        f"with torchvision's AlexNet (BSD-3-Clause, trained on ImageNet); {_EVALUATE}",
    ),
    Published(
        "inception", "metric", "Inception-v3", "Apache-2.0", f"{_GITHUB}/mseitzer/pytorch-fid",
        (
            PublishedFile(
                FID_INCEPTION.name,
                f"{_GITHUB}/mseitzer/pytorch-fid/releases/download/fid_weights/{FID_INCEPTION.name}", 95628359,
                "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
            ),
        ),
        f"what FID compares; trained on ImageNet; {_EVALUATE}",
    ),
    Published(
        "arcface", "metric", "ArcFace IR-SE-50", "MIT", f"{_GITHUB}/xinntao/facexlib",
        (
            PublishedFile(
                ARCFACE.name, f"{_FACEXLIB}/v0.1.0/{ARCFACE.name}", None,  # they do not agree
                "a035c768259b98ab1ce0e646312f48b9e1e218197a0f80ac6765e88f8b6ddf28",
            ),
        ),
        f"facexlib's; see there for its training data; {_EVALUATE}",
    ),
)  # fmt: skip
"""By role, as tables show them."""


def published(name: str) -> Published | None:
    """The model of this name, or of this name on the Hugging Face hub; None when none is known."""
    on_hub = f"https://huggingface.co/{name}"
    return next((model for model in CATALOGUE if name == model.name or on_hub == model.page), None)


def by_sha256(sha256: str) -> Published | None:
    """The model whose only file has this SHA-256; None when it is none that is known."""
    return next((model for model in CATALOGUE if len(model.files) == 1 and model.sha256 == sha256), None)


def by_part(sha256: str) -> Published | None:
    """The model of several files of which one has this SHA-256; None when it is none that is known."""
    several = (model for model in CATALOGUE if len(model.files) > 1)
    return next((model for model in several if any(file.sha256 == sha256 for file in model.files)), None)


def by_file_name(name: str) -> Published | None:
    """The model whose only file is published under this name, and no SHA-256 of it; None when there is none."""
    return next(
        (model for model in CATALOGUE if [(file.name, file.sha256) for file in model.files] == [(name, None)]), None
    )


def of_architecture(architecture: str) -> list[Published]:
    """The published models of an architecture."""
    return [model for model in CATALOGUE if model.architecture == architecture]


def licence_of_architecture(architecture: str) -> str | None:
    """The licence of weights of an architecture that is published under licences alone that forbid commercial use,
    whatever the bytes: a copy that was saved anew has others. None for other architectures."""
    models = of_architecture(architecture)
    return models[0].licence if models and all(model.noncommercial for model in models) else None
