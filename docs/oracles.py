"""What each method was compared with, and the largest difference: the table of docs/methods.md.

python -m docs.oracles      runs the tests that are named here and writes oracles.json
"""

import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

TESTS = Path(__file__).parents[1] / "tests"
MEASURED = Path(__file__).parent / "oracles.json"


@dataclass(frozen=True)
class Oracle:
    """What a method was compared with, and the tests that do so: a file of tests/, and names of functions in it."""

    what: str
    file: str
    tests: tuple[str, ...]
    equal: bool = False
    """Whether the tests compare lists with ==, where nothing can differ."""

    @property
    def nodes(self) -> list[str]:
        """The tests as pytest names them."""
        return [f"{TESTS.name}/{self.file}::{test}" for test in self.tests]


def _oracle(what: str, file: str, *tests: str) -> Oracle:
    return Oracle(what, f"{file}.py", tuple(f"test_{test}" for test in tests))


def _equal(what: str, file: str, *tests: str) -> Oracle:
    return replace(_oracle(what, file, *tests), equal=True)


WANG = _oracle("the six formulas of the paper", "schedules/test_published", "the_weight_schedulers_are_their_formulas")
CLAMPED = _oracle(
    "the listing of figure 1, and the formula", "schedules/test_published", "clamps_are_the_larger_of_two"
)
NORMS = (
    _oracle("its formula", "guidance/test_transforms", "norms_are_their_formulas_per_image"),
    _oracle("cf_guidance 0.0.3, in float32", "guidance/test_transforms", "norms_are_the_published_ones_for_one_image"),
)
SALIENCE = "guidance/test_salience"
SPARSE = "guidance/test_shuffled_and_sparse"
JOINT = "guidance/test_joint_attention"

