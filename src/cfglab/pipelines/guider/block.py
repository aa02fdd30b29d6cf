"""A Modular block whose input is a guidance: for graphs of blocks, such as Mellon's nodes."""

from typing import Any

from cfglab.errors import InputError
from cfglab.guidance import Guidance
from cfglab.pipelines.guider.guider import to_guider
from cfglab.pipelines.loading.quiet import quiet

with quiet():
    from diffusers import ModularPipelineBlocks
    from diffusers.guiders import BaseGuidance
    from diffusers.modular_pipelines import InputParam


class GuidanceBlock(ModularPipelineBlocks):  # type: ignore[misc]
    """Sets the guider of a Modular pipeline from its input `guidance`; without that input the guider stays.

    Put it before the first block that asks the guider.

    Examples:
        blocks.sub_blocks.insert("guidance", cfglab.GuidanceBlock(), 0)
        pipe = blocks.init_pipeline("stabilityai/stable-diffusion-xl-base-1.0")
        pipe(prompt="a red fox", guidance="cosine(max=7.5, min=1) | apg()")
    """

    @property
    def description(self) -> str:
        """What the block does, for the documentation of a pipeline."""
        return "Sets the guider: a guidance scale as a schedule over the steps, and transforms of the prediction."

    @property
    def inputs(self) -> list[Any]:
        """The input `guidance`: text, a number, a schedule or a Guidance, or a list with one of these per image."""
        text = "The guidance, for example cosine(max=7.5, min=1) | apg(); None keeps the guider of the pipeline."
        return [InputParam("guidance", type_hint=str | float | list | Guidance, default=None, description=text)]

    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        """Set every guider of the pipeline to one new guider.

        Args:
            components: The Modular pipeline.
            state: Its PipelineState.

        Returns:
            Both, as diffusers expects it.

        Raises:
            InputError: The guidance cannot be read, or the pipeline has no guider.
        """
        block_state = self.get_block_state(state)
        if block_state.guidance is not None:
            names = [name for name, part in components.components.items() if isinstance(part, BaseGuidance)]
            if not names:
                raise InputError(
                    f"{type(components).__name__}: has no guider that a guidance could replace; "
                    "leave out the input guidance."
                )
            components.update_components(**dict.fromkeys(names, to_guider(block_state.guidance)))
        self.set_block_state(state, block_state)
        return components, state
