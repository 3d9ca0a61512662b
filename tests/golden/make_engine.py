"""Make the engine whose codes are pinned: `python make_engine.py`, from shipped nano_vit.

Calibration runs in floats, whose last bit may differ between machines, so the compiled integers are
kept: from here on every machine must give the same codes. Prints the digest of the test's logits.
"""

import hashlib
from pathlib import Path

import refvit

model = refvit.load("nano_vit")
normalise = model.preprocess.normalise
calibration = normalise(refvit.data.shapes10("calibration", 128)[0])
engine = refvit.compile(refvit.quantize(model, calibration))
engine.save(Path(__file__).with_name("nano_vit_w8a8.safetensors"))
logits = engine(normalise(refvit.data.shapes10("test", 12)[0]))
print(hashlib.sha256(logits.astype("<i4").tobytes()).hexdigest())
