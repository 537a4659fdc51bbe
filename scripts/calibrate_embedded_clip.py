"""Write the tolerances of audits into the folder of the embedded model, measured on its samples.

Run again whenever the model, the evidence or the codecs change; a test compares the digest. Takes
about half a minute: `python scripts/calibrate_embedded_clip.py`.
"""

from edgepact.inference.calibration import calibrate
from edgepact.inference.models import embedded, samples
from edgepact.inference.pipeline import ModelInfo, preprocess
from edgepact.jobs.classification import digest_of, find_images


def main() -> None:
    """Measures, writes and tells."""
    model = embedded()
    info = ModelInfo.read(model)
    pixels = [preprocess(each.path.read_bytes(), info) for each in find_images(samples())]
    found = calibrate(model, model_digest=digest_of(model), pixels=pixels)
    found.write(model)
    for margin in found.margins:
        print(
            f"{margin.amount:2} {margin.codec}: {margin.honest:.1e} < {margin.tolerance:.1e} <"
            f" {margin.cheat:.1e} ({margin.cheat_name}), {margin.false_alarms} false alarms in"
            f" {margin.audits}, power {margin.power:g}"
        )
    print(f"repeats nearer than {found.repeat_distance}: {found.pairs_near} of {found.pairs} pairs")


if __name__ == "__main__":
    main()
