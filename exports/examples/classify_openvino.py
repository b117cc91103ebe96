"""Classify an image file with an exported ONNX or TFLite model, or a SavedModel, in OpenVINO.

pip install openvino numpy pillow
python classify_openvino.py MODEL IMAGE
"""

import sys

import numpy as np
import openvino
from PIL import Image

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]

if len(sys.argv) != 3:
    sys.exit(__doc__)
model, file = sys.argv[1:]

core = openvino.Core()
settings = {"INFERENCE_PRECISION_HINT": "f32"}  # else some processors compute in bfloat16
compiled = core.compile_model(core.read_model(model), "CPU", settings)

image = np.asarray(Image.open(file).convert("RGB").resize((32, 32)))  # uint8, (32, 32, 3)
probabilities = compiled([image[np.newaxis]])[0]

for index in np.argsort(-probabilities[0])[:3]:
    print(f"{CLASSES[index]:12} {probabilities[0, index]:.1%}")