ORACLES: dict[str, tuple[Oracle, ...]] = {
    # -- schedules ----------------------------------------------------------------------------------------------------
    "constant": (
        _oracle(
            "diffusers' line u + w (c - u)",
            "guidance/test_guidance",
            "plain_cfg_stays_in_the_pipelines_dtype_bit_for_bit",
        ),
    ),
    **dict.fromkeys(
        ("wang_linear", "wang_cosine", "wang_inverse_linear", "wang_sine", "wang_v", "wang_lambda"), (WANG,)
    ),
    **dict.fromkeys(("wang_clamp_linear", "wang_clamp_cosine"), (CLAMPED,)),
    "pcs": (_oracle("the formula of the paper", "schedules/test_published", "powered_cosine_is_inverted_k_decay"),),
    "limited_interval": (
        _equal(
            "the steps of the authors' command",
            "schedules/test_published",
            "limited_interval_guides_the_steps_of_the_authors_command",
        ),
    ),
    "cutoff": (
        _equal(
            "diffusers' cut-off callback, one step less",
            "schedules/test_published",
            "the_cutoff_callback_of_diffusers_guides_one_step_more",
        ),
    ),
    "cfg_skip": (
        _equal(
            "musubi-tuner's loop, written out",
            "schedules/test_skips_and_phases",
            "the_guided_steps_are_those_of_musubi_tuner",
        ),
    ),
    "phases": (
        _equal(
            "diffusers' rule for the two experts of Wan 2.2",
            "schedules/test_skips_and_phases",
            "two_phases_are_the_scales_of_the_two_experts_of_wan",
        ),
    ),
    "late_start": (
        _equal(
            "A1111's rule, but at a whole number of steps",
            "guidance/test_first_steps",
            "a_late_start_is_a1111s_but_at_a_whole_number_of_steps",
        ),
    ),
    "beta": (_oracle("scipy's density", "schedules/test_published", "beta_is_the_density"),),
    "c2fg": (
        _oracle("the formula of the paper", "schedules/test_published", "c2fg_is_the_exponential_of_the_paper_s_time"),
    ),
    "cfg_plus_plus": (
        _oracle(
            "algorithm 1 in DDIM and Euler, from the same noise to the end",
            "schedules/test_published_samplers",
            "the_schedule_is_cfg_plus_plus_to_machine_precision",
            "flow_matching_euler_from_pure_noise",
        ),
    ),
    **dict.fromkeys(
        ("cogvideox", "cogvideox_shipped"),
        (
            _oracle(
                "the authors' DynamicCFG, diffusers' line, and scales that users of it measured, to 4 digits",
                "schedules/test_published",
                "cogvideox_as_meant_and_as_it_runs",
            ),
        ),
    ),
    "ideogram4": (
        _equal(
            "the default of diffusers' signature", "schedules/test_published", "ideogram4_is_the_default_of_diffusers"
        ),
    ),
    # -- scales -------------------------------------------------------------------------------------------------------
    "magnitude_aware": (
        _oracle(
            "its formula, and diffusers' guider",
            "guidance/test_closed_loop",
            "magnitude_aware_is_diffusers_guider_in_the_models_space",
        ),
    ),
    "update_power": (
        _oracle(
            "its formula, and T-Norm where they are equal",
            "guidance/test_closed_loop",
            "the_power_norm_fixes_the_length_of_the_update_and_t_norm_is_its_relative",
        ),
    ),
    "feedback": (
        _oracle("the authors' recursion, written out", "guidance/test_closed_loop", "feedback_follows_its_posterior"),
    ),
    "adaptive": (
        _oracle(
            "its rule, written out",
            "guidance/test_closed_loop",
            "adaptive_guidance_drops_the_row_of_each_image_after_it_agrees",
        ),
    ),
    "reuse": (
        _oracle(
            "its rule, written out",
            "guidance/test_closed_loop",
            "reused_updates_run_the_unconditional_row_at_every_nth_step",
        ),
    ),
    "per_position": (
        _oracle(
            "its formula",
            "guidance/test_scale_maps",
            "every_position_has_its_own_scale",
            "a_small_map_is_one_of_blocks",
            "a_large_map_is_averaged_over_blocks",
        ),
    ),
    "per_frame": (
        _oracle("its formula", "guidance/test_scale_maps", "every_frame_has_its_own_scale"),
        _oracle(
            "diffusers' StableVideoDiffusionPipeline, in float32",
            "pipelines/test_several_scales",
            "frames_have_the_scales_of_stable_video_diffusion",
        ),
    ),
    "per_channel": (
        _oracle(
            "one scale for each part, bit for bit",
            "guidance/test_scale_maps",
            "where_the_map_is_1_or_0_the_numbers_are_those_of_the_scalar_to_the_bit",
        ),
    ),
    # -- lengths and limits -------------------------------------------------------------------------------------------
    **dict.fromkeys(("prediction_norm", "update_norm", "full_norm"), NORMS),
    "cfg_norm": (
        _oracle(
            "the lines of Qwen-Image, Lumina 2, Z-Image and ComfyUI (which adds 1e-8), and BaseNorm",
            "guidance/test_lengths",
            "the_family_has_base_norm",
            "the_family_has_comfyuis",
            "the_family_has_qwens_and_lumina_2s_last_dimension",
            "the_family_has_z_images",
        ),
    ),
    "rescale": (
        _oracle(
            "the formula, and diffusers' `rescale_noise_cfg`",
            "guidance/test_lengths",
            "rescale_is_section_3_4_and_diffusers",
        ),
    ),
    "imagen_threshold": (
        _oracle(
            "the formula, and diffusers' scheduler",
            "guidance/test_lengths",
            "imagen_threshold_is_its_formula",
            "imagen_threshold_of_diffusers_schedulers",
        ),
    ),
    "mimic_threshold": (
        _oracle("dynthres_core.py, written out", "guidance/test_lengths", "mimic_threshold_is_dynthres_core"),
    ),
    "skimmed": (_oracle("skimmed_CFG.py, written out", "guidance/test_values", "skimmed_is_the_single_scale_node"),),
    "mahiro": (_oracle("ComfyUI's node, written out", "guidance/test_values", "mahiro_is_comfyuis_of_one_image"),),
    # -- directions and frequencies -----------------------------------------------------------------------------------
    "apg": (
        _oracle(
            "algorithm 1; diffusers' guider; ComfyUI's node and stable-diffusion.cpp, written out",
            "guidance/test_projection",
            "apg_is_algorithm_1_on_x0",
            "apg_of_diffusers",
            "apg_of_comfyui_is_one_scale_more",
            "apg_of_an_edit_model_is_that_of_stable_diffusion_cpp",
            "the_soft_limit_is_that_of_stable_diffusion_cpp",
        ),
        _oracle("diffusers' AceStepPipeline, in float32", "pipelines/test_sound", "ace_step_in_its_own_words"),
    ),
    "cfg_zero_star": (
        _oracle(
            "the formula, and ComfyUI's node, written out",
            "guidance/test_projection",
            "zero_star_of_comfyui",
            "the_authors_count_their_zero_steps_from_zero",
        ),
        _oracle("diffusers' guider, in float32", "guidance/test_projection", "zero_star_is_its_formula_and_diffusers"),
    ),
    "tcfg": (
        _oracle("numpy's singular value decomposition", "guidance/test_projection", "tcfg_is_the_svd"),
        _oracle("diffusers' guider, in float32", "guidance/test_projection", "tcfg_of_diffusers"),
    ),
    "adg": (
        _oracle(
            "the authors' ADG_SD3, written out, its 3.14 and its weight given",
            "guidance/test_directions",
            "adg_is_the_authors_turn_of_the_clean_image",
            "adg_of_parallel_predictions_is_cfg_across_them",
        ),
    ),
    "nrs": (
        _oracle(
            "the authors' nodes_NRS.py, written out",
            "guidance/test_directions",
            "nrs_steers_every_position_in_v",
            "nrs_of_comfyui_is_in_the_space_that_its_node_computes",
        ),
    ),
    "tag": (
        _oracle(
            "algorithm 2 on the step of DDIM, and ComfyUI's form of it",
            "guidance/test_directions",
            "tag_amplifies_the_step_of_ddim_and_of_euler_across_the_sample",
            "tag_of_comfyui_is_on_the_clean_image",
        ),
    ),
    "fdg": (
        _oracle("the listing of the paper, written out", "guidance/test_frequency", "fdg_is_the_listing_of_the_paper"),
    ),
    "fresca": (
        _oracle(
            "the authors' filter, in numpy", "guidance/test_frequency", "fresca_is_the_authors_filter_of_the_update"
        ),
    ),
    "smc_cfg": (
        _oracle(
            "the authors' controller and ComfyUI's node, written out, over five steps",
            "guidance/test_history",
            "smc_cfg_is_the_authors_controller",
            "smc_cfg_of_comfyui_divides_by_the_length_of_each_image",
        ),
    ),
    "momentum": (_oracle("algorithm 1 over three steps", "guidance/test_values", "momentum_is_algorithm_1"),),
    "higs": (
        _oracle(
            "algorithms 2 and 3 with scipy's cosine transform, over five steps",
            "guidance/test_history",
            "higs_is_algorithms_2_and_3",
        ),
    ),
    "sg_prev": (
        _oracle(
            "the authors' loop, written out, over five steps",
            "guidance/test_history",
            "sg_prev_is_the_loop_of_the_authors_pipeline",
        ),
    ),
    "epsilon_scaling": (
        _oracle("ComfyUI's node, written out", "guidance/test_values", "epsilon_scaling_is_comfyuis_of_the_residual"),
    ),
    "tsr": (
        _oracle(
            "the two schedulers of the authors, and the exact score of normal data",
            "guidance/test_directions",
            "tsr_is_what_both_schedulers_of_the_authors_compute",
            "tsr_is_the_exact_score_of_normal_data_with_a_kth_of_the_variance",
        ),
    ),
    # -- several conditions -------------------------------------------------------------------------------------------
    "perp_neg": (
        _oracle(
            "its formula, and ComfyUI's node for one image",
            "guidance/test_prompts",
            "perp_neg_is_its_formula_image_by_image",
            "several_negative_prompts_add_up_against_one_p",
            "comfyuis_projection_sums_over_the_batch",
        ),
    ),
    "composed": (
        _oracle("its formula", "guidance/test_prompts", "composed_prompts_are_the_sum_of_their_updates"),
        _oracle(
            "other scales of plain guidance through a pipeline, in float32",
            "pipelines/test_further",
            "a_further_prompt_is_what_the_pipeline_makes_of_it",
        ),
    ),
    "and_salt": (
        _oracle(
            "cfg_denoiser_hijack.py, written out",
            SALIENCE,
            "and_salt_takes_the_more_salient_prompt_value_by_value",
        ),
    ),
    "and_topk": (_oracle("cfg_denoiser_hijack.py, written out", SALIENCE, "and_topk_adds_the_largest_values"),),
    "snf": (
        _oracle(
            "the node's fusion, with scipy's filter",
            SALIENCE,
            "snf_is_the_nodes_fusion_of_the_two_scaled_updates",
        ),
    ),
    "contrastive_cfg": (
        _oracle("the authors' solver, written out", SALIENCE, "contrastive_cfg_is_the_authors_solver"),
    ),
    "dng": (
        _oracle(
            "the authors' DDPM loop, written out, over four steps", SALIENCE, "dng_is_the_ddpm_loop_of_the_authors"
        ),
    ),
    "dual_cfg": (
        _oracle(
            "the lines of InstructPix2Pix and of ComfyUI's node",
            "guidance/test_prompts",
            "dual_cfg_is_instruct_pix2pix_and_comfyuis_node",
        ),
    ),
    "image_guidance": (
        _oracle(
            "diffusers' two InstructPix2Pix pipelines and OmniGenPipeline at the same scales, in float32",
            "pipelines/test_several_scales",
            "the_image_scale_is_that_of_the_untouched_pipeline",
            "the_image_scale_follows_a_schedule_beside_that_of_the_text",
        ),
    ),
    **dict.fromkeys(
        ("audio_guidance", "modality_guidance"),
        (
            _oracle(
                "diffusers' LTX2Pipeline at the same scales, in float32",
                "pipelines/test_with_sound",
                "the_scales_are_those_of_the_untouched_pipeline",
                "every_scale_follows_a_schedule",
            ),
        ),
    ),
    "nag": (
        _oracle(
            "the authors' processors for UNets, SD 3, Flux and Wan, written out",
            "guidance/test_attention_guidance",
            "nag_is_the_authors_processor",
            "nag_is_the_authors_processor_in_joint_attention",
            "nag_is_the_authors_processor_in_wan",
        ),
    ),
    "vsf": (
        _oracle(
            "the authors' processors for SD 3 and Wan, written out",
            "guidance/test_flipped_values",
            "vsf_is_the_authors_processor_for_stable_diffusion_3",
            "vsf_is_the_authors_processor_for_wan",
        ),
    ),
    "pladis": (
        _oracle(
            "a port of the authors' processor, with entmax by bisection, to 60 halvings",
            SPARSE,
            "pladis_is_the_authors_processor",
        ),
        _oracle(
            "joint attention written out",
            JOINT,
            "pladis_mixes_the_weights_of_the_image_for_the_text_and_keeps_their_sum",
        ),
    ),
    # -- weaker models ------------------------------------------------------------------------------------------------
    "autoguidance": (
        _oracle(
            "the line of NVlabs/edm2, and diffusers' guider",
            "guidance/test_worse",
            "autoguidance_alone_is_the_papers_extrapolation",
        ),
        _oracle("a second network in its place", "guidance/test_perturbed", "another_model_runs_instead"),
    ),
    "pag": (
        _oracle(
            "diffusers' processor for UNets", "guidance/test_perturbed", "identity_attention_is_diffusers_pag_processor"
        ),
        _oracle(
            "diffusers' processor for SD 3, its skip for Wan, joint attention written out",
            JOINT,
            "pag_is_diffusers_processor_for_stable_diffusion_3",
            "pag_on_wan_is_diffusers_own_skip_of_attention_scores",
            "pag_lets_the_image_see_itself_and_the_text",
        ),
        _oracle(
            "diffusers' guider", "guidance/test_worse", "with_cfg_the_guiders_are_the_formula_and_without_one_less"
        ),
    ),
    "seg": (
        _oracle(
            "scipy's Gaussian with the authors' kernel",
            "guidance/test_perturbed",
            "a_finite_blur_is_scipys_gaussian_of_the_authors_kernel",
            "an_infinite_blur_is_the_mean",
        ),
        _oracle("joint attention written out", JOINT, "seg_blurs_the_logits_over_the_image"),
    ),
    "sag": (
        _oracle(
            "equations 16 and 25, and ComfyUI's form",
            "guidance/test_self_attention",
            "sag_is_equations_16_and_25",
            "comfyuis_form_on_the_clean_picture_is_the_same",
        ),
        _oracle(
            "the degraded prediction of diffusers' StableDiffusionSAGPipeline, whose noise levels are float32",
            "guidance/test_self_attention",
            "the_degraded_prediction_is_diffusers",
        ),
    ),
    "tpg": (_oracle("the authors' blocks, written out, on the same orders", SPARSE, "tpg_is_the_authors_blocks"),),
    "swg": (
        _oracle(
            "the authors' forward_with_crop, written out",
            "pipelines/test_reruns",
            "swg_averages_the_predictions_for_crops_as_its_authors_do",
        ),
    ),
    "skip_layers": (
        _oracle(
            "networks without those layers: a UNet, and SD 3",
            "guidance/test_perturbed",
            "a_skipped_layer_is_a_unet_without_it",
            "a_skipped_block_of_stable_diffusion_3_is_a_network_without_it",
        ),
        _oracle("the same for Flux, Qwen-Image, Z-Image and Wan", JOINT, "a_skipped_block_is_a_network_without_it"),
        _oracle(
            "diffusers' guider", "guidance/test_worse", "with_cfg_the_guiders_are_the_formula_and_without_one_less"
        ),
    ),
    "s2": (
        _oracle("equation 4", "guidance/test_worse", "the_difference_from_the_worse_one_is_added"),
        _oracle(
            "networks without the blocks that were drawn",
            "guidance/test_perturbed",
            "random_blocks_are_a_share_drawn_at_every_step",
        ),
    ),
    "tsg": (
        _oracle("equation 8", "guidance/test_noisy_time", "tsg_is_equation_8_and_adds_to_cfg"),
        _oracle("the size of its noise", "guidance/test_noisy_time", "the_size_of_the_noise_follows_the_power_of_t"),
    ),
    "sg": (
        _oracle(
            "the authors' line, and the network called with their time",
            "pipelines/test_reruns",
            "sg_runs_the_network_ten_time_steps_later_and_not_after_1000",
        ),
    ),
    # -- noisy conditions ---------------------------------------------------------------------------------------------
    "icg": (
        _oracle(
            "the Gaussian embedding of appendix G, around the noise that was drawn",
            "guidance/test_noised",
            "icg_is_the_gaussian_embedding_of_the_paper",
        ),
    ),
    "cads": (
        _oracle(
            "the mixture and rescaling of section 4 around the noise that was drawn, v0xie/sd-webui-cads",
            "guidance/test_noised",
            "cads_is_the_papers_mixture_and_its_rescaling",
            "cads_clears_up_linearly",
        ),
    ),
}
"""Every method of docs/methods.md."""


