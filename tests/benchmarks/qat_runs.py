"""What benchmarks of quantization-aware training share: options, and a training of one way."""

import argparse

import refvit
from refvit.quant import Learnable
from refvit.sources import Shapes10, pixels_of
from refvit.train import Student, train
from refvit.train_inputs import teacher_of
from refvit.train_recipe import TrainRecipe, read_recipe


def options(about, recipe):
    """Return what the command line says, `recipe` being where it says nothing of one."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--model", default="nano_vit")
    parser.add_argument("--recipe", default=recipe)
    parser.add_argument("--images", type=int, default=64_000, help="that each training sees")
    parser.add_argument("--count", type=int, default=10_000, help="test images")
    args = parser.parse_args()
    print(f"{args.model}, {args.recipe}, {args.images:,} images; of {args.count:,} test images")
    return args


def trained(args, method, table):
    """Return the model that `method` makes by the recipe `table`, and what training makes of it."""
    model = refvit.load(args.model)
    about = read_recipe("qat") | {"start": args.model, "qat": args.recipe, "images": args.images}
    recipe = TrainRecipe(**about)
    teacher, _ = teacher_of(recipe, model.config, model)
    start = Learnable(
        method(model, pixels_of(model.preprocess, Shapes10().calibration(256)), table)
    )
    student = Student(model.config, start.tensors, start.tap, model.preprocess)
    tensors = train(recipe, None, Shapes10(), teacher, student=student)
    return start.start, start.settled(dict(tensors.items()))
