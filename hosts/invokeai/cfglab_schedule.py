"""A schedule of cfglab in InvokeAI: copy this folder into its folder `nodes`, and `pip install cfglab` beside it."""

from cfglab import Guidance, levels
from cfglab.errors import InputError
from cfglab.schedules import to_invokeai
from invokeai.invocation_api import BaseInvocation, FloatCollectionOutput, InputField, InvocationContext, invocation


@invocation(
    "cfglab_schedule", title="cfglab Schedule", tags=["cfg", "guidance", "schedule"], category="math", version="1.0.0"
)
class CfglabScheduleInvocation(BaseInvocation):
    """A guidance scale for each step, for the CFG Scale of a denoising node."""

    schedule: str = InputField(default="cosine(max=7.5, min=1, k=0.3)", description="The text of a schedule")
    steps: int = InputField(default=30, ge=1, description="The steps of the denoising node")
    path: str = InputField(default="sd", description="For a schedule in sigma: sd for SD and SDXL, flow for FLUX")

    def invoke(self, context: InvocationContext) -> FloatCollectionOutput:
        guidance = Guidance(self.schedule)
        if guidance.transforms:
            raise InputError(f"{guidance}: InvokeAI takes a scale for each step and no method; give a schedule alone.")
        reads = guidance.schedule.reads_sigma()
        sigmas = [float(step.sigma or 0) for step in levels(self.path, self.steps).steps] if reads else None
        values = to_invokeai(guidance.schedule, self.steps, sigmas)
        return FloatCollectionOutput(collection=[values] * self.steps if isinstance(values, float) else values)