class Differences:
    """The largest difference of each test that compares numbers: a plugin of pytest.

    A difference is that of two tensors, as a part of the largest value of the expected one; where 0 is expected it is
    the number itself. Comparisons that do not hold are those that a test expects not to.
    """

    def __init__(self) -> None:
        self.test = ""
        self.largest: dict[str, float] = defaultdict(float)
        self.failed: list[str] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed or (report.when == "call" and report.skipped):
            self.failed.append(report.nodeid)

    def pytest_runtest_setup(self, item: Any) -> None:
        self.test = re.sub(r"\[.*\]$", "", item.nodeid)

    def note(self, got: Any, expected: Any) -> None:
        """Keep the difference, if it is the largest one of this test."""
        values, others = (np.asarray(_array(one)) for one in (got, expected))
        if not np.issubdtype(others.dtype, np.number) or not others.size:
            return
        size = float(np.abs(others).max()) or 1.0
        self.largest[self.test] = max(
            self.largest[self.test],
            float(np.abs(values.astype(float) - others.astype(float)).max()) / size,
        )

    @contextmanager
    def recording(self) -> Iterator[None]:
        """What compares numbers tells their difference, inside."""
        import pytest
        import torch

        plugin, approx, equal = self, pytest.approx, torch.equal
        closes = {torch.testing: torch.testing.assert_close, np.testing: np.testing.assert_allclose}

        class Noted:
            def __init__(self, expected: Any, *args: Any, **kwargs: Any) -> None:
                self.expected, self.approx = expected, approx(expected, *args, **kwargs)

            def __eq__(self, actual: object) -> bool:
                holds = bool(self.approx == actual)
                if holds:
                    plugin.note(actual, self.expected)
                return holds

            __hash__ = None  # type: ignore[assignment]

        def noting(compare: Any) -> Any:
            def compared(got: Any, expected: Any, *args: Any, **kwargs: Any) -> Any:
                result = compare(got, expected, *args, **kwargs)
                if result is not False and Path(sys._getframe(1).f_code.co_filename).is_relative_to(TESTS):
                    plugin.note(got, expected)
                return result

            return compared

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pytest, "approx", Noted)
            patch.setattr(torch, "equal", noting(equal))
            for module, compare in closes.items():
                patch.setattr(module, compare.__name__, noting(compare))
            yield


