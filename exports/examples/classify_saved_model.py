"""Classify an image file with an exported SavedModel.

pip install tensorflow numpy pillow
python classify_saved_model.py MODEL.saved_model IMAGE
"""

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

if len(sys.argv) != 3:
    sys.exit(__doc__)
model, file = sys.argv[1:]

loaded = tf.saved_model.load(model)
classes = json.loads(json.loads(Path(model, "assets.extra", "cifar.json").read_text())["class_names"])

image = np.asarray(Image.open(file).convert("RGB").resize((32, 32)))  # uint8, (32, 32, 3)
outputs = loaded.signatures["serving_default"](image=tf.constant(image[np.newaxis]))
probabilities = outputs["probabilities"].numpy()

for index in np.argsort(-probabilities[0])[:3]:
    print(f"{classes[index]:12} {probabilities[0, index]:.1%}")
