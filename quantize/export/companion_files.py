"""What lies beside the packages for whoever takes them into an app."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MAKEFILE = """\
# On a Mac with Xcode: compiles the packages into Resources, which Apple's StableDiffusion package takes as it is.

PACKAGES := $(wildcard *.mlpackage)

Resources: $(PACKAGES:%.mlpackage=Resources/%.mlmodelc) Resources/vocab.json Resources/merges.txt

Resources/%.mlmodelc: %.mlpackage
\tmkdir -p Resources
\txcrun coremlcompiler compile $< Resources

Resources/%: %
\tmkdir -p Resources
\tcp $< $@

.PHONY: Resources
"""


def readme(facts: Mapping[str, Any], functions: Mapping[str, Sequence[str]], chunk: bool) -> str:
    """README.md of an export. functions: of each package that has some beside `main`, their names."""
    xl = facts["xl"]
    side = max(facts["height"], facts["width"])
    configuration = "PipelineConfiguration" if xl else "StableDiffusionPipeline.Configuration"
    # Apple's package tells XL 1024 by 1024 unless it is told otherwise.
    sizes = f"wanted.originalSize = {side}\nwanted.targetSize = {side}\n" if xl else ""
    chunks = (
        "\nThe UNet is in two packages, `UnetChunk1` and `UnetChunk2`, which Apple's package runs one after the other\n"
        "when both are in `Resources`.\n"
        if chunk
        else ""
    )
    return f"""\
# {facts["identifier"]} for Core ML

Made by {facts["converter_version"]} for {facts["system"]}, pictures of {facts["width"]} x {facts["height"]} pixels.

On a Mac with Xcode, `make` compiles the packages into `Resources`. Add that folder to an app that uses Apple's
package, https://github.com/apple/ml-stable-diffusion:

```swift
import CoreML
import StableDiffusion

let resources = Bundle.main.resourceURL!.appending(path: "Resources")
let configuration = MLModelConfiguration()
configuration.computeUnits = {_units(facts)}
let pipeline = try {_pipeline(facts)}(
    resourcesAt: resources, {"" if xl else "controlNet: [], "}configuration: configuration, reduceMemory: true)
try pipeline.loadResources()

var wanted = {configuration}(prompt: "{facts["template"].replace("{prompt}", "flying pig")}")
wanted.stepCount = {facts["steps"]}
wanted.guidanceScale = {facts["guidance"]:g}
wanted.schedulerType = .dpmSolverMultistepScheduler
wanted.decoderScaleFactor = {facts["scaling_factor"]:g}
wanted.encoderScaleFactor = {facts["scaling_factor"]:g}
{sizes}let images = try pipeline.generateImages(configuration: wanted) {{ _ in true }}
```
{chunks}
Write every prompt as this one is written: with spaces between words and punctuation, and around every digit.
`flying pig , 3 d`, not `flying pig, 3d`; `a cat 's hat`, not `a cat's hat`. Apple's tokenizer splits at spaces only;
CLIP's, which the model was trained with, splits there too: written otherwise, the model is told other words and draws
another picture. Letters that ASCII has not (`café`) Apple's tokenizer cannot spell at all.

The UNet predicts epsilon at the timesteps of Apple's schedulers, whatever the model itself predicts and whatever noise
it was trained with: no setting of the app's has to say so. The scale factors do have to be set.
{_switching(facts, functions, chunk) if functions else ""}
`export.json` says what was exported, and how far each package's answers are from the model's (PSNR in dB).
"""


def _units(facts: Mapping[str, Any]) -> str:
    return ".cpuAndNeuralEngine" if facts["attention_implementation"] == "SPLIT_EINSUM" else ".cpuAndGPU"


def _pipeline(facts: Mapping[str, Any]) -> str:
    return "StableDiffusionXLPipeline" if facts["xl"] else "StableDiffusionPipeline"


def _switching(facts: Mapping[str, Any], functions: Mapping[str, Sequence[str]], chunk: bool) -> str:
    """How an app chooses one of several functions: each part of a pipeline by itself, since only some have any."""

    def of(package: str) -> str:
        return "chosen" if package in functions else "configuration"

    def url(package: str) -> str:
        return f'resources.appending(path: "{package}.mlmodelc")'

    kind, last = ("TextEncoderXL", "") if facts["xl"] else ("TextEncoder", "controlNet: nil, safetyChecker: nil, ")
    encoders = [("textEncoder", "TextEncoder", "tokenizer")]
    encoders += [("textEncoder2", "TextEncoder2", "tokenizer2")] if facts["xl"] else []
    second = (
        """let tokenizer2 = try BPETokenizer(
    mergesAt: resources.appending(path: "merges.txt"), vocabularyAt: resources.appending(path: "vocab.json"),
    padToken: "!")
"""
        if facts["xl"]
        else ""
    )
    made = "\n".join(
        f"let {name} = {kind}(\n    tokenizer: {tokenizer}, modelAt: {url(package)},\n    configuration: {of(package)})"
        for name, package, tokenizer in encoders
    )
    whole = f"modelAt: {url('Unet')}"
    halves = f"chunksAt: [{url('UnetChunk1')}, {url('UnetChunk2')}]"
    told = ", ".join(f"{name}: {name}" for name, _, _ in encoders)
    refiner = "unetRefiner: nil, " if facts["xl"] else ""
    names = ", ".join(f"`{name}`" for name in next(iter(functions.values())))
    packages = " and ".join(f"`{name}`" for name in functions)
    return f"""
One function for each adapter, and `main`, the model without any, are in {packages}: {names}.
They share the model's weights. On iOS 18 and later, make the pipeline of its parts and name a function where there are
some:

```swift
let chosen = configuration.copy() as! MLModelConfiguration
chosen.functionName = "{next(iter(functions.values()))[-1]}"
let tokenizer = try BPETokenizer(
    mergesAt: resources.appending(path: "merges.txt"), vocabularyAt: resources.appending(path: "vocab.json"))
{second}{made}
let unet = Unet(
    {halves if chunk else whole},
    configuration: {of("Unet")})
let decoder = Decoder(modelAt: {url("VAEDecoder")}, configuration: configuration)
let encoder = Encoder(modelAt: {url("VAEEncoder")}, configuration: configuration)
let pipeline = {_pipeline(facts)}(
    {told}, unet: unet, {refiner}decoder: decoder, encoder: encoder,
    {last}reduceMemory: true)
```
"""
