"""Classify an image file with an exported TFLite model.

pip install ai-edge-litert numpy pillow
python classify_tflite.py MODEL.tflite IMAGE
"""

import json
import sys
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

if len(sys.argv) != 3:
    sys.exit(__doc__)
model, file = sys.argv[1:]

content = schema.ModelT.InitFromPackedBuf(Path(model).read_bytes(), 0)
buffer = next(entry.buffer for entry in content.metadata if entry.name == b"cifar.json")
classes = json.loads(json.loads(bytes(content.buffers[buffer].data))["class_names"])
classify = Interpreter(model).get_signature_runner("serving_default")

image = np.asarray(Image.open(file).convert("RGB").resize((32, 32)))  # uint8, (32, 32, 3)
probabilities = classify(image=image[np.newaxis])["probabilities"]

for index in np.argsort(-probabilities[0])[:3]:
    print(f"{classes[index]:12} {probabilities[0, index]:.1%}")
