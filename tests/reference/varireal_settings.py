"""The numbers of docs/protocol.md, C1 and C2, and the arguments of every call of a pipeline.

Independent of varireal_utils. symbols: gs guidance scale, s strength, ip scale of the IP-Adapter.
"""

ARMS = ("feasible", "infeasible")
DATA_SETS = ("oxford_pets", "fgvc_aircraft", "stanford_cars")
_BACKGROUND = {  # gs, steps, s, width of the kernel
    "oxford_pets": (40, 30, 0.99, 120),
    "fgvc_aircraft": (7.5, 30, 0.95, 50),
    "stanford_cars": (7.5, 30, 0.90, 25),
}
_OBJECT = {  # gs, steps, s, alpha, ip
    ("oxford_pets", "color", "feasible"): (12, 20, 0.30, 0.30, 0.7),
    ("oxford_pets", "color", "infeasible"): (12, 20, 0.30, 0.50, 0.7),
    ("oxford_pets", "texture", "feasible"): (12, 20, 0.30, 0.50, 0.2),
    ("oxford_pets", "texture", "infeasible"): (12, 20, 0.30, 0.40, 0.5),
    ("fgvc_aircraft", "color", "feasible"): (12, 20, 0.80, 0.60, 0.4),
    ("fgvc_aircraft", "color", "infeasible"): (12, 20, 0.80, 0.65, 0.4),
    ("fgvc_aircraft", "texture", "feasible"): (8, 20, 0.65, 0.50, 0.65),
    ("fgvc_aircraft", "texture", "infeasible"): (8, 20, 0.30, 0.65, 0.4),
    ("stanford_cars", "color", "feasible"): (30, 20, 0.85, 0.60, 0.4),
    ("stanford_cars", "color", "infeasible"): (30, 20, 0.85, 0.60, 0.4),
    ("stanford_cars", "texture", "feasible"): (30, 20, 0.65, 0.65, 0.65),
    ("stanford_cars", "texture", "infeasible"): (8, 20, 0.30, 0.65, 0.4),
}
CELLS = [(d, a, arm) for d in DATA_SETS for a in ("background", "color", "texture") for arm in ARMS]
SIZE = {"height": 1024, "width": 1024}
PROMPT_WEIGHT = {"background": 1.2, "color": 1.3, "texture": 1.3}
PRIOR_STEPS = {"background": 20, "texture": 15}  # a colour draws no prior
WORD = {"oxford_pets": "pet", "fgvc_aircraft": "aircraft", "stanford_cars": "car"}
CLASSIFIER = {  # C2; lr: the SLURM script's
    "rank": 16,
    "alpha": 32,
    "dropout": 0.1,
    "lr": 1e-4,
    "weight_decay": 1e-4,
    "warmup": 0.1,
    "batch_size": 64,
    "steps": 46000,
    "eval_every": 460,
    "lambda_real": 0.5,
    "mix": None,
    "seeds": [22],
}


def kernel(dataset):
    """Width of the square that grows the object's mask on a new background."""
    return _BACKGROUND[dataset][3]


def alpha(dataset, attribute, arm):
    """Weight of a colour or surface over the photograph."""
    return _OBJECT[dataset, attribute, arm][3]


def ip_scale(dataset, attribute, arm):
    """Of the second stage."""
    return _OBJECT[dataset, attribute, arm][4]


def calls(dataset, attribute, arm):
    """(pipeline, arguments) of each call of one edit, in order; the pictures among them aside."""
    steps = {"num_inference_steps": PRIOR_STEPS.get(attribute)}
    prior = ("prior", SIZE | steps | {"guidance_scale": 7.5})
    if attribute == "background":
        gs, count, s, _ = _BACKGROUND[dataset]
    else:
        gs, count, s, *_ = _OBJECT[dataset, attribute, arm]
    more = {"guidance_scale": gs, "num_inference_steps": count, "strength": s}
    first = ("inpaint", SIZE | more)
    if attribute == "background":
        return [prior, first]
    second = {
        "guidance_scale": 7.5,
        "num_inference_steps": 25,
        "controlnet_conditioning_scale": 1.0,
    }
    refined = ("refine", SIZE | second)
    return [prior, first, refined] if attribute == "texture" else [first, refined]