def _array(value: Any) -> Any:
    """A tensor as an array; numpy has no bfloat16."""
    if not hasattr(value, "detach"):
        return value
    return (value.detach().float() if value.element_size() == 2 else value.detach()).numpy()


def measured() -> dict[str, list[float]]:
    """Method -> the largest difference from each of its oracles, as the command wrote them."""
    loaded: dict[str, list[float]] = json.loads(MEASURED.read_text(encoding="utf-8"))
    return loaded


def main() -> None:
    """Run the tests and write what they measure.

    Raises:
        SystemExit: A test failed or was skipped.
    """
    import pytest

    nodes = sorted({node for oracles in ORACLES.values() for oracle in oracles for node in oracle.nodes})
    plugin = Differences()
    with plugin.recording():
        code = pytest.main(["-q", "--no-header", "-p", "no:cacheprovider", *nodes], plugins=[plugin])
    if code or plugin.failed:
        raise SystemExit(f"not measured: {plugin.failed}")
    silent = [
        node
        for group in ORACLES.values()
        for one in group
        if not one.equal
        for node in one.nodes
        if node not in plugin.largest
    ]
    if silent:
        raise SystemExit(f"they compare no numbers: {silent}")
    found = {
        name: [
            0.0 if oracle.equal else float(f"{max(plugin.largest[node] for node in oracle.nodes):.1e}")
            for oracle in oracles
        ]
        for name, oracles in ORACLES.items()
    }
    MEASURED.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{MEASURED}: {len(nodes)} tests of {len(found)} methods")


if __name__ == "__main__":
    main()
