"""Text files beside the packages, for people who build an app with them: a Makefile and a README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .apple_files import MERGES, TEXT_ENCODERS, UNET, UNET_CHUNKS, VAE_DECODER, VAE_ENCODER, VOCABULARY

MAKEFILE = f"""\
# On a Mac with Xcode: compiles the packages into Resources, which Apple's StableDiffusion package takes as it is.

PACKAGES := $(wildcard *.mlpackage)

Resources: $(PACKAGES:%.mlpackage=Resources/%.mlmodelc) Resources/{VOCABULARY} Resources/{MERGES}

Resources/%.mlmodelc: %.mlpackage
\tmkdir -p Resources
\txcrun coremlcompiler compile $< Resources

Resources/%: %
\tmkdir -p Resources
\tcp $< $@

.PHONY: Resources
"""

# A subject that the built-in model draws in one go.
EXAMPLE = "pig face"


def readme(facts: Mapping[str, Any], functions: Mapping[str, Sequence[str]], chunk: bool) -> str:
    """The README.md of an export, from the facts of its export.json.

    functions: for each package with more functions than `main`, their names. chunk: the UNet is in two packages.
    """
    xl = facts["xl"]
    size = f"{facts['width']} x {facts['height']}"
    side = max(facts["height"], facts["width"])
    configuration = "PipelineConfiguration" if xl else "StableDiffusionPipeline.Configuration"
    # Apple's package tells XL that pictures have 1024 by 1024 pixels unless these are set.
    sizes = f"request.originalSize = {side}\nrequest.targetSize = {side}\n" if xl else ""
    first, second = UNET_CHUNKS
    chunks = (
        f"\nThe UNet is in two packages, `{first}` and `{second}`, which Apple's package runs in turn.\n"
        if chunk
        else ""
    )
    return f"""\
# {facts["identifier"]} for Core ML

Made by {facts["converter_version"]} for {facts["system"]}. Its pictures have {size} pixels.

On a Mac with Xcode, `make` compiles the packages into `Resources`. Add that folder to an app that uses Apple's
package, https://github.com/apple/ml-stable-diffusion:

```swift
import CoreML
import StableDiffusion

let resources = Bundle.main.resourceURL!.appending(path: "Resources")
let configuration = MLModelConfiguration()
configuration.computeUnits = {_compute_units(facts)}
let pipeline = try {_pipeline_class(facts)}(
    resourcesAt: resources, {"" if xl else "controlNet: [], "}configuration: configuration, reduceMemory: true)
try pipeline.loadResources()

var request = {configuration}(prompt: "{facts["template"].replace("{prompt}", EXAMPLE)}")
request.stepCount = {facts["steps"]}
request.guidanceScale = {facts["guidance"]:g}
request.schedulerType = .dpmSolverMultistepScheduler
request.decoderScaleFactor = {facts["scaling_factor"]:g}
request.encoderScaleFactor = {facts["scaling_factor"]:g}
{sizes}let images = try pipeline.generateImages(configuration: request) {{ _ in true }}
```
{chunks}
Write every prompt in the form above, with spaces between words and punctuation and around every digit:
`flying pig , 3 d`, not `flying pig, 3d`; `a cat 's hat`, not `a cat's hat`. Apple's tokenizer splits a prompt at spaces
only, while the model was trained with CLIP's, which also splits at punctuation and digits. In another form the model
gets other tokens and draws another picture. Apple's tokenizer does not know letters outside of ASCII (`café`).

The UNet predicts epsilon at the timesteps of Apple's schedulers, whatever the original model predicts and whatever
noise schedule it was trained with, so the app has nothing to set for that. It has to set the two scale factors.
{_switching(facts, functions, chunk) if functions else ""}
`export.json` has the settings of this export, and the PSNR (in dB) of each package's outputs against the model's.
"""


def _compute_units(facts: Mapping[str, Any]) -> str:
    """Split einsum attention is for the Neural Engine, the original one for the GPU."""
    return ".cpuAndNeuralEngine" if facts["attention_implementation"] == "SPLIT_EINSUM" else ".cpuAndGPU"


def _pipeline_class(facts: Mapping[str, Any]) -> str:
    return "StableDiffusionXLPipeline" if facts["xl"] else "StableDiffusionPipeline"


def _switching(facts: Mapping[str, Any], functions: Mapping[str, Sequence[str]], chunk: bool) -> str:
    """How an app chooses a function. It makes each part of the pipeline itself, since only some have functions."""

    def configuration_of(package: str) -> str:
        return "chosen" if package in functions else "configuration"

    def url(package: str) -> str:
        return f'resources.appending(path: "{package}.mlmodelc")'

    xl = facts["xl"]
    swift_class, last = ("TextEncoderXL", "") if xl else ("TextEncoder", "controlNet: nil, safetyChecker: nil, ")
    first_encoder, second_encoder = TEXT_ENCODERS.values()
    encoders = [("textEncoder", first_encoder, "tokenizer")]
    encoders += [("textEncoder2", second_encoder, "tokenizer2")] if xl else []
    tokenizer_files = f"""\
    mergesAt: resources.appending(path: "{MERGES}"), vocabularyAt: resources.appending(path: "{VOCABULARY}")"""
    second_tokenizer = f"""let tokenizer2 = try BPETokenizer(\n{tokenizer_files},\n    padToken: "!")\n""" if xl else ""
    encoder_lines = "\n".join(
        f"let {name} = {swift_class}(\n    tokenizer: {tokenizer}, modelAt: {url(package)},\n"
        f"    configuration: {configuration_of(package)})"
        for name, package, tokenizer in encoders
    )
    unet_files = (
        f"chunksAt: [{', '.join(url(package) for package in UNET_CHUNKS)}]" if chunk else f"modelAt: {url(UNET)}"
    )
    encoder_arguments = ", ".join(f"{name}: {name}" for name, _, _ in encoders)
    refiner = "unetRefiner: nil, " if xl else ""
    names = ", ".join(f"`{name}`" for name in next(iter(functions.values())))
    packages = " and ".join(f"`{name}`" for name in functions)
    return f"""
{packages} have one function for each adapter, and `main`, the model without an adapter: {names}.
All functions of a package share the model's weights. On iOS 18 and later, make the pipeline from its parts and name a
function for those that have several:

```swift
let chosen = configuration.copy() as! MLModelConfiguration
chosen.functionName = "{next(iter(functions.values()))[-1]}"
let tokenizer = try BPETokenizer(
{tokenizer_files})
{second_tokenizer}{encoder_lines}
let unet = Unet(
    {unet_files},
    configuration: {configuration_of(UNET)})
let decoder = Decoder(modelAt: {url(VAE_DECODER)}, configuration: configuration)
let encoder = Encoder(modelAt: {url(VAE_ENCODER)}, configuration: configuration)
let pipeline = {_pipeline_class(facts)}(
    {encoder_arguments}, unet: unet, {refiner}decoder: decoder, encoder: encoder,
    {last}reduceMemory: true)
```
"""
