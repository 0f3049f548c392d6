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


def readme(facts: Mapping[str, Any], functions: Sequence[str]) -> str:
    """README.md of an export."""
    units = ".cpuAndNeuralEngine" if facts["attention_implementation"] == "SPLIT_EINSUM" else ".cpuAndGPU"
    pipeline = "StableDiffusionXLPipeline" if facts["xl"] else "StableDiffusionPipeline"
    configuration = "PipelineConfiguration" if facts["xl"] else "StableDiffusionPipeline.Configuration"
    switching = _FUNCTIONS.format(names=", ".join(f"`{name}`" for name in functions)) if functions else ""
    return f"""\
# {facts["identifier"]} for Core ML

Made by {facts["converter_version"]} for {facts["system"]}, pictures of {facts["width"]} x {facts["height"]} pixels.

On a Mac with Xcode, `make` compiles the packages into `Resources`. Add that folder to an app that uses Apple's
package, https://github.com/apple/ml-stable-diffusion:

```swift
import StableDiffusion

let configuration = MLModelConfiguration()
configuration.computeUnits = {units}
let pipeline = try {pipeline}(
    resourcesAt: resources, {"" if facts["xl"] else "controlNet: [], "}configuration: configuration, reduceMemory: true)
try pipeline.loadResources()

var wanted = {configuration}(prompt: "{facts["template"].replace("{prompt}", "flying pig")}")
wanted.stepCount = {facts["steps"]}
wanted.guidanceScale = {facts["guidance"]:g}
wanted.schedulerType = .dpmSolverMultistepScheduler
wanted.decoderScaleFactor = {facts["scaling_factor"]:g}
wanted.encoderScaleFactor = {facts["scaling_factor"]:g}
let images = try pipeline.generateImages(configuration: wanted) {{ _ in true }}
```

Write every prompt as this one is written: with spaces between words and punctuation, and around every digit.
`flying pig , 3 d`, not `flying pig, 3d`; `a cat 's hat`, not `a cat's hat`. Apple's tokenizer splits at spaces only;
CLIP's, which the model was trained with, splits there too: written otherwise, the model is told other words and draws
another picture. Letters that ASCII has not (`café`) Apple's tokenizer cannot spell at all.

The UNet predicts epsilon at the timesteps of Apple's schedulers, whatever the model itself predicts and whatever noise
it was trained with: no setting of the app's has to say so. The scale factors do have to be set.
{switching}
`export.json` says what was exported, and how far each package's answers are from the model's (PSNR in dB).
"""


_FUNCTIONS = """
`Unet.mlpackage` holds one function for each adapter beside `main`, the model without any: {names}. They share the
model's weights. On iOS 18 and later, choose one when the UNet is loaded:

```swift
configuration.functionName = "main"
```

Give that configuration to the UNet alone (and to the text encoder, if it has these functions too).
"""
