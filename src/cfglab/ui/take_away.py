"""A guidance and the request around it in the forms in which people take it elsewhere."""

from cfglab.errors import InputError
from cfglab.guidance.guidance import parse_guidance
from cfglab.scenes import ARGUMENTS
from cfglab.ui.engine import MODEL_SAMPLER
from cfglab.ui.links import PageState, to_query
from cfglab.yaml_text import write_yaml

FORMS = ("Text", "Python", "JSON", "YAML", "ComfyUI", "Link")


def taken(form: str, state: PageState, model: str, address: str = "") -> str:
    """The state in one form.

    Args:
        form: one of FORMS.
        state: what is on the page.
        model: the model of the page.
        address: where the page is, for the link.

    Returns:
        The text. "Text" is the guidance as cfglab reads it everywhere, "ComfyUI" the same text for the `guidance` field
        of cfglab's node, "YAML" an experiment for `cfglab run`.

    Raises:
        InputError: the guidance cannot be read, or the form is unknown.
    """
    guidance = parse_guidance(state.guidance)
    match form:
        case "Text" | "ComfyUI":
            return str(guidance)
        case "JSON":
            return guidance.to_json()
        case "Python":
            return _python(str(guidance), state, model)
        case "YAML":
            return _yaml(str(guidance), state, model)
        case "Link":
            return address.partition("?")[0] + to_query(state)
    raise InputError(f"no form {form!r}: there are {', '.join(FORMS)}; name one.")


def _python(guidance: str, state: PageState, model: str) -> str:
    sampler = "" if state.sampler == MODEL_SAMPLER else f", sampler={state.sampler!r}"
    arguments = "".join(f"        {name}={value!r},\n" for name, value in ARGUMENTS.get(model, {}).items())
    return (
        "import cfglab\nimport torch\n\n"
        f"pipe = cfglab.load({model!r}{sampler})\n"
        f"with cfglab.guide(pipe, {guidance!r}) as trace:\n"
        f"    image = pipe(\n        {state.prompt!r},\n        num_inference_steps={state.steps},\n"
        f'        generator=torch.Generator("cpu").manual_seed({state.seed}),\n{arguments}    ).images[0]\n'
        'image.save("image.png")\nprint(trace.table())\n'
    )


def _yaml(guidance: str, state: PageState, model: str) -> str:
    document = {"name": "playground", "model": model, "prompts": [state.prompt], "seeds": state.seed}
    document |= {"steps": state.steps}
    if state.sampler != MODEL_SAMPLER:
        document["sampler"] = state.sampler
    document["baseline"] = {"name": "constant", "guidance": 7.5}
    document["settings"] = [{"name": "mine", "guidance": guidance}]
    return write_yaml(document)
